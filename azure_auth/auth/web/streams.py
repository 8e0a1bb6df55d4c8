"""Requests and websockets while they are answered. Endless answers end with their session or their client."""

import asyncio
from asyncio import Task
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from azure_auth.auth.sessions.session import Held, Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.web.refusals import SIGN_IN_FIRST
from azure_auth.bounds import GONE_SECONDS, MESSAGE_CHARACTERS, MESSAGES_AHEAD, SEND_SECONDS


@dataclass(eq=False, slots=True, repr=False)
class Stream:
    """A request of a session, while it is answered.

    Attributes:
        handle: The hash of the cookie value that the request came with.
        endless: Whether the answer's length is unknown, so that it may never end.
        cut: Whether `Streams` has stopped it.
    """

    session: Session
    handle: str
    task: "Task[Any]"
    endless: bool = False
    cut: bool = False


class Streams:
    """The requests that this process is answering."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._by_session: defaultdict[str, set[Stream]] = defaultdict(set)
        sessions.on_end.append(self._stop)
        sessions.on_outdated.append(self._stop)

    async def answer(self, app: ASGIApp, held: Held, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app` for a session, until the session ends or its cookie value expires.

        An answer that begins after that is refused. One that has begun and declares its length is sent in full; an
        endless one, such as a websocket, is cut.
        """
        has_begun, is_websocket = False, scope["type"] == "websocket"
        with self.answering(held) as stream:

            async def send_on(message: Message) -> None:
                nonlocal has_begun
                if message["type"] == "http.response.start":
                    self.stop_if_over(stream)
                    stream.endless = "content-length" not in Headers(raw=message["headers"])
                if stream.cut:
                    raise OSError("the session is over")
                has_begun = True
                await send(message)

            try:
                if is_websocket:
                    stream.endless = True
                    self.stop_if_over(stream)
                await app(scope, receive, send_on)
                if stream.cut:
                    await asyncio.sleep(0)  # the cancellation may still be on its way
            except (asyncio.CancelledError, OSError):
                if not stream.cut:
                    raise
                stream.task.uncancel()
            if stream.cut and is_websocket:
                with suppress(Exception):  # the server may have closed it already
                    await send({"type": "websocket.close", "code": 1008})
            elif stream.cut and not has_begun:
                await SIGN_IN_FIRST(scope, receive, send)

    @contextmanager
    def answering(self, held: Held) -> Generator[Stream]:
        """Register a request while the current task answers it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered in a task")
        stream, reference = Stream(held.session, held.handle, task), held.session.reference
        self._by_session[reference].add(stream)
        try:
            yield stream
        finally:
            self._by_session[reference].discard(stream)
            if not self._by_session[reference]:
                del self._by_session[reference]

    def stop_if_over(self, stream: Stream) -> None:
        """Stop an answer if its session has ended, or its cookie value has expired."""
        if not stream.cut and not self._sessions.admits(stream.session, stream.handle):
            stream.cut = True
            stream.task.cancel()

    def _stop(self, session: Session) -> None:
        for stream in list(self._by_session.get(session.reference, ())):
            if stream.endless:
                self.stop_if_over(stream)


class Conversation:
    """One websocket: lets an endpoint speak with a client, until either of them is gone.

    Messages are read ahead, so it is noticed when the client has left.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ahead: asyncio.Queue[Message] = asyncio.Queue(MESSAGES_AHEAD)
        self._gone: Message | None = None
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the websocket.

        Some servers (Granian) do not tell a handler that only sends or waits that its client has left, so it is
        cancelled a moment later. The same happens if messages are too long, or if the handler does not take them.
        """
        reader = asyncio.create_task(self._read(receive, send))
        handler = asyncio.create_task(self._handle(scope, send))
        try:
            await asyncio.wait({reader, handler}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({handler}, timeout=GONE_SECONDS)
        finally:
            self._is_over = True
            reader.cancel()
            handler.cancel()  # one that swallows this goes on, but can send nothing any more
        with suppress(asyncio.CancelledError):
            await asyncio.wait({handler}, timeout=GONE_SECONDS)
        if handler.done() and not handler.cancelled():
            handler.result()

    async def _handle(self, scope: Scope, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if self._is_over or (self._gone and message["type"] == "websocket.send"):
                # Starlette makes a `WebSocketDisconnect` of it (ASGI, "Disconnected client").
                raise OSError("the websocket is closed")
            if not self._gone:
                await send(message)

        try:
            await self._app(scope, self._receive, send_on)
        except WebSocketDisconnect:  # a client that leaves is no error, and fills no log
            pass
        except OSError:
            if not (self._is_over or self._gone):
                raise

    async def _receive(self) -> Message:
        """Return the next message; after the last one, the disconnect again and again."""
        return self._gone if self._gone and self._ahead.empty() else await self._ahead.get()

    async def _read(self, receive: Receive, send: Send) -> None:
        """Read until the client has left, or is made to leave."""
        while (message := await receive())["type"] != "websocket.disconnect":
            is_short = len(message.get("text") or message.get("bytes") or "") <= MESSAGE_CHARACTERS
            if is_short:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._ahead.put(message)
                    continue
            code = 1008 if is_short else 1009
            await send({"type": "websocket.close", "code": code})
            message = {"type": "websocket.disconnect", "code": code}
            break
        self._gone = message
        with suppress(asyncio.QueueFull):
            self._ahead.put_nowait(message)
