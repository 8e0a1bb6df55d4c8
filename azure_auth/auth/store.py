"""Where sessions lie: sealed records under hashes, and the memory of what has ended.

A store moves bytes and compares versions; it can read nothing, and decides nothing but which of two writers was first.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Literal, Protocol

from azure_auth.auth.limits import Limit
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, StoreUnavailable

_LOCKED_SECONDS = 1.0
MOST_ONCE = 10_000
"""How many things for one use of a kind are kept at a time."""
TAKEN_SECONDS = 40.0
"""How long it is known that a thing was taken: longer than the redemption of a code may last."""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CACHE_KIBIBYTES = 16_000
"""Room for the pages of some thousands of people at work; SQLite's own 2,000 hold a few hundred."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    reference TEXT PRIMARY KEY, version INTEGER NOT NULL, ends REAL NOT NULL,
    person TEXT NOT NULL, sid TEXT NOT NULL, browser TEXT NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_person ON sessions (person);
CREATE INDEX IF NOT EXISTS by_sid ON sessions (sid);
CREATE INDEX IF NOT EXISTS by_browser ON sessions (browser);
CREATE INDEX IF NOT EXISTS by_end ON sessions (ends);
CREATE TABLE IF NOT EXISTS ended (reference TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""
_STANDS = "reference = ?1 AND NOT EXISTS (SELECT 1 FROM ended WHERE reference = ?1)"
_READ = f"SELECT reference, version, ends, person, sid, browser, sealed FROM sessions WHERE {_STANDS}"  # noqa: S608
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
        sid: A hash of what Entra calls its own session.
        browser: A hash of the browser that it was started in.
        sealed: The rest, readable only with the cookie.
    """

    reference: str
    version: int
    ends: float
    person: str
    sid: str
    browser: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Once:
    """Something for one use, as the store sees it.

    Attributes:
        owner: A hash of the browser that may take it.
        address: Where it was asked for; when there are too many, the heaviest address loses its oldest.
        sealed: The rest, readable only with its secret.
    """

    owner: str
    address: str
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

    async def end_all(self, of: Literal["person", "sid"], value: str, until: float) -> list[str]:
        """End all records with this hash likewise, and return their references."""
        ...

    async def note_tab(self, reference: str, key: str, until: float) -> None:
        """Remember that a session has a tab with this key, so that its states can be found at the end."""
        ...

    async def tabs(self, reference: str) -> set[str]:
        """Return the keys of all tabs that a session had, and forget them."""
        ...

    async def announce(self, references: Sequence[str], why: str) -> None:
        """Tell all processes on this store that these sessions ended; a message may get lost."""
        ...

    def announced(self) -> AsyncIterator[tuple[list[str], str]]:
        """Hear what is announced, for ever."""
        ...

    async def put(self, kind: str, name: str, once: Once, seconds: float) -> None:
        """Keep something for one use, for so long."""
        ...

    async def take(self, kind: str, name: str, owner: str | None) -> bytes:
        """Return what was put, and forget it, in one step; another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowTaken: When it was taken within `TAKEN_SECONDS`.
            FlowUnknown: When it expired, was taken before that, or never was.
        """
        ...

    async def look(self, kind: str, name: str, owner: str | None) -> bytes:
        """Return what was put, and leave it in place; raises what `take` raises."""
        ...

    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        """Count once more under each name, in turn, unless there were so many within `seconds`.

        Returns:
            The name that stopped it, which is not counted, nor are those behind it; None when all had room.
        """
        ...

    async def forget(self, name: str) -> None:
        """Begin anew with a name that is counted."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...


class OneTime:
    """Things for one use in memory; when it is full, the address with most of them loses its oldest."""

    def __init__(self, most: int = MOST_ONCE, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty; `most` things are kept, and `clock` counts seconds."""
        self._most = most
        self._clock = clock
        self._things: dict[str, tuple[float, Once]] = {}
        self._taken: dict[str, tuple[float, str]] = {}
        self._of_address: Counter[str] = Counter()

    def put(self, name: str, once: Once, seconds: float) -> None:
        """Keep a thing for so long."""
        now = self._clock()
        while self._things and (oldest := next(iter(self._things))) and self._things[oldest][0] <= now:
            self._drop(oldest)
        while self._taken and (oldest := next(iter(self._taken))) and self._taken[oldest][0] <= now:
            del self._taken[oldest]
        if len(self._things) >= self._most:
            heaviest, _ = self._of_address.most_common(1)[0]
            self._drop(next(name for name, (_, other) in self._things.items() if other.address == heaviest))
        self._things[name] = (now + seconds, once)
        self._of_address[once.address] += 1

    def take(self, name: str, owner: str | None) -> bytes:
        """Return what was put, and remember of it only that it was taken."""
        sealed = self.look(name, owner)
        self._taken[name] = self._clock() + TAKEN_SECONDS, self._things[name][1].owner
        self._drop(name)
        return sealed

    def look(self, name: str, owner: str | None) -> bytes:
        """Return what was put."""
        expires, once = self._things.get(name, (0.0, None))
        gone, taker = self._taken.get(name, (0.0, ""))
        whose = once.owner if once else taker
        if (once or gone > self._clock()) and (owner is None or not compare_digest(whose, owner)):
            raise FlowForeign("the flow cookie of another browser" if owner else "no flow cookie")
        if once and expires > self._clock():
            return once.sealed
        raise FlowTaken("just now") if gone > self._clock() else FlowUnknown("nothing waits under it")

    def _drop(self, name: str) -> None:
        address = self._things.pop(name)[1].address
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]


class EmbeddedStore:
    """SQLite in a file of its own, for one process; opened on first use.

    It is asked on the event loop: a look-up by key takes less time than the way to a thread and back.
    """

    def __init__(self, path: Path) -> None:
        """Keep records in the file `path`, which is made for its owner alone."""
        self._path = path
        self._opened: sqlite3.Connection | None = None
        self._once = OneTime()
        self._tabs: dict[str, set[str]] = {}
        self._limits: dict[tuple[int, float], Limit] = {}

    async def start(self, record: Record, replacing: str | None, now: float) -> list[str]:
        """Add a record; end the one it replaces and those of its browser; forget what is long over."""
        with self._transaction() as db:
            for (over,) in db.execute("DELETE FROM sessions WHERE ends < ? RETURNING reference", (now,)).fetchall():
                self._tabs.pop(over, None)
            db.execute("DELETE FROM ended WHERE until < ?", (now,))
            gone = _end(db, record.ends, "reference = ? OR browser = ?", replacing or "", record.browser)
            db.execute(
                "INSERT INTO sessions (reference, version, ends, person, sid, browser, sealed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                astuple(record),
            )
            return gone

    async def read(self, reference: str) -> Record | None:
        """Return a record that has not ended."""
        with self._translated():
            row = self._db.execute(_READ, (reference,)).fetchone()
        return Record(*row) if row else None

    async def version(self, reference: str) -> int | None:
        """Return the version of a record that has not ended."""
        with self._translated():
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

    async def end_all(self, of: Literal["person", "sid"], value: str, until: float) -> list[str]:
        """End all records with a hash in one of the indexes."""
        with self._transaction() as db:
            return _end(db, until, f"{of} = ?", value)

    async def note_tab(self, reference: str, key: str, until: float) -> None:  # noqa: ARG002
        """Remember a tab, in memory, where its states are as well."""
        self._tabs.setdefault(reference, set()).add(key)

    async def tabs(self, reference: str) -> set[str]:
        """Return a session's tabs."""
        return self._tabs.pop(reference, set())

    async def announce(self, references: Sequence[str], why: str) -> None:
        """Tell nobody: there is one process."""

    async def announced(self) -> AsyncIterator[tuple[list[str], str]]:
        """Hear nothing."""
        return
        yield

    async def put(self, kind: str, name: str, once: Once, seconds: float) -> None:
        """Keep something for one use, in memory: it need not survive a restart."""
        self._once.put(f"{kind} {name}", once, seconds)

    async def take(self, kind: str, name: str, owner: str | None) -> bytes:
        """Take what was put; on the event loop and without waiting, so nothing is taken twice."""
        return self._once.take(f"{kind} {name}", owner)

    async def look(self, kind: str, name: str, owner: str | None) -> bytes:
        """Look at what was put."""
        return self._once.look(f"{kind} {name}", owner)

    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        """Count once more, in memory."""
        limits = ((name, self._limits.setdefault((n, seconds), Limit(n, seconds))) for name, n in most.items())
        return next((name for name, limit in limits if not limit.admit(name)), None)

    async def forget(self, name: str) -> None:
        """Begin anew with a count."""
        for limit in self._limits.values():
            limit.forget(name)

    async def close(self) -> None:
        """Close the file."""
        self._let_go()

    def _let_go(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            db = sqlite3.connect(self._path, timeout=_LOCKED_SECONDS, isolation_level=None)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("PRAGMA secure_delete = ON")
                db.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
                db.executescript(_SCHEMA)
            except BaseException:
                db.close()
                raise
            self._opened = db
        return self._opened

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._translated(), self._db as db:
            db.execute("BEGIN IMMEDIATE")
            yield db

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeError) as why:
            # What has no code is a damaged text. A deleted file would go on as long as it is open.
            if getattr(why, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _CORRUPT:
                self._let_go()
            raise StoreUnavailable(getattr(why, "sqlite_errorname", type(why).__name__)) from why


def _end(db: sqlite3.Connection, until: float, which: str, *values: str) -> list[str]:
    """Delete the rows that `which` (our own words) selects, and remember until when they must not come back."""
    rows: list[tuple[str]] = db.execute(f"SELECT reference FROM sessions WHERE {which}", values).fetchall()  # noqa: S608
    db.executemany("INSERT OR REPLACE INTO ended (reference, until) VALUES (?, ?)", [(*row, until) for row in rows])
    db.executemany("DELETE FROM sessions WHERE reference = ?", rows)
    return [reference for (reference,) in rows]
