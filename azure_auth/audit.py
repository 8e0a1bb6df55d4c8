"""The audit trail: one JSON line for each security event. It observes, never decides, and holds no token.

A line has the version of its form, the time, the event and what is known of: `person` (tenant and object id),
`address`, `failure` (the code of an error), its `detail`, `reference` and `advice`, `reason`, `handler` and `page`.

Lines go through a bounded queue to a thread of their own, so a slow or broken sink stops nobody. Strangers can cause
any number of refusals, so in each minute only the first lines of a kind (event, reason and handler) are written; a
later line counts the others (`repeats`). Lines that found no room, or could not be written, are counted in the next one
that is (`lost`).
"""

import json
import logging
import os
import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from azure_auth.bounds import AUDIT_BYTES, AUDIT_LINES, AUDIT_REPEATS, AUDIT_REPEATS_ELSEWHERE
from azure_auth.logs import clean, cut

VERSION = 1
_ENDING_SECONDS, _MINUTE = 1.0, 60.0
_ROOM = 64
"""Bytes of a line that are left for its counts."""
_log = logging.getLogger("azure_auth.audit")
_log.setLevel(logging.INFO)

Event = Literal["started", "succeeded", "failed", "signed_out", "refused", "limited", "suspicious"]
_ALWAYS: set[str] = {"succeeded", "signed_out"}
"""Events that only somebody who proved who they are can cause: none of them is a mere repeat."""


class Sink(Protocol):
    """What takes the lines."""

    def write(self, text: str, /) -> object:
        """Take a line with its end.

        Raises:
            OSError: When it cannot be written.
        """


def record(event: Event, *, person: tuple[str, str] | None = None, **known: str) -> None:
    """Note a security event.

    Args:
        event: What happened.
        person: Tenant id and object id of whom it is about, once that is proven.
        known: What else is known; never a token, code, cookie, claim set, name or e-mail address, and cleaned of them.
    """
    line = _begun(event)
    if person:
        line["person"] = {"tid": person[0], "oid": person[1]}
    line |= {name: clean(cut(value)) for name, value in known.items() if value}
    kind = event, known.get("reason") or known.get("failure", ""), known.get("handler", "")
    _log.info("%s", _shortened(line), extra={"kind": kind, "address": known.get("address", "")})


def _begun(event: str) -> dict[str, Any]:
    return {"v": VERSION, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}


def _shortened(line: dict[str, Any]) -> str:
    """Return the JSON of a line that fits into one write; the longest text loses its end."""
    while len(text := json.dumps(line)) > AUDIT_BYTES - _ROOM:
        longest = max((name for name in line if isinstance(line[name], str)), key=lambda name: len(line[name]))
        line[longest] = line[longest][: len(line[longest]) // 2].removesuffix("…") + "…"
    return text


@contextmanager
def writing(sink: Sink, clock: Callable[[], float] = time.monotonic) -> Generator[None]:
    """Write the trail to a sink for a while; without it, it goes where the log goes. `clock` counts seconds."""
    lines = _Bounded(queue.Queue(), clock)
    listener = _Listener(lines.queue, _Counting(sink, lines))
    _log.addHandler(lines)
    _log.propagate = False
    listener.start()
    try:
        yield
    finally:
        _log.removeHandler(lines)
        _log.propagate = True
        lines.tell_of_repeats()
        listener.stop()


@contextmanager
def output(file: Path | None) -> Generator[Sink]:
    """Open where the trail goes: the file, or standard output.

    Standard output is then the trail's alone. What else is written there goes to standard error, so nothing that a log
    line says can pass for a line of the trail.
    """
    if file:
        yield Appended(file)
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield Descriptor(kept)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class Descriptor:
    """An open file; each line is one write, so lines of several processes do not mix (POSIX, PIPE_BUF)."""

    def __init__(self, descriptor: int) -> None:
        """Write there."""
        self._descriptor = descriptor
        self._is_torn = False

    def write(self, text: str, /) -> None:
        """Write a line."""
        data = ("\n" * self._is_torn + text).encode()
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError("only the beginning of a line was written")


class Appended(Descriptor):
    """A file that only the app's user can read (0600). It is opened anew when it was moved away, as by logrotate."""

    def __init__(self, path: Path) -> None:
        """Append to the file at `path`."""
        self._path = path
        super().__init__(self._open())

    def write(self, text: str, /) -> None:
        """Write a line."""
        now = None
        with suppress(FileNotFoundError):
            now = self._path.stat()
        if now is None or not os.path.samestat(now, os.fstat(self._descriptor)):
            os.close(self._descriptor)
            self._descriptor = self._open()
        super().write(text)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class _Listener(QueueListener):
    """Writes what waits, at the end as well; a sink that takes nothing any more holds the end up for a moment only."""

    def stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread:
            self.enqueue_sentinel()
            thread.join(_ENDING_SECONDS)


class _Bounded(QueueHandler):
    """Drops and counts repeats, and what finds no room."""

    def __init__(self, lines: "queue.Queue[Any]", clock: Callable[[], float]) -> None:
        super().__init__(lines)
        self.lost = 0
        self._clock, self._began = clock, clock()
        self._seen: Counter[Hashable] = Counter()
        self._repeats: Counter[tuple[str, str, str]] = Counter()

    def enqueue(self, record: logging.LogRecord) -> None:  # under the handler's lock
        if self._clock() - self._began >= _MINUTE:
            self.tell_of_repeats()
        if self._is_repeat(record):
            self._repeats[record.__dict__["kind"]] += 1
        else:
            self._put(record)

    def tell_of_repeats(self) -> None:
        """Write a line for each kind that had repeats, and begin another minute."""
        for kind, repeats in self._repeats.items():
            event, why, handler = kind
            line = _begun(event) | {"failure" if event == "failed" else "reason": why, "repeats": repeats}
            line |= {"handler": handler} if handler else {}
            self._put(logging.makeLogRecord({"msg": json.dumps(line), "kind": kind}))
        self._seen.clear()
        self._repeats.clear()
        self._began = self._clock()

    def _is_repeat(self, record: logging.LogRecord) -> bool:
        kind = record.__dict__["kind"]
        if kind[0] in _ALWAYS:
            return False
        self._seen[kind] += 1
        if self._seen[kind] > AUDIT_REPEATS_ELSEWHERE:
            return True
        of_address = (*kind, record.__dict__["address"])
        self._seen[of_address] += 1
        return self._seen[kind] > AUDIT_REPEATS and self._seen[of_address] > 1

    def _put(self, record: logging.LogRecord) -> None:
        """Queue a line; the last tenth of the room is for what strangers cannot cause."""
        room = AUDIT_LINES if record.__dict__["kind"][0] in _ALWAYS else AUDIT_LINES * 9 // 10
        if cast("queue.Queue[Any]", self.queue).qsize() < room:
            self.queue.put_nowait(record)
        else:
            self.count(1)

    def count(self, lines: int) -> None:
        """Count lines that were lost, or take off those that have been told of."""
        self.acquire()
        self.lost += lines
        self.release()


class _Counting(logging.Handler):
    """Counts what could not be written, and says so with the next line that can."""

    def __init__(self, sink: Sink, lines: _Bounded) -> None:
        super().__init__()
        self._sink, self._lines = sink, lines

    def emit(self, record: logging.LogRecord) -> None:
        line, lost = record.getMessage(), self._lines.lost
        if lost:
            line = json.dumps({**json.loads(line), "lost": lost})
        try:
            self._sink.write(f"{line}\n")
        except (OSError, ValueError):
            self._lines.count(1)
        else:
            self._lines.count(-lost)  # more may have been lost meanwhile
