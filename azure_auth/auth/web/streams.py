"""The requests and websockets of sessions, while they are answered. An endless answer ends with its session."""

import asyncio
from asyncio import Task
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth.auth.sessions.session import Held, Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.web.refusals import SIGN_IN_FIRST


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
