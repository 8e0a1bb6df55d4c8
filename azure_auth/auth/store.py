"""Where sessions lie: sealed records under hashes, and the memory of what has ended.

A store moves bytes and compares versions; it can read nothing, and decides nothing but which of two writers was first.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from azure_auth.errors import StoreUnavailable

_LOCKED_SECONDS = 1.0
_CACHE_KIBIBYTES = 16_000
"""Room for the pages of some thousands of people at work; SQLite's own 2,000 hold a few hundred."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    reference TEXT PRIMARY KEY, version INTEGER NOT NULL, ends REAL NOT NULL,
    person TEXT NOT NULL, browser TEXT NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_person ON sessions (person);
CREATE INDEX IF NOT EXISTS by_browser ON sessions (browser);
CREATE INDEX IF NOT EXISTS by_end ON sessions (ends);
CREATE TABLE IF NOT EXISTS ended (reference TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""
_STANDS = "reference = ?1 AND NOT EXISTS (SELECT 1 FROM ended WHERE reference = ?1)"
_READ = f"SELECT reference, version, ends, person, browser, sealed FROM sessions WHERE {_STANDS}"  # noqa: S608
_VERSION = f"SELECT version FROM sessions WHERE {_STANDS}"  # noqa: S608
_REPLACE = f"UPDATE sessions SET version = ?2, sealed = ?3 WHERE {_STANDS} AND version = ?4"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Record:
    """A session as the store sees it.

    Attributes:
        reference: The hash that names it.
        version: Goes up with each write.
        ends: When it is over whatever happens, in seconds since 1970; for tidying up, the sealed time decides.
        person: A hash of who it is.
        browser: A hash of the browser that it was started in.
        sealed: The rest, readable only with the cookie.
    """

    reference: str
    version: int
    ends: float
    person: str
    browser: str
    sealed: bytes


class Store(Protocol):
    """What every store can do. All of it raises `StoreUnavailable` when the store cannot be asked."""

    async def start(self, record: Record, replacing: str | None, now: float) -> list[str]:
        """Add a record and, in the same step, end the one named `replacing` and all others of its browser.

        Returns:
            The references of the records that ended.
        """
        ...

    async def read(self, reference: str) -> Record | None:
        """Return a record, unless it never was or has ended."""
        ...

    async def version(self, reference: str) -> int | None:
        """Return the version of a record, unless it never was or has ended."""
        ...

    async def replace(self, record: Record, version: int) -> bool:
        """Put a record in the place of its own `version`; False when that is not there any more."""
        ...

    async def end(self, reference: str, until: float) -> bool:
        """End a record for good, also if somebody puts it back before `until`; False when it had ended before."""
        ...

    async def end_person(self, person: str, until: float) -> list[str]:
        """End all records of a person likewise, and return their references."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...


class EmbeddedStore:
    """SQLite in a file of its own, for one process; opened on first use.

    It is asked on the event loop: a look-up by key takes less time than the way to a thread and back.
    """

    def __init__(self, path: Path) -> None:
        """Keep records in the file `path`, which is made for its owner alone."""
        self._path = path
        self._opened: sqlite3.Connection | None = None

    async def start(self, record: Record, replacing: str | None, now: float) -> list[str]:
        """Add a record; end the one it replaces and those of its browser; forget what is long over."""
        with self._transaction() as db:
            db.execute("DELETE FROM sessions WHERE ends < ?", (now,))
            db.execute("DELETE FROM ended WHERE until < ?", (now,))
            gone = _end(db, record.ends, "reference = ? OR browser = ?", replacing or "", record.browser)
            db.execute(
                "INSERT INTO sessions (reference, version, ends, person, browser, sealed) VALUES (?, ?, ?, ?, ?, ?)",
                (record.reference, record.version, record.ends, record.person, record.browser, record.sealed),
            )
            return gone

    async def read(self, reference: str) -> Record | None:
        """Return a record that has not ended."""
        with _translated():
            row = self._db.execute(_READ, (reference,)).fetchone()
        return Record(*row) if row else None

    async def version(self, reference: str) -> int | None:
        """Return the version of a record that has not ended."""
        with _translated():
            row = self._db.execute(_VERSION, (reference,)).fetchone()
        return row[0] if row else None

    async def replace(self, record: Record, version: int) -> bool:
        """Write a record if its `version` is still there."""
        with self._transaction() as db:
            written = db.execute(_REPLACE, (record.reference, record.version, record.sealed, version))
            return written.rowcount == 1

    async def end(self, reference: str, until: float) -> bool:
        """End one record."""
        with self._transaction() as db:
            return bool(_end(db, until, "reference = ?", reference))

    async def end_person(self, person: str, until: float) -> list[str]:
        """End all records of a person."""
        with self._transaction() as db:
            return _end(db, until, "person = ?", person)

    async def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            db = sqlite3.connect(self._path, timeout=_LOCKED_SECONDS, isolation_level=None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA secure_delete = ON")
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
            db.executescript(_SCHEMA)
            self._opened = db
        return self._opened

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with _translated(), self._db as db:
            db.execute("BEGIN IMMEDIATE")
            yield db


def _end(db: sqlite3.Connection, until: float, which: str, *values: str) -> list[str]:
    """Delete the rows that `which` (our own words) selects, and remember until when they must not come back."""
    rows: list[tuple[str]] = db.execute(f"SELECT reference FROM sessions WHERE {which}", values).fetchall()  # noqa: S608
    db.executemany("INSERT OR REPLACE INTO ended (reference, until) VALUES (?, ?)", [(*row, until) for row in rows])
    db.executemany("DELETE FROM sessions WHERE reference = ?", rows)
    return [reference for (reference,) in rows]


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as why:
        raise StoreUnavailable(type(why).__name__) from why
