"""The audit trail: one JSON line for each security event. It only observes, and contains no token.

A line has the version of its format, the time and the event. It may have `person` (tenant and object id), `address`,
`failure` (an error's code), its `detail`, `reference` and `advice`, `reason`, `handler` and `page`.

A thread writes the lines from a bounded queue, so a slow or broken sink blocks nothing. Anonymous clients can cause any
number of events. So each minute only the first lines of a kind (event, reason and handler) are written; a later line
gives the number of the others (`repeats`). Lines that were dropped because the queue was full or the sink failed are
counted in the next line (`lost`).
"""

import json
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal, cast

from azure_auth.audit_output import Sink, output
from azure_auth.bounds import AUDIT_BYTES, AUDIT_LINES, AUDIT_REPEATS, AUDIT_REPEATS_ELSEWHERE
from azure_auth.logs import clean, cut

__all__ = ["Event", "Sink", "output", "record", "writing"]

VERSION = 1
_ENDING_SECONDS, _MINUTE = 1.0, 60.0
_ROOM = 64
"""Bytes of a line that are reserved for its counts."""
_log = logging.getLogger("azure_auth.audit")
_log.setLevel(logging.INFO)

Event = Literal["started", "succeeded", "failed", "signed_out", "refused", "limited", "suspicious"]
_ALWAYS: set[str] = {"succeeded", "signed_out"}
"""Events that only a signed-in person can cause; every one is written."""


def record(event: Event, *, person: tuple[str, str] | None = None, **known: str) -> None:
    """Record a security event; `person` is the proven tenant id and object id of the person concerned.

    Callers pass no token, code, cookie, claim set, name or e-mail address; values are redacted all the same.
    """
    line = _new_line(event)
    if person:
        line["person"] = {"tid": person[0], "oid": person[1]}
    line |= {name: clean(cut(value)) for name, value in known.items() if value}
    kind = event, known.get("reason") or known.get("failure", ""), known.get("handler", "")
    _log.info("%s", _shortened(line), extra={"kind": kind, "address": known.get("address", "")})


def _new_line(event: str) -> dict[str, Any]:
    return {"v": VERSION, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}


def _shortened(line: dict[str, Any]) -> str:
    """Return the line as JSON that fits into one write; the longest texts are cut."""
    while len(text := json.dumps(line)) > AUDIT_BYTES - _ROOM:
        longest = max((name for name in line if isinstance(line[name], str)), key=lambda name: len(line[name]))
        line[longest] = line[longest][: len(line[longest]) // 2].removesuffix("…") + "…"
    return text


@contextmanager
def writing(sink: Sink, clock: Callable[[], float] = time.monotonic) -> Generator[None]:
    """Write the trail to a sink. Outside this context it goes to the log. `clock` returns seconds."""
    lines = _BoundedQueue(queue.Queue(), clock)
    listener = _Listener(lines.queue, _Writer(sink, lines))
    _log.addHandler(lines)
    _log.propagate = False
    listener.start()
    try:
        yield
    finally:
        _log.removeHandler(lines)
        _log.propagate = True
        lines.write_repeats()
        listener.stop()


class _Listener(QueueListener):
    """Runs the writing thread. The end of the app waits for it `_ENDING_SECONDS` at most, as a sink may hang."""

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread:
            self.enqueue_sentinel()
            thread.join(_ENDING_SECONDS)


class _BoundedQueue(QueueHandler):
    """Queues lines. Drops and counts repeats, and lines for which the queue is full."""

    def __init__(self, lines: "queue.Queue[Any]", clock: Callable[[], float]) -> None:
        super().__init__(lines)
        self.lost = 0
        self._clock, self._began = clock, clock()
        self._seen: Counter[Hashable] = Counter()
        self._repeats: Counter[tuple[str, str, str]] = Counter()

    def enqueue(self, record: logging.LogRecord) -> None:  # under the handler's lock
        if self._clock() - self._began >= _MINUTE:
            self.write_repeats()
        kind = record.__dict__["kind"]
        if kind[0] in _ALWAYS or self._count(kind, record.__dict__["address"]):
            self._put(record)
        else:
            self._repeats[kind] += 1

    def write_repeats(self) -> None:
        """Write a line for each kind that had repeats, and start a new minute."""
        for kind, repeats in self._repeats.items():
            event, why, handler = kind
            line = _new_line(event) | {"failure" if event == "failed" else "reason": why, "repeats": repeats}
            line |= {"handler": handler} if handler else {}
            self._put(logging.makeLogRecord({"msg": json.dumps(line), "kind": kind}))
        self._seen.clear()
        self._repeats.clear()
        self._began = self._clock()

    def _count(self, kind: tuple[str, str, str], address: str) -> bool:
        """Count a line, and return whether it is within the limits of this minute."""
        self._seen[kind] += 1
        if self._seen[kind] > AUDIT_REPEATS_ELSEWHERE:
            return False
        self._seen[kind, address] += 1
        return self._seen[kind] <= AUDIT_REPEATS or self._seen[kind, address] == 1

    def _put(self, record: logging.LogRecord) -> None:
        """Queue a line. Only events of signed-in people may use the last tenth of the queue."""
        room = AUDIT_LINES if record.__dict__["kind"][0] in _ALWAYS else AUDIT_LINES * 9 // 10
        if cast("queue.Queue[Any]", self.queue).qsize() < room:
            self.queue.put_nowait(record)
        else:
            self.add_lost(1)

    def add_lost(self, lines: int) -> None:
        """Add to the number of lost lines; a negative number subtracts those that a line has reported."""
        self.acquire()
        self.lost += lines
        self.release()


class _Writer(logging.Handler):
    """Writes lines. Counts those that cannot be written, and reports the number in the next line."""

    def __init__(self, sink: Sink, lines: _BoundedQueue) -> None:
        super().__init__()
        self._sink, self._lines = sink, lines

    def emit(self, record: logging.LogRecord) -> None:
        line, lost = record.getMessage(), self._lines.lost
        if lost:
            line = json.dumps({**json.loads(line), "lost": lost})
        try:
            self._sink.write(f"{line}\n")
        except (OSError, ValueError):
            self._lines.add_lost(1)
        else:
            self._lines.add_lost(-lost)  # more may have been lost meanwhile
