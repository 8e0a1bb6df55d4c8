"""The requests and websockets of sessions, while they are answered. An endless answer ends with its session."""

import asyncio
from asyncio import Task
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azure_auth.auth.sessions.session import Held, Session
from azure_auth.auth.sessions.sessions import Sessions


@dataclass(eq=False, slots=True, repr=False)
class Stream:
    """A request of a session, while it is answered.

    Attributes:
        session: The session.
        handle: The hash of the cookie value that the request came with.
        task: The task that answers it.
        endless: Whether the answer's length is unknown, so that it may never end.
        cut: Whether it was stopped from here.
    """

    session: Session
    handle: str
    task: "Task[Any]"
    endless: bool = False
    cut: bool = False


class Streams:
    """The requests that this process is answering."""

    def __init__(self, sessions: Sessions) -> None:
        """Stop the endless answers of each session of `sessions` that ends, or whose cookie value expires."""
        self._sessions = sessions
        self._by_session: defaultdict[str, set[Stream]] = defaultdict(set)
        sessions.on_end.append(self._stop)
        sessions.on_outdated.append(self._stop)

    @contextmanager
    def answering(self, held: Held) -> Generator[Stream]:
        """Know of a request while the current task answers it."""
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
        """Stop an endless answer if its session has ended, or its cookie value has expired."""
        if stream.endless and not stream.cut and not self._sessions.admits(stream.session, stream.handle):
            stream.cut = True
            stream.task.cancel()

    def _stop(self, session: Session) -> None:
        for stream in list(self._by_session.get(session.reference, ())):
            self.stop_if_over(stream)
