"""The frames of one socket: only those that Reflex's client sends, at a limited rate, until the socket is cut.

Without this, Reflex takes any packet of Engine.IO and Socket.IO: binary ones with up to 10^10 announced attachments,
further connections on the same socket, answers to pings that were not sent. The module is longer than 200 lines because
receiving, sending and pinging share the state of one socket.
"""

import asyncio
import re
from asyncio import Future, Lock, Timeout
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from starlette.types import Message, Receive, Send

from azure_auth import bounds
from azure_auth.auth.gate.pacing import Outgoing, Paces

_PING, _PONG = "2", "3"
_CONNECT, _DISCONNECT = "40/_event,{", "41/_event,"
_EVENT = re.compile(r'42/_event,\["(?:event|client_error)", ?\{')
_GONE: Message = {"type": "websocket.disconnect", "code": 1012}


class Frames:
    """Stands between the server and Engine.IO, for one socket."""

    def __init__(
        self, receive: Receive, send: Send, cut: "Future[None]", paces: Paces, on_odd: Callable[[], None]
    ) -> None:
        """Stand in front of a socket of the server, until `cut` is done, whether the client agrees or not.

        `paces` say when the next message may be read. The first frame that no page sends calls `on_odd`, and ends the
        socket.
        """
        self.outgoing: Outgoing | None = None
        """What Engine.IO has not sent yet; None before the socket is connected."""
        self._receive, self._send, self._cut = receive, send, cut
        self._paces, self._on_odd = paces, on_odd
        self._coming: Future[Message] | None = None
        self._turn = Lock()
        self._ahead: deque[Message] = deque()
        """What was read ahead to find an answer, and Engine.IO has not received yet."""
        self._held: Message | None = None
        self._admission: Future[None] | None = None
        self._size = 0
        self._connected = self._over = False
        self._pings: deque[Future[None] | None] = deque()
        """Pings without an answer, in the order in which they were sent: a future for ours, None for Engine.IO's."""
        self._answered = 0
        """How many of Engine.IO's pings were answered here, before the client's answer came."""
        self._unseen = 0
        """Characters sent since the last answer to a ping."""
        self._sending: Timeout | None = None
        cut.add_done_callback(lambda _: self._stop())

    async def receive(self) -> Message:
        """Return what Engine.IO receives next: the end of the socket, as soon as it is cut."""
        if not self._cut.done():
            reading = asyncio.ensure_future(self._next())
            try:
                await asyncio.wait({reading, self._cut}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                reading.cancel()
                raise
            if reading.done():
                return reading.result()
            reading.cancel()
        return _GONE

    async def send(self, message: Message) -> None:
        """Send a message; cut a client that does not read, or has left.

        Raises:
            ConnectionError: When the socket is over.
        """
        text = message.get("text") or ""
        if text == _PING:
            self._pings.append(None)
        if self._unseen > bounds.OUTGOING_CHARACTERS and message["type"] == "websocket.send":
            self._end()
            raise ConnectionError
        try:
            limit = 1.0 if self._cut.done() else bounds.SEND_SECONDS + len(text) / bounds.SLOWEST_CHARACTERS
            async with asyncio.timeout(limit) as self._sending:
                await self._send(message)
                self._unseen += len(text)
                if self._unseen > bounds.UNREAD_CHARACTERS and not any(self._pings):
                    await self._ask()
        except Exception as broken:  # whatever the server raises when the client has left
            self._end()
            if message["type"] != "websocket.close":
                raise ConnectionError from broken
        finally:
            self._sending = None
            if self.outgoing:
                self.outgoing.sent(len(text))

    def hold(self, work: "Future[Any]") -> None:
        """Count the last message as waiting until `work` is done."""
        for pace in self._paces.of(self._size):
            work.add_done_callback(pace.hold(self._size))

    async def answers(self, seconds: float) -> bool:
        """Ping the client; tell whether it answers in that time.

        Messages that it sent before the answer are read ahead, as far as there is room.
        """
        if self._over or self._cut.done():
            return False
        asked, most = next(filter(None, self._pings), None), bounds.SOCKET
        try:
            async with asyncio.timeout(seconds):
                if asked is None:
                    asked = await self._ask()
                while not (asked.done() or self._over or self._cut.done()):
                    async with self._turn:
                        if asked.done() or self._over:
                            break
                        if len(self._ahead) >= most.waiting or _size(self._ahead) >= most.waiting_characters:
                            return self._unseen <= bounds.UNREAD_CHARACTERS  # it is there, but may not read
                        message = await self._incoming()
                        if message is not None:
                            self._ahead.append(message)
        except Exception:  # it took too long, or left
            return False
        return asked.done() and not self._over

    @property
    def is_sending(self) -> bool:
        """Whether the client is still receiving a message; its answer to a ping comes after that."""
        return self._sending is not None

    async def _ask(self) -> "Future[None]":
        asked: Future[None] = asyncio.get_running_loop().create_future()
        self._pings.append(asked)
        await self._send({"type": "websocket.send", "text": _PING})
        return asked

    async def _next(self) -> Message:
        while self._held is None:
            async with self._turn:
                message = self._ahead.popleft() if self._ahead else await self._incoming()
            if message is None:
                continue
            text = message.get("text")
            if message["type"] != "websocket.receive" or text == _PONG:
                return message
            if text == _DISCONNECT and self._connected:
                return {"type": "websocket.disconnect", "code": 1000}
            if not isinstance(text, str) or len(text) > bounds.FRAME_CHARACTERS or not self._is_expected(text):
                self._on_odd()
                self._end()
                return _GONE
            self._held, self._size = message, len(text)
        return await self._admitted(self._held)

    async def _admitted(self, message: Message) -> Message:
        """Return a message as soon as it may be read. While it waits, answer Engine.IO's pings.

        The client's own answer comes after the messages that wait.
        """
        self._admission = self._admission or asyncio.ensure_future(self._admit())
        while not self._admission.done():
            await asyncio.wait({self._admission}, timeout=1.0)
            if self._pings.count(None) > self._answered and not self._admission.done():
                self._answered += 1
                return {"type": "websocket.receive", "text": _PONG}
        self._admission = self._held = None
        return message

    async def _admit(self) -> None:
        if self.outgoing:
            await self.outgoing.drained()
        # A server that cannot send does not say so. What was sent before an answered ping was read.
        if self._unseen > bounds.UNREAD_CHARACTERS and not await self.answers(bounds.SEND_SECONDS):
            self._end()
        for pace in self._paces.of(self._size):
            await pace.admit(self._size)

    async def _incoming(self) -> Message | None:
        """Return what the server receives next; None for an answer to a ping of ours."""
        coming = self._coming = self._coming or asyncio.ensure_future(self._receive())
        try:
            message = await asyncio.shield(coming)  # a waiter that is cancelled leaves it to the next
        except asyncio.CancelledError:
            if coming.cancelled():  # the socket was cut
                return _GONE
            raise
        self._coming = None
        if message.get("text") == _PONG and self._pings:
            asked, self._unseen = self._pings.popleft(), 0
            if asked:
                asked.set_result(None)
                return None
            self._answered -= (is_late := self._answered > 0)
            return None if is_late else message
        if message.get("text") == _PONG:
            return {"type": "websocket.receive", "text": ""}  # no ping was sent: no page does that
        self._over = message["type"] == "websocket.disconnect" or message.get("text") == _DISCONNECT
        return message

    def _is_expected(self, text: str) -> bool:
        if text.startswith(_CONNECT):
            first, self._connected = not self._connected, True
            return first
        return self._connected and _EVENT.match(text) is not None

    def _end(self) -> None:
        if not self._cut.done():
            self._cut.set_result(None)

    def _stop(self) -> None:
        for work in (self._coming, self._admission):
            if work:
                work.cancel()
        if self._sending:
            self._sending.reschedule(asyncio.get_running_loop().time() + 1.0)


def _size(messages: Iterable[Message]) -> int:
    return sum(len(message.get("text") or "") for message in messages)
