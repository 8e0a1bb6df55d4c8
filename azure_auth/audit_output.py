"""Where the audit trail is written: a file that may be rotated, or standard output."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def output(file: Path | None) -> "Generator[Sink]":
    """Open the file of the trail, or standard output.

    In the second case only the trail is written to standard output. Everything else that the process and its children
    print goes to standard error, so no log line can pass for a line of the trail.
    """
    if file:
        yield Appended(file)
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield Sink(kept)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class Sink:
    """An open file. Each line is one write, so lines of several processes do not mix (POSIX, PIPE_BUF)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_torn = False

    def write(self, text: str, /) -> None:
        """Write a line, end included; after a torn one, begin a new line first."""
        data = ("\n" * self._is_torn + text).encode()
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError("only the beginning of a line was written")


class Appended(Sink):
    """A file that only the app's user can read (0600). After logrotate moves it away, a new one is opened."""

    def __init__(self, path: Path) -> None:
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
