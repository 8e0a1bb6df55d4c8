"""The frames of one socket: those that Reflex's client sends, no faster than they may be read, and until it is cut.

Reflex takes any packet of Engine.IO and Socket.IO: binary ones with up to 10^10 announced attachments, further
connections on the same socket, answers to pings that nobody sent.
"""

import asyncio
import re
from asyncio import Future, Timeout
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import Message, Receive, Send

from azure_auth.auth.limits import Pace
from azure_auth.bounds import FRAME_CHARACTERS, SEND_SECONDS

_PING, _PONG = "2", "3"
_CONNECT, _DISCONNECT = "40/_event,{", "41/_event,"
_EVENT = re.compile(r'42/_event,\["(?:event|client_error)", ?\{')
_GONE: Message = {"type": "websocket.disconnect", "code": 1012}


class Frames:
    """Stands between the server and Engine.IO, for one socket.

    Attributes:
        size: The characters of the frame that was passed on last.
    """

    def __init__(
        self, receive: Receive, send: Send, cut: "Future[None]", paces: Sequence[Pace], on_odd: Callable[[], None]
    ) -> None:
        """Stand in front of a socket.

        Args:
            receive: Of the server.
            send: Of the server.
            cut: When this is done, the socket is over, whether its client agrees or not.
            paces: Say when the next message may be read.
            on_odd: Called with the first frame that no page sends; it ends the socket.
        """
        self.size = 0
        self._receive, self._send, self._cut = receive, send, cut
        self._paces, self._on_odd = paces, on_odd
        self._connected = False
        self._pings = 0
        """Engine.IO's own that were not answered yet."""
        self._asked: Future[None] | None = None
        self._reading = self._over = False
        self._sending: Timeout | None = None
        cut.add_done_callback(lambda _: self._hurry())

    async def receive(self) -> Message:
        """Return what Engine.IO receives next; as soon as the socket is cut, that is its end."""
        if not self._cut.done():
            reading = asyncio.ensure_future(self._next())
            try:
                await asyncio.wait({reading, self._cut}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                reading.cancel()
                raise
            if reading.done():
                message = reading.result()
                self._over = message["type"] == "websocket.disconnect"
                return message
            reading.cancel()
        return _GONE

    async def send(self, message: Message) -> None:
        """Send; a client that does not read what it is sent is cut.

        Raises:
            ConnectionError: When the socket is over.
        """
        if message.get("text") == _PING:
            self._pings += 1
        try:
            async with asyncio.timeout(1.0 if self._cut.done() else SEND_SECONDS) as self._sending:
                await self._send(message)
        except TimeoutError:
            self._end()
            if message["type"] != "websocket.close":
                raise ConnectionError from None
        finally:
            self._sending = None

    def hold(self, work: "Future[Any]") -> None:
        """Count the last message as waiting until `work` is done."""
        for pace in self._paces:
            work.add_done_callback(pace.hold(self.size))

    async def answers(self, seconds: float) -> bool:
        """Ask the client for a sign of life; tell whether it came in that time."""
        if self._cut.done() or self._over:
            return False
        if not self._reading:  # something that it just sent is worked on, or waits, and its answer would come behind
            return True
        is_first, asked = self._asked is None, self._asked or asyncio.get_running_loop().create_future()
        self._asked = asked
        try:
            async with asyncio.timeout(seconds):
                if is_first:
                    await self._send({"type": "websocket.send", "text": _PING})
                await asyncio.wait({asked, self._cut}, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, RuntimeError):  # it took too long, or left
            return False
        return asked.done()

    async def _next(self) -> Message:
        while True:
            self._reading = True
            message = await self._receive()
            self._reading = False
            if message["type"] != "websocket.receive":
                return message
            text = message.get("text")
            if text == _PONG and self._asked and not self._asked.done():
                self._asked.set_result(None)
                self._asked = None
                continue
            if text == _DISCONNECT and self._connected:
                return {"type": "websocket.disconnect", "code": 1000}
            if not isinstance(text, str) or len(text) > FRAME_CHARACTERS or not self._is_expected(text):
                self._on_odd()
                self._end()
                return _GONE
            for pace in self._paces:
                await pace.admit(len(text))
            self.size = len(text)
            return message

    def _is_expected(self, text: str) -> bool:
        if text == _PONG:
            self._pings -= 1
            return self._pings >= 0
        if text.startswith(_CONNECT):
            first, self._connected = not self._connected, True
            return first
        return self._connected and _EVENT.match(text) is not None

    def _end(self) -> None:
        if not self._cut.done():
            self._cut.set_result(None)

    def _hurry(self) -> None:
        if self._sending:
            self._sending.reschedule(asyncio.get_running_loop().time() + 1.0)
