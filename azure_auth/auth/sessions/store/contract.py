"""What every store can do, and the data that passes between a store and the rest of the app.

A store sees ciphertexts, hashes, versions and times; it can decrypt nothing. It compares versions, so that one of two
concurrent writers loses. What must be atomic, such as using up a ticket and starting its session, is one method. Every
method raises `StoreUnavailable` if the store does not answer. The module is above 200 lines because the contract is
documented here once, and the implementations do not repeat it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

MAX_ENTRIES = 20_000
"""The maximum number of one-time entries of each kind."""
LARGEST_SHARE = 4
"""An address with more than one in so many of the entries of a kind has more than its share."""
OVER, WAITING, KNOWN = RANKS = range(3)
"""Ranks of one-time entries. OVER: the outcome of a failed sign-in. WAITING: a flow. KNOWN: the ticket of a successful
sign-in, or a flow of a browser that has completed a sign-in before. When a kind is full, an address that has more than
its share loses the oldest of its own lowest rank. If none has, the lowest rank of all goes: the oldest of the address
that has most of it."""
CONSUMED_SECONDS = 40.0
"""How long the store remembers that an entry was consumed; longer than redeeming a code may take."""
MARK_SECONDS = 700.0
"""How long a sign-out is remembered: longer than a flow, its redemption and its ticket may last."""
MAX_MARKS = 10_000
"""The maximum number of remembered sign-outs of each kind."""

MarkKind = Literal["person", "sid", "browser"]
"""Whose sign-out is remembered: a person's everywhere, of one of Entra's sessions, or a person's in one browser."""


@dataclass(frozen=True, slots=True)
class Record:
    """A session as the store sees it.

    Attributes:
        reference: The session's random id.
        version: Goes up with each write.
        ends: When the row may be deleted, in seconds since 1970. The encrypted times decide whether it has expired.
        person: A keyed hash of the user.
        sid: A keyed hash of Entra's session id; empty if there is none.
        browser: A keyed hash of the name of the browser that it was started in; empty if it had none.
        sealed: The rest, encrypted under the session's data key.
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
    """What one value of the session cookie leads to.

    Attributes:
        name: A hash of the value.
        sealed: The session's data key, encrypted under the value.
    """

    name: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What a handle leads to.

    Attributes:
        data_key: The session's data key, encrypted.
        next: The value that replaced this one, encrypted under this one; empty for the newest.
        record: The session.
    """

    data_key: bytes
    next: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Successor:
    """A new value of a session's cookie.

    Attributes:
        handle: Its handle.
        before: The name of the handle of the value that it replaces.
        sealed: The new value, encrypted under that one.
        seconds: How long all earlier values stay valid.
    """

    handle: Handle
    before: str
    sealed: bytes
    seconds: float


class Gone(NamedTuple):
    """A session that this very call has ended.

    Attributes:
        reference: Its id.
        person: The keyed hash of its user.
    """

    reference: str
    person: str


@dataclass(frozen=True, slots=True)
class OneTimeEntry:
    """Something that can be used once, as the store sees it.

    Attributes:
        owner: A hash of the binding in its flow's cookie; only that cookie may consume it.
        address: The client's.
        sealed: The rest, encrypted under its secret.
        rank: One of `RANKS`.
    """

    owner: str
    address: str
    sealed: bytes
    rank: int = WAITING


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a sign-in, made in the same step that starts or renews its session.

    Attributes:
        ticket: The name of its ticket, which is consumed; empty for none.
        begun: When its flow began, by the store's clock; seconds since 1970.
        marks: The sign-outs that reject it if they are not older than `begun`.
    """

    ticket: str = ""
    begun: float = 0.0
    marks: Sequence[tuple[MarkKind, str]] = ()


NO_CHECKS = Checks()


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
        handle: The handle of the first value of its cookie.
        checks: The checks of its sign-in.
        persons: All hashes of the user.
        browsers: All hashes of the browser's names, before and after.
        others: References of sessions that count as this browser's as well.
        join: An entry for parallel sign-ins in the same browser.
    """

    record: Record
    handle: Handle
    checks: Checks = NO_CHECKS
    persons: Sequence[str] = ()
    browsers: Sequence[str] = ()
    others: Sequence[str] = ()
    join: Join | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What starting a session did.

    Attributes:
        gone: Other users' sessions in the same browser, which have ended.
        twins: Sessions of the same user in the same browser, which are active beside the new one.
        joined: `name` and `sealed` of an existing `Join`, if a parallel sign-in was first; then nothing was started.
    """

    gone: Sequence[Gone] = ()
    twins: Sequence[str] = ()
    joined: tuple[str, bytes] | None = None


class SessionStore(Protocol):
    """Keeps sessions, and the keys of their tabs."""

    async def start(self, start: Start) -> Started:
        """Add a session. In the same step make its checks, and end other users' sessions in its browser.

        Raises:
            FlowTaken: If the ticket was consumed or has expired.
            SignedOutMeanwhile: If a sign-out came after the flow began.
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

    async def renew(self, record: Record, version: int, successor: Successor | None, checks: Checks) -> bool:
        """Replace a whole record, as `replace` does, and its cookie value. Make the checks in the same step.

        Raises:
            FlowTaken: If the ticket was consumed or has expired.
            SignedOutMeanwhile: If a sign-out came after the flow began.
        """
        ...

    async def end(
        self, references: Sequence[str], until: float, why: str, marks: Sequence[tuple[MarkKind, str]] = ()
    ) -> list[Gone]:
        """End records, and remember a sign-out in the same step. A record restored before `until` stays ended.

        Returns:
            Those that had not ended before.
        """
        ...

    async def end_all(self, of: Literal["person", "sid"], values: Sequence[str], until: float, why: str) -> list[Gone]:
        """End all records with one of these hashes likewise, and remember it as a sign-out."""
        ...

    async def end_twins(self, references: Sequence[str], until: float, why: str) -> list[Gone]:
        """Keep the twin that a browser presented last, else the last of the list; end the others."""
        ...

    async def sweep(self) -> None:
        """Delete expired cookie values."""
        ...

    async def note_tab(self, reference: str, key: str, until: float) -> list[str]:
        """Remember that a session has a tab with this key, so that its states can be deleted when the session ends.

        Returns:
            The keys of the oldest tabs, above `SESSION_STATES`; they are forgotten.
        """
        ...

    async def tabs(self, reference: str) -> set[str]:
        """Return the keys of all tabs that a session had, and forget them."""
        ...


class OneTimeStore(Protocol):
    """Keeps entries of several kinds, each to be consumed once."""

    async def put(self, kind: str, name: str, entry: OneTimeEntry, seconds: float) -> None:
        """Keep an entry for `seconds`.

        Raises:
            TooManyRequests: If the kind is full and every entry has a higher rank.
        """
        ...

    async def consume(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Return an entry's ciphertext and the time of `put`, and delete it in the same step.

        Raises:
            FlowForeign: If another browser owns it; it stays.
            FlowTaken: If it was consumed within `CONSUMED_SECONDS`.
            FlowUnknown: If it expired, was consumed before that, or never existed.
        """
        ...

    async def peek(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Return what `consume` returns, and leave the entry in place; raises what `consume` raises."""
        ...


class Counters(Protocol):
    """Counts for rate limits."""

    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        """Count once under each name, in turn, until one has reached its maximum within `seconds`.

        Returns:
            The name that is full. It and those after it are not counted. None if all had room.
        """
        ...

    async def forget(self, name: str) -> None:
        """Reset a name's count."""
        ...


class Changed(NamedTuple):
    """A message: these sessions ended or changed; without references, any may have."""

    references: Sequence[str] = ()


class TabWanted(NamedTuple):
    """A message: the socket `asking` wants to know whether the client of the tab with this key still answers."""

    tab_key: str
    asking: str


class Messages(Protocol):
    """Passes messages between the processes on one store; a message may get lost."""

    async def send(self, message: Changed | TabWanted) -> None:
        """Send a message to all processes."""
        ...

    def receive(self) -> AsyncIterator[Changed | TabWanted]:
        """Yield what all processes send, this one included."""
        ...


class Store(SessionStore, OneTimeStore, Counters, Messages, Protocol):
    """The whole store."""

    async def close(self) -> None:
        """Close files and connections."""
        ...
