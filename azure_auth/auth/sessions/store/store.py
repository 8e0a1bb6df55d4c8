"""The store's interface and data types, and the embedded store: SQLite, for one process.

A store sees ciphertexts, hashes, versions and times; it can decrypt nothing. It compares versions, so that one of two
concurrent writers loses. What must be atomic, such as using up a ticket and starting its session, is one method.
"""

import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Literal, Protocol

from azure_auth.auth.sessions.limits import Limit
from azure_auth.bounds import SESSION_STATES
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, SignedOutMeanwhile, StoreUnavailable, TooManyRequests

_log = logging.getLogger(__name__)
_LOCKED_SECONDS = 1.0
MOST_ONCE = 20_000
"""The maximum number of one-time entries of each kind."""
LARGEST_SHARE = 4
"""An address with more than one in so many of the entries of a kind has more than its share."""
OVER, WAITING, KNOWN = RANKS = range(3)
"""Ranks of one-time entries. OVER: the outcome of a failed sign-in. WAITING: a flow. KNOWN: the ticket of a successful
sign-in, or a flow of a browser that has completed a sign-in before. When a kind is full, an address that has more than
its share loses the oldest of its own lowest rank. If none has, the lowest rank of all goes: the oldest of the address
that has most of it."""
TAKEN_SECONDS = 40.0
"""How long an entry is known to be used up; longer than redeeming a code may take."""
MARK_SECONDS = 700.0
"""How long a sign-out is remembered: longer than a flow, its redemption and its ticket may last."""
MOST_MARKS = 10_000
"""How many sign-outs of a kind are remembered at a time."""
_SOON_SECONDS = 1.0
"""What ends within it is swept, for whoever asks counts from a moment before the store does."""
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CACHE_KIBIBYTES = 16_000
"""Room for the pages of some thousands of people at work; SQLite's own 2,000 hold a few hundred."""
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
_STANDS = "reference = ?1 AND NOT EXISTS (SELECT 1 FROM ended WHERE reference = ?1)"
_READ = f"SELECT {_FIELDS} FROM sessions WHERE {_STANDS}"  # noqa: S608
_VERSION = f"SELECT version FROM sessions WHERE {_STANDS}"  # noqa: S608
_REPLACE = f"UPDATE sessions SET version = ?2, sealed = ?3 WHERE {_STANDS} AND version = ?4"  # noqa: S608
_FIND = f"""
SELECT handles.sealed, handles.next, sessions.twin, {", ".join(f"sessions.{field}" for field in _FIELDS.split(", "))}
FROM handles JOIN sessions USING (reference)
WHERE handles.name = ?1 AND handles.until > ?2
    AND NOT EXISTS (SELECT 1 FROM ended WHERE ended.reference = sessions.reference)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Record:
    """A session as the store sees it.

    Attributes:
        reference: The session's random id.
        version: Goes up with each write.
        ends: When it is over whatever happens, in seconds since 1970; for tidying up, the sealed time decides.
        person: A keyed hash of who it is.
        sid: A keyed hash of what Entra calls its own session; empty where it says nothing.
        browser: A keyed hash of the name of the browser that it was started in; empty where it had none.
        sealed: The rest, readable only with the session's data key.
    """

    reference: str
    version: int
    ends: float
    person: str
    sid: str
    browser: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Handle:
    """What one value of the cookie stands for.

    Attributes:
        name: A hash of the value.
        sealed: The session's data key, readable only with the value.
    """

    name: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What a handle leads to.

    Attributes:
        data_key: The session's data key, sealed.
        next: The value that took the place of this one, readable only with this one; empty for the newest.
        record: The session.
    """

    data_key: bytes
    next: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Successor:
    """A new value of a session's cookie.

    Attributes:
        handle: What it stands for.
        before: The name of the handle of the value that it follows.
        sealed: The new value, readable only with that one.
        seconds: How long all earlier values go on.
    """

    handle: Handle
    before: str
    sealed: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Gone:
    """A session that this very call has ended.

    Attributes:
        reference: Its id.
        person: The keyed hash of who it was.
    """

    reference: str
    person: str


@dataclass(frozen=True, slots=True)
class Once:
    """Something for one use, as the store sees it.

    Attributes:
        owner: A hash of the binding in its flow's cookie; only that cookie may take it.
        address: Where it was asked for.
        sealed: The rest, readable only with its secret.
        rank: One of `RANKS`.
    """

    owner: str
    address: str
    sealed: bytes
    rank: int = WAITING


MarkKind = Literal["person", "sid", "browser"]
"""Whose sign-out is remembered: a person's everywhere, of one of Entra's sessions, or a person's in one browser."""


@dataclass(frozen=True, slots=True)
class Spend:
    """The checks of a sign-in, made in the same step that starts or renews its session.

    Attributes:
        ticket: The name of its ticket, which is used up; empty for none.
        begun: When its flow began, by the store's clock; seconds since 1970.
        marks: Sign-outs that reject it if they are not older than `begun`.
    """

    ticket: str = ""
    begun: float = float("inf")
    marks: tuple[tuple[MarkKind, str], ...] = ()


NOTHING = Spend()
"""No ticket, and no sign-out that matters."""


@dataclass(frozen=True, slots=True)
class Join:
    """An entry that lets parallel sign-ins in one browser share one session.

    Attributes:
        name: Derived from the binding of this flow's cookie.
        sealed: The session's first cookie value, encrypted under that binding.
        seconds: How long it is kept; it is deleted earlier, when the browser first presents the value.
        follow: Names of entries of all the browser's flow cookies. If one exists, it is returned and no session is
            started. Empty: overwrite.
    """

    name: str
    sealed: bytes
    seconds: float
    follow: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """A session to be started.

    Attributes:
        record: Its record.
        handle: The first value of its cookie.
        now: The caller's time, for tidying up; seconds since 1970.
        spend: What the sign-in has to pass.
        persons: All hashes of the person.
        browsers: All hashes of the browser's names, before and after.
        others: References of sessions that count as this browser's as well.
        join: What is left for another exchange in the same browser.
    """

    record: Record
    handle: Handle
    now: float
    spend: Spend = NOTHING
    persons: Sequence[str] = ()
    browsers: Sequence[str] = ()
    others: Sequence[str] = ()
    join: Join | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What starting a session did.

    Attributes:
        gone: Other people's sessions in the same browser, which have ended.
        twins: Sessions of the same person in the same browser, which stand beside the new one.
        joined: `name` and `sealed` of an existing `Join`, if a parallel sign-in was first; then nothing was started.
    """

    gone: Sequence[Gone] = ()
    twins: Sequence[str] = ()
    joined: tuple[str, bytes] | None = None


class Store(Protocol):
    """What every store can do. All of it raises `StoreUnavailable` when the store cannot be asked."""

    async def start(self, start: Start) -> Started:
        """Add a session. In the same step spend its ticket, and end other people's sessions in its browser.

        Raises:
            FlowTaken: When the ticket is not there any more.
            SignedOutMeanwhile: When a sign-out came after the flow began.
        """
        ...

    async def find(self, name: str, *, presented: bool = True) -> Found | None:
        """Return a session by the hash of a cookie value; None if the session ended or the value expired.

        If a browser `presented` the value, the session's `Join` is deleted, and a twin records the time.
        """
        ...

    async def read(self, reference: str) -> Record | str:
        """Return a record; the reason if it has ended; the empty string if it is unknown."""
        ...

    async def version(self, reference: str) -> int | str:
        """Return the version of a record; else what `read` returns."""
        ...

    async def replace(self, record: Record, version: int) -> bool:
        """Update a record's version and ciphertext if the stored version is `version`; else return False."""
        ...

    async def renew(self, record: Record, version: int, successor: Successor | None, spend: Spend = NOTHING) -> bool:
        """Replace a whole record, as `replace`, and the value of its cookie.

        Raises:
            FlowTaken: When the ticket is not there any more.
            SignedOutMeanwhile: When a sign-out came after the flow began.
        """
        ...

    async def end(
        self, references: Sequence[str], until: float, why: str, marks: Sequence[tuple[MarkKind, str]] = ()
    ) -> list[Gone]:
        """End records for good, also if somebody puts them back before `until`; remember a sign-out in the same step.

        Returns:
            Those that had not ended before.
        """
        ...

    async def end_all(self, of: Literal["person", "sid"], values: Sequence[str], until: float, why: str) -> list[Gone]:
        """End all records with one of these hashes likewise, and remember it as a sign-out."""
        ...

    async def settle(self, references: Sequence[str], until: float, why: str) -> list[Gone]:
        """Of twins, keep the one that a browser presented last, else the last of the list; end the others."""
        ...

    async def sweep(self) -> None:
        """Delete the values of cookies that have ended."""
        ...

    async def note_tab(self, reference: str, key: str, until: float) -> list[str]:
        """Remember that a session has a tab with this key, so that its states can be found at the end.

        Returns:
            The keys of the tabs that were noted first, above `SESSION_STATES`; they are forgotten.
        """
        ...

    async def tabs(self, reference: str) -> set[str]:
        """Return the keys of all tabs that a session had, and forget them."""
        ...

    async def announce(self, references: Sequence[str], why: str) -> None:
        """Tell all processes on this store that these sessions ended or changed; a message may get lost."""
        ...

    def announced(self) -> AsyncIterator[tuple[list[str], str]]:
        """Hear what is announced, for ever."""
        ...

    async def put(self, kind: str, name: str, once: Once, seconds: float) -> None:
        """Keep something for one use, for so long.

        Raises:
            TooManyRequests: When the kind is full and every entry has a higher rank.
        """
        ...

    async def take(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Return what was put, and when; forget it in the same step. Another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowTaken: When it was taken within `TAKEN_SECONDS`.
            FlowUnknown: When it expired, was taken before that, or never was.
        """
        ...

    async def look(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Return what was put, and when, and leave it in place; raises what `take` raises."""
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
    """Things of one kind for one use, in memory."""

    def __init__(self, most: int = MOST_ONCE, clock: Callable[[], float] = time.time) -> None:
        """Begin empty; `most` things are kept, and `clock` counts seconds."""
        self._most = most
        self._clock = clock
        self._things: dict[str, tuple[float, float, Once]] = {}
        self._taken: dict[str, tuple[float, str]] = {}
        self._of: dict[str, tuple[dict[str, None], ...]] = {}
        """For each address and rank, the names of its things; the oldest come first."""

    def put(self, name: str, once: Once, seconds: float) -> None:
        """Keep a thing for so long.

        Raises:
            TooManyRequests: When the kind is full and every entry has a higher rank.
        """
        now = self._clock()
        while self._things and (oldest := next(iter(self._things))) and self._things[oldest][0] <= now:
            self.drop(oldest)
        self.drop(name)
        if len(self._things) >= self._most:
            self.drop(self._least(once.rank))
        self._things[name] = (now + seconds, now, once)
        self._of.setdefault(once.address, tuple({} for _ in RANKS))[once.rank][name] = None

    def _least(self, rank: int) -> str:
        """Return the name of the thing that makes room for one of that rank."""
        heaviest = max(self._of.values(), key=lambda ranks: sum(map(len, ranks)))
        if sum(map(len, heaviest)) * LARGEST_SHARE > self._most:
            return next(name for names in heaviest for name in names)
        for lower in range(rank + 1):
            most = max((ranks[lower] for ranks in self._of.values()), key=len)
            if most:
                return next(iter(most))
        raise TooManyRequests("the store is full")

    def take(self, name: str, owner: str) -> tuple[bytes, float]:
        """Return what was put, and when; remember of it only that it was taken."""
        found = self.look(name, owner)
        self.spend(name)
        return found

    def look(self, name: str, owner: str) -> tuple[bytes, float]:
        """Return what was put, and when."""
        expires, put, once = self._things.get(name, (0.0, 0.0, None))
        gone, taker = self._taken.get(name, (0.0, ""))
        whose = once.owner if once else taker
        if (once or gone > self._clock()) and not compare_digest(whose, owner):
            raise FlowForeign("the cookie of another flow")
        if once and expires > self._clock():
            return once.sealed, put
        raise FlowTaken("just now") if gone > self._clock() else FlowUnknown("nothing waits under it")

    def get(self, name: str) -> bytes | None:
        """Return what was put, whoever asks."""
        expires, _, once = self._things.get(name, (0.0, 0.0, None))
        return once.sealed if once and expires > self._clock() else None

    def spend(self, name: str) -> None:
        """Take a thing whose owner was compared before."""
        if name not in self._things:
            return
        now, owner = self._clock(), self._things[name][2].owner
        while self._taken and (oldest := next(iter(self._taken))):
            if self._taken[oldest][0] > now and len(self._taken) < self._most:
                break
            del self._taken[oldest]
        self._taken[name] = now + TAKEN_SECONDS, owner
        self.drop(name)

    def drop(self, name: str) -> None:
        """Forget a thing."""
        if found := self._things.pop(name, None):
            once = found[2]
            del self._of[once.address][once.rank][name]
            if not any(self._of[once.address]):
                del self._of[once.address]


class Marks:
    """Sign-outs of the last minutes, in memory; of too many the oldest is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin empty; `clock` counts seconds since 1970."""
        self._clock = clock
        self._at: dict[MarkKind, dict[str, float]] = {"person": {}, "sid": {}, "browser": {}}

    def set(self, kind: MarkKind, name: str) -> None:
        """Remember a sign-out."""
        marks, now = self._at[kind], self._clock()
        marks.pop(name, None)
        while marks and (len(marks) >= MOST_MARKS or marks[next(iter(marks))] < now - MARK_SECONDS):
            del marks[next(iter(marks))]
        marks[name] = now

    def stop(self, spend: Spend) -> bool:
        """Tell whether a sign-out came after a sign-in began."""
        return any(name in self._at[kind] and self._at[kind][name] >= spend.begun for kind, name in spend.marks)


class EmbeddedStore:
    """SQLite in a file of its own, for one process; opened on first use.

    It is asked on the event loop: a look-up by key takes less time than the way to a thread and back.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Keep records in the file `path`, which is made for its owner alone; `clock` counts seconds since 1970."""
        self._path = path
        self._clock = clock
        self._opened: sqlite3.Connection | None = None
        self._once = defaultdict[str, OneTime](lambda: OneTime(clock=clock))
        self._marks = Marks(clock)
        self._joins: dict[str, str] = {}
        self._tabs: dict[str, dict[str, None]] = {}
        """Keys of tabs by session; the one that connected last comes last."""
        self._limits: dict[tuple[int, float], Limit] = {}

    async def start(self, start: Start) -> Started:
        """Add a session; end other people's in its browser; forget what is long over."""
        record, join = start.record, start.join
        with self._transaction() as db:
            for (over,) in db.execute(
                "DELETE FROM sessions WHERE ends < ? RETURNING reference", (start.now,)
            ).fetchall():
                self._tabs.pop(over, None)
                self._joins.pop(over, None)
                db.execute("DELETE FROM handles WHERE reference = ?", (over,))
            db.execute("DELETE FROM ended WHERE until < ?", (start.now,))
            db.execute("DELETE FROM handles WHERE until <= ?", (self._clock(),))
            self._pass(start.spend)
            for name in join.follow if join else ():
                if joined := self._once["join"].get(name):
                    return Started(joined=(name, joined))
            gone, twins = self._others(db, start)
            row = *astuple(record), bool(twins)
            db.execute(f"INSERT INTO sessions ({_FIELDS}, twin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
            self._add(db, record, start.handle)
        self._once["ticket"].spend(start.spend.ticket)  # in memory; nothing waits between this and the commit
        if join:
            self._once["join"].put(join.name, Once("", "", join.sealed), join.seconds)
            self._joins[record.reference] = join.name
        return Started(gone, twins)

    def _others(self, db: sqlite3.Connection, start: Start) -> tuple[list[Gone], list[str]]:
        """End what other people have in the browser, and mark what the person has as twins.

        The browser has their cookie until it presents the new one.
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

    @staticmethod
    def _add(db: sqlite3.Connection, record: Record, handle: Handle) -> None:
        row = handle.name, record.reference, handle.sealed, record.ends
        db.execute("INSERT INTO handles (name, reference, sealed, until) VALUES (?, ?, ?, ?)", row)

    def _pass(self, spend: Spend) -> None:
        """Raise, so that the transaction is undone, where a sign-in does not get through."""
        if spend.ticket and self._once["ticket"].get(spend.ticket) is None:
            raise FlowTaken("just now")
        if self._marks.stop(spend):
            raise SignedOutMeanwhile()

    async def find(self, name: str, *, presented: bool = True) -> Found | None:
        """Return a session by a handle."""
        with self._translated():
            row = self._db.execute(_FIND, (name, self._clock())).fetchone()
            if row is None:
                return None
            data_key, next_, twin, *record = row
            if twin and presented:
                now = self._clock(), record[0]
                self._db.execute("UPDATE sessions SET presented = ? WHERE reference = ?", now)
        if presented and (join := self._joins.pop(record[0], None)):
            self._once["join"].drop(join)  # the browser has its value now
        return Found(data_key, next_, Record(*record))

    async def read(self, reference: str) -> Record | str:
        """Return a record, or why it ended."""
        with self._translated():
            row = self._db.execute(_READ, (reference,)).fetchone()
            return Record(*row) if row else self._why(reference)

    async def version(self, reference: str) -> int | str:
        """Return the version of a record, or why it ended."""
        with self._translated():
            row = self._db.execute(_VERSION, (reference,)).fetchone()
            if row is None:
                return self._why(reference)
        return row[0] if isinstance(row[0], int) else -1  # somebody wrote another type into the file

    def _why(self, reference: str) -> str:
        row = self._db.execute("SELECT why FROM ended WHERE reference = ?", (reference,)).fetchone()
        return str(row[0]) if row else ""

    async def replace(self, record: Record, version: int) -> bool:
        """Write a record if its `version` is still there."""
        with self._transaction() as db:
            written = db.execute(_REPLACE, (record.reference, record.version, record.sealed, version))
            return written.rowcount == 1

    async def renew(self, record: Record, version: int, successor: Successor | None, spend: Spend = NOTHING) -> bool:
        """Write a whole record if its `version` is still there."""
        reference, now = record.reference, self._clock()
        with self._transaction() as db:
            if db.execute(_REPLACE, (reference, record.version, record.sealed, version)).rowcount != 1:
                return False
            indexes = record.ends, record.person, record.sid, record.browser, reference
            db.execute("UPDATE sessions SET ends = ?, person = ?, sid = ?, browser = ? WHERE reference = ?", indexes)
            if successor:
                until = now + successor.seconds
                db.execute("UPDATE handles SET until = min(until, ?) WHERE reference = ?", (until, reference))
                db.execute("DELETE FROM handles WHERE reference = ? AND until <= ?", (reference, now))
                db.execute("UPDATE handles SET next = ? WHERE name = ?", (successor.sealed, successor.before))
                self._add(db, record, successor.handle)
            self._pass(spend)
        self._once["ticket"].spend(spend.ticket)
        return True

    async def end(
        self, references: Sequence[str], until: float, why: str, marks: Sequence[tuple[MarkKind, str]] = ()
    ) -> list[Gone]:
        """End records."""
        for mark in marks:
            self._marks.set(*mark)
        with self._transaction() as db:
            return self._end(db, until, why, references)

    async def end_all(self, of: Literal["person", "sid"], values: Sequence[str], until: float, why: str) -> list[Gone]:
        """End all records with a hash in one of the indexes."""
        for value in values:
            self._marks.set(of, value)
        with self._transaction() as db:
            query = f"SELECT reference FROM sessions WHERE {of} = ? AND {of} != ''"  # noqa: S608
            found = [reference for value in values for (reference,) in db.execute(query, (value,))]
            return self._end(db, until, why, found)

    async def settle(self, references: Sequence[str], until: float, why: str) -> list[Gone]:
        """Keep the twin that was presented last."""
        with self._transaction() as db:
            query = "SELECT presented, twin FROM sessions WHERE reference = ?"
            rows = [(reference, db.execute(query, (reference,)).fetchone()) for reference in references]
            ranked = sorted([(row[0], place, ref) for place, (ref, row) in enumerate(rows) if row])
            if not ranked:
                return []
            db.execute("UPDATE sessions SET twin = 0 WHERE reference = ?", (ranked[-1][2],))
            return self._end(db, until, why, [reference for *_, reference in ranked[:-1]])

    async def sweep(self) -> None:
        """Delete the values of cookies that have ended, also from SQLite's log: they lead to those that have not."""
        with self._transaction() as db:
            swept = db.execute("DELETE FROM handles WHERE until <= ?", (self._clock() + _SOON_SECONDS,)).rowcount
        if swept:
            with self._translated():
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

    async def note_tab(self, reference: str, key: str, until: float) -> list[str]:  # noqa: ARG002
        """Remember a tab, in memory, where its states are as well."""
        tabs = self._tabs.setdefault(reference, {})
        tabs.pop(key, None)
        tabs[key] = None
        over = list(tabs)[:-SESSION_STATES]
        for one in over:
            del tabs[one]
        return over

    async def tabs(self, reference: str) -> set[str]:
        """Return a session's tabs."""
        return set(self._tabs.pop(reference, {}))

    async def announce(self, references: Sequence[str], why: str) -> None:
        """Tell nobody: there is one process."""

    async def announced(self) -> AsyncIterator[tuple[list[str], str]]:
        """Hear nothing."""
        return
        yield

    async def put(self, kind: str, name: str, once: Once, seconds: float) -> None:
        """Keep something for one use, in memory: it need not survive a restart."""
        self._once[kind].put(name, once, seconds)

    async def take(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Take what was put; on the event loop and without waiting, so nothing is taken twice."""
        return self._once[kind].take(name, owner)

    async def look(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Look at what was put."""
        return self._once[kind].look(name, owner)

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
                self._let_go()
            raise StoreUnavailable(getattr(why, "sqlite_errorname", type(why).__name__)) from why


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables; those of another release's schema are dropped, and everybody signs in anew."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if version == _SCHEMA_VERSION:
        return
    if tables:
        _log.warning("the session database has schema %d, not %d: everybody signs in anew", version, _SCHEMA_VERSION)
    drop = "".join(f'DROP TABLE "{name}";' for name in tables)
    db.executescript(f"BEGIN IMMEDIATE; {drop} {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
