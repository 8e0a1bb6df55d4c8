"""The audit trail: one JSON line for each security event. It observes, never decides, and holds no token.

A line has the version of its form, the time, the event and what is known of: `person` (tenant and object id),
`address`, `failure` (the code of an error), its `detail` and `reference`, `reason`. Lines go through a bounded queue to
a thread of their own, so a slow or broken sink stops nobody; the next line that gets through counts what was lost.
"""

import json
import logging
import queue
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal, TextIO

from azure_auth.logs import clean, cut

VERSION = 1
_WAITING_LINES = 10_000
_ENDING_SECONDS = 1.0
_log = logging.getLogger("azure_auth.audit")
_log.setLevel(logging.INFO)

Event = Literal["started", "succeeded", "failed", "signed_out", "refused", "limited", "suspicious"]


def record(event: Event, *, person: tuple[str, str] | None = None, **known: str) -> None:
    """Note a security event.

    Args:
        event: What happened.
        person: Tenant id and object id of whom it is about, once that is proven.
        known: What else is known; never a token, code, cookie, claim set, name or e-mail address, and cleaned of them.
    """
    line: dict[str, Any] = {"v": VERSION, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
    if person:
        line["person"] = {"tid": person[0], "oid": person[1]}
    line |= {name: clean(cut(value)) for name, value in known.items() if value}
    _log.info("%s", json.dumps(line))


@contextmanager
def writing(sink: TextIO) -> Generator[None]:
    """Write the trail to a stream for a while; without it, it goes where the log goes."""
    lines = _Bounded(queue.Queue(_WAITING_LINES))
    stream = _Stream(sink, lines)
    listener = _Listener(lines.queue, stream)
    _log.addHandler(lines)
    _log.propagate = False
    listener.start()
    try:
        yield
    finally:
        _log.removeHandler(lines)
        _log.propagate = True
        listener.stop()


class _Listener(QueueListener):
    """Writes what waits, at the end as well; a sink that takes nothing any more holds the end up for a moment only."""

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread:
            with suppress(queue.Full):
                self.enqueue_sentinel()
            thread.join(_ENDING_SECONDS)


class _Bounded(QueueHandler):
    """Drops and counts what finds no room."""

    lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.count(1)

    def count(self, lines: int) -> None:
        """Count lines that were lost, or take off those that have been told of."""
        self.acquire()
        self.lost += lines
        self.release()


class _Stream(logging.StreamHandler[TextIO]):
    """Counts what could not be written, and says so with the next line that can."""

    def __init__(self, sink: TextIO, lines: _Bounded) -> None:
        super().__init__(sink)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        line, lost = record.getMessage(), self._lines.lost
        if lost:
            line = json.dumps({**json.loads(line), "lost": lost})
        try:
            self.stream.write(line + self.terminator)
            self.flush()
        except (OSError, ValueError):
            self._lines.count(1)
        else:
            self._lines.count(-lost)  # more may have been lost meanwhile
