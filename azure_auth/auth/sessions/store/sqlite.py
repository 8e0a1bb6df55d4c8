"""The embedded store: SQLite in a file for sessions, and memory for the rest; for one process.

The module is above 200 lines because every statement of SQL is beside the schema and the transaction that it needs.
"""

import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal, final

from typing_extensions import override

from azure_auth.auth.sessions.limits import Limit
from azure_auth.auth.sessions.store import contract
from azure_auth.auth.sessions.store.contract import Changed, Checks, Found, Gone, Mark, Record, Store, TabWanted
from azure_auth.auth.sessions.store.one_time import Marks, OneTimeEntries
from azure_auth.bounds import SESSION_STATES
from azure_auth.errors import FlowTaken, SignedOutMeanwhile, StoreUnavailable

_log = logging.getLogger(__name__)
_LOCKED_SECONDS = 1.0
_SWEEP_AHEAD_SECONDS = 1.0
"""A sweep also deletes what expires within this time: the caller's timer may be a moment early."""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL", "secure_delete": "ON", "cache_size": -16_000}
"""The cache, in KiB, has room for the pages of some thousands of people at work; SQLite's own 2,000 hold a few hundred.
"""
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE sessions (
    reference TEXT PRIMARY KEY, version INTEGER NOT NULL, ends REAL NOT NULL,
    person TEXT NOT NULL, sid TEXT NOT NULL, browser TEXT NOT NULL,
    twin INTEGER NOT NULL DEFAULT 0, presented REAL NOT NULL DEFAULT 0, sealed BLOB NOT NULL
); -- with row ids: without, a row of more than 1,000 bytes takes a page of 4,096
CREATE INDEX by_person ON sessions (person);
CREATE INDEX by_sid ON sessions (sid) WHERE sid != '';
CREATE INDEX by_browser ON sessions (browser) WHERE browser != '';
CREATE INDEX by_end ON sessions (ends);
CREATE TABLE handles (
    name TEXT PRIMARY KEY, reference TEXT NOT NULL, sealed BLOB NOT NULL, until REAL NOT NULL,
    next BLOB NOT NULL DEFAULT x''
) WITHOUT ROWID;
CREATE INDEX handles_of ON handles (reference);
CREATE INDEX handles_until ON handles (until);
CREATE TABLE ended (reference TEXT PRIMARY KEY, until REAL NOT NULL, why TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX by_until ON ended (until);
"""
_FIELDS = "reference, version, ends, person, sid, browser, sealed"
_ACTIVE = "reference = ? AND NOT EXISTS (SELECT 1 FROM ended WHERE ended.reference = sessions.reference)"
_REPLACE = f"UPDATE sessions SET version = ?, sealed = ? WHERE {_ACTIVE} AND version = ?"  # noqa: S608
_ADD_HANDLE = "INSERT INTO handles (name, sealed, reference, until) VALUES (?, ?, ?, ?)"
_FIND = f"""
SELECT handles.sealed, handles.next, sessions.twin, {", ".join(f"sessions.{field}" for field in _FIELDS.split(", "))}
FROM handles JOIN sessions USING (reference)
WHERE handles.name = ? AND handles.until > ?
    AND NOT EXISTS (SELECT 1 FROM ended WHERE ended.reference = sessions.reference)
"""  # noqa: S608


@final
class EmbeddedStore(Store):
    """SQLite, opened on first use and called on the event loop: a look-up is faster than a change of threads."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Keep records in the file `path`, which only its owner can read; `clock` counts seconds since 1970."""
        self._path, self._clock = path, clock
        self._opened: sqlite3.Connection | None = None
        self._one_time = defaultdict[str, OneTimeEntries](lambda: OneTimeEntries(clock=clock))
        self._marks = Marks(clock)
        self._joins: dict[str, str] = {}
        """The name of the `Join` of each session that has one."""
        self._tabs: dict[str, dict[str, None]] = {}
        """Keys of tabs by session; the one that connected last comes last."""
        self._limits: dict[tuple[int, float], Limit] = {}

    @override
    async def start(self, start: contract.Start) -> contract.Started:
        record, join = start.record, start.join
        with self._transaction() as db:
            self._delete_expired(db)
            self._check(start.checks)
            for name in join.follow if join else ():
                if joined := self._one_time["join"].get(name):
                    return contract.Started(joined=(name, joined))
            gone, twins = self._others(db, start)
            row = *astuple(record), bool(twins)
            db.execute(f"INSERT INTO sessions ({_FIELDS}, twin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
            db.execute(_ADD_HANDLE, (*start.handle, record.reference, record.ends))
        self._one_time["ticket"].use_up(start.checks.ticket)  # in memory; nothing waits between this and the commit
        if join:
            self._one_time["join"].put(join.name, contract.OneTimeEntry("", "", join.sealed), contract.GRACE_SECONDS)
            self._joins[record.reference] = join.name
        return contract.Started(gone, twins)

    def _delete_expired(self, db: sqlite3.Connection) -> None:
        now = (self._clock(),)
        for (reference,) in db.execute("DELETE FROM sessions WHERE ends < ? RETURNING reference", now).fetchall():
            self._tabs.pop(reference, None)
            self._joins.pop(reference, None)
            db.execute("DELETE FROM handles WHERE reference = ?", (reference,))
        db.execute("DELETE FROM ended WHERE until < ?", now)
        db.execute("DELETE FROM handles WHERE until <= ?", now)

    def _others(self, db: sqlite3.Connection, start: contract.Start) -> tuple[list[Gone], list[str]]:
        """End other users' sessions in the browser, and mark the user's own as twins.

        Twins are not ended: the browser has their cookie until it presents the new one.
        """
        found: dict[str, str] = {}
        for column, values in (("browser", start.browsers), ("reference", start.others)):
            for value in values:
                query = f"SELECT reference, person FROM sessions WHERE {column} = ? AND {column} != ''"  # noqa: S608
                found |= dict(db.execute(query, (value,)).fetchall())
        twins = [reference for reference, person in found.items() if person in start.persons]
        noted = [(self._clock(), twin) for twin in twins]
        db.executemany("UPDATE sessions SET twin = 1, presented = ? WHERE reference = ?", noted)
        return self._end(db, start.record.ends, "replaced", [r for r in found if r not in twins]), twins

    def _check(self, checks: Checks) -> None:
        """Raise if a sign-in is rejected; this rolls back the transaction."""
        if checks.ticket and self._one_time["ticket"].get(checks.ticket) is None:
            raise FlowTaken("just now")
        if self._marks.reject(checks):
            raise SignedOutMeanwhile()

    @override
    async def find(self, name: str, *, presented: bool = True) -> Found | None:
        now = self._clock()
        with self._translated():
            row = self._db.execute(_FIND, (name, now)).fetchone()
            if row is None:
                return None
            data_key, next_, twin, *record = row
            if twin and presented:
                self._db.execute("UPDATE sessions SET presented = ? WHERE reference = ?", (now, record[0]))
        if presented and (join := self._joins.pop(record[0], None)):
            self._one_time["join"].drop(join)  # the browser has its value now
        return Found(data_key, next_, Record(*record))

    @override
    async def read(self, reference: str) -> Record | str:
        found = self._read(_FIELDS, reference)
        return Record(*found) if isinstance(found, tuple) else found

    @override
    async def version(self, reference: str) -> int | str:
        found = self._read("version", reference)
        if isinstance(found, str):
            return found
        return found[0] if isinstance(found[0], int) else -1  # somebody wrote another type into the file

    def _read(self, columns: str, reference: str) -> tuple[Any, ...] | str:
        """Return columns of a record; the reason if it has ended; the empty string if it is unknown."""
        with self._translated():
            query = f"SELECT {columns} FROM sessions WHERE {_ACTIVE}"  # noqa: S608
            if row := self._db.execute(query, (reference,)).fetchone():
                return row
            ended = self._db.execute("SELECT why FROM ended WHERE reference = ?", (reference,)).fetchone()
            return str(ended[0]) if ended else ""

    @override
    async def replace(self, record: Record, version: int) -> bool:
        with self._transaction() as db:
            return db.execute(_REPLACE, (record.version, record.sealed, record.reference, version)).rowcount == 1

    @override
    async def renew(self, record: Record, version: int, successor: contract.Successor | None, checks: Checks) -> bool:
        reference, now = record.reference, self._clock()
        with self._transaction() as db:
            if db.execute(_REPLACE, (record.version, record.sealed, reference, version)).rowcount != 1:
                return False
            indexes = record.ends, record.person, record.sid, record.browser, reference
            db.execute("UPDATE sessions SET ends = ?, person = ?, sid = ?, browser = ? WHERE reference = ?", indexes)
            if successor:
                until = now + contract.GRACE_SECONDS
                db.execute("UPDATE handles SET until = min(until, ?) WHERE reference = ?", (until, reference))
                db.execute("DELETE FROM handles WHERE reference = ? AND until <= ?", (reference, now))
                db.execute("UPDATE handles SET next = ? WHERE name = ?", (successor.sealed, successor.before))
                db.execute(_ADD_HANDLE, (*successor.handle, reference, record.ends))
            self._check(checks)
        self._one_time["ticket"].use_up(checks.ticket)
        return True

    @override
    async def end(self, references: Sequence[str], until: float, why: str, marks: Sequence[Mark] = ()) -> list[Gone]:
        for mark in marks:
            self._marks.set(*mark)
        with self._transaction() as db:
            return self._end(db, until, why, references)

    @override
    async def end_all(self, of: Literal["person", "sid"], values: Sequence[str], until: float, why: str) -> list[Gone]:
        for value in values:
            self._marks.set(of, value)
        with self._transaction() as db:
            query = f"SELECT reference FROM sessions WHERE {of} = ? AND {of} != ''"  # noqa: S608
            found = [reference for value in values for (reference,) in db.execute(query, (value,))]
            return self._end(db, until, why, found)

    @override
    async def end_twins(self, references: Sequence[str], until: float, why: str) -> list[Gone]:
        with self._transaction() as db:
            query = "SELECT presented FROM sessions WHERE reference = ?"
            rows = [(reference, db.execute(query, (reference,)).fetchone()) for reference in references]
            twins = [ref for *_, ref in sorted((row[0], place, ref) for place, (ref, row) in enumerate(rows) if row)]
            db.executemany("UPDATE sessions SET twin = 0 WHERE reference = ?", [(kept,) for kept in twins[-1:]])
            return self._end(db, until, why, twins[:-1])

    @override
    async def sweep(self) -> None:
        with self._transaction() as db:
            until = self._clock() + _SWEEP_AHEAD_SECONDS
            swept = db.execute("DELETE FROM handles WHERE until <= ?", (until,)).rowcount
        if swept:
            with self._translated():  # SQLite's log must not keep them: an expired value opens an active session
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _end(self, db: sqlite3.Connection, until: float, why: str, references: Sequence[str]) -> list[Gone]:
        """Delete records with their handles, and remember until when they must not come back."""
        gone: list[Gone] = []
        for reference in references:
            row = db.execute("DELETE FROM sessions WHERE reference = ? RETURNING person", (reference,)).fetchone()
            if row:
                gone.append(Gone(reference, str(row[0])))
                ended = reference, until, why
                db.execute("INSERT OR REPLACE INTO ended (reference, until, why) VALUES (?, ?, ?)", ended)
                db.execute("DELETE FROM handles WHERE reference = ?", (reference,))
            self._joins.pop(reference, None)
        return gone

    @override
    async def note_tab(self, reference: str, key: str, until: float) -> list[str]:
        tabs = self._tabs.setdefault(reference, {})
        tabs.pop(key, None)
        tabs[key] = None
        over = list(tabs)[:-SESSION_STATES]
        for one in over:
            del tabs[one]
        return over

    @override
    async def tabs(self, reference: str) -> set[str]:
        return set(self._tabs.pop(reference, {}))

    @override
    async def put(self, kind: str, name: str, entry: contract.OneTimeEntry, seconds: float) -> None:
        self._one_time[kind].put(name, entry, seconds)

    @override
    async def consume(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        return self._one_time[kind].consume(name, owner)

    @override
    async def peek(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        return self._one_time[kind].peek(name, owner)

    @override
    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        limits = ((name, self._limits.setdefault((n, seconds), Limit(n, seconds))) for name, n in most.items())
        return next((name for name, limit in limits if not limit.admit(name)), None)

    @override
    async def forget(self, name: str) -> None:
        for limit in self._limits.values():
            limit.forget(name)

    @override
    async def send(self, message: Changed | TabWanted) -> None:
        pass  # there is one process

    @override
    async def receive(self) -> AsyncIterator[Changed | TabWanted]:
        return
        yield

    @override
    async def close(self) -> None:
        self._close()

    def _close(self) -> None:
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
                for name, value in _PRAGMAS.items():
                    db.execute(f"PRAGMA {name} = {value}")
                _prepare(db)
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
            # UnicodeError and OSError have no code and count as corrupt. Close the file, so that deleting it helps.
            if getattr(why, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _CORRUPT:
                self._close()
            raise StoreUnavailable(getattr(why, "sqlite_errorname", type(why).__name__)) from why


def _prepare(db: sqlite3.Connection) -> None:
    """Create the tables. Those of another release's schema are dropped, and all users sign in again."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if version == _SCHEMA_VERSION:
        return
    if tables:
        _log.warning("the session database has schema %d, not %d: everybody signs in anew", version, _SCHEMA_VERSION)
    drop = "".join(f'DROP TABLE "{name}";' for name in tables)
    db.executescript(f"BEGIN IMMEDIATE; {drop} {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
