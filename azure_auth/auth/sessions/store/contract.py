"""What every store can do, and the data that passes between a store and the rest of the app.

A store sees ciphertexts, hashes, versions and times; it can decrypt nothing. It compares versions, so that one of two
concurrent writers loses. What must be atomic, such as using up a ticket and starting its session, is one method. The
module is above 200 lines because the contract is documented here once, and the implementations do not repeat it.
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
GRACE_SECONDS = 30.0
"""How long an earlier value of a session's cookie stays valid after a new one was issued."""
MARK_SECONDS = 700.0
"""How long a sign-out is remembered: longer than a flow, its redemption and its ticket may last."""
MAX_MARKS = 10_000
"""The maximum number of remembered sign-outs of each kind."""

MarkKind = Literal["person", "sid", "browser"]
"""Whose sign-out is remembered: a person's everywhere, of one of Entra's sessions, or a person's in one browser."""
Mark = tuple[MarkKind, str]


@dataclass(frozen=True, slots=True)
class Record:
    """A session as the store sees it."""

    reference: str  # its random id
    version: int  # goes up with each write
    ends: float  # when the row may be deleted, in seconds since 1970; the encrypted times decide whether it has expired
    person: str  # a keyed hash of the user
    sid: str  # a keyed hash of Entra's session id; empty if there is none
    browser: str  # a keyed hash of the name of the browser that it was started in; empty if it had none
    sealed: bytes  # the rest, encrypted under the session's data key


class Handle(NamedTuple):
    """What one value of the session cookie leads to."""

    name: str  # a hash of the value
    sealed: bytes  # the session's data key, encrypted under the value


class Found(NamedTuple):
    """What a handle leads to."""

    data_key: bytes  # the session's data key, encrypted
    next: bytes  # the value that replaced this one, encrypted under this one; empty for the newest
    record: Record


class Successor(NamedTuple):
    """A new value of a session's cookie; all earlier values expire `GRACE_SECONDS` after it."""

    handle: Handle
    before: str  # the name of the handle of the value that it replaces
    sealed: bytes  # the new value, encrypted under that one


class Gone(NamedTuple):
    """A session that this very call has ended."""

    reference: str
    person: str  # the keyed hash of its user


class OneTimeEntry(NamedTuple):
    """Something that can be used once, as the store sees it."""

    owner: str  # a hash of the binding in its flow's cookie; only that cookie may consume it
    address: str  # the client's
    sealed: bytes  # the rest, encrypted under its secret
    rank: int = WAITING


class Checks(NamedTuple):
    """The checks of a sign-in, made in the same step that starts or renews its session.

    That step raises FlowTaken if the ticket was consumed or has expired, and SignedOutMeanwhile if one of the sign-outs
    came after the flow began.
    """

    ticket: str = ""  # the name of its ticket, which is consumed; empty for none
    begun: float = 0.0  # when its flow began, by the store's clock; seconds since 1970
    marks: Sequence[Mark] = ()


class Join(NamedTuple):
    """An entry that lets parallel sign-ins in one browser share one session.

    It is kept for `GRACE_SECONDS`; it is deleted earlier, when the browser first presents the value.
    """

    name: str  # derived from the binding of this flow's cookie
    sealed: bytes  # the session's first cookie value, encrypted under that binding
    follow: Sequence[str] = ()
    """Names of entries of all the browser's flow cookies. If one exists, it is returned and no session is started.
    Empty: overwrite."""


class Start(NamedTuple):
    """A session to be started."""

    record: Record
    handle: Handle  # of the first value of its cookie
    checks: Checks = Checks()
    persons: Sequence[str] = ()  # all hashes of the user
    browsers: Sequence[str] = ()  # all hashes of the browser's names, before and after
    others: Sequence[str] = ()  # references of sessions that count as this browser's as well
    join: Join | None = None


class Started(NamedTuple):
    """What starting a session did."""

    gone: Sequence[Gone] = ()  # other users' sessions in the same browser, which have ended
    twins: Sequence[str] = ()  # sessions of the same user in the same browser, which are active beside the new one
    joined: tuple[str, bytes] | None = None
    """`name` and `sealed` of an existing `Join`, if a parallel sign-in was first; then nothing was started."""


class Changed(NamedTuple):
    """A message: these sessions ended or changed; without references, any may have."""

    references: Sequence[str] = ()


class TabWanted(NamedTuple):
    """A message: the socket `asking` wants to know whether the client of the tab with this key still answers."""

    tab_key: str
    asking: str


class Store(Protocol):
    """Keeps sessions and one-time entries, counts, and passes messages between the processes.

    Every method raises `StoreUnavailable` if the store does not answer.
    """

    async def start(self, start: Start) -> Started:
        """Add a session. In the same step make its checks, and end other users' sessions in its browser."""
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
        """Replace a whole record, as `replace` does, and its cookie value. Make the checks in the same step."""
        ...

    async def end(self, references: Sequence[str], until: float, why: str, marks: Sequence[Mark] = ()) -> list[Gone]:
        """End records, and remember a sign-out in the same step; return those that had not ended before.

        A record restored before `until` stays ended.
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

        Return the keys of the oldest tabs, above `SESSION_STATES`, which are forgotten.
        """
        ...

    async def tabs(self, reference: str) -> set[str]:
        """Return the keys of all tabs that a session had, and forget them."""
        ...

    async def put(self, kind: str, name: str, entry: OneTimeEntry, seconds: float) -> None:
        """Keep an entry; raise `TooManyRequests` if the kind is full and every entry has a higher rank."""
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

    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        """Count once under each name, in turn, until one has reached its maximum within `seconds`.

        Return the name that is full; it and those after it are not counted. Return None if all had room.
        """
        ...

    async def forget(self, name: str) -> None:
        """Reset a name's count."""
        ...

    async def send(self, message: Changed | TabWanted) -> None:
        """Send a message to all processes; it may get lost."""
        ...

    def receive(self) -> AsyncIterator[Changed | TabWanted]:
        """Yield what all processes send, this one included."""
        ...

    async def close(self) -> None:
        """Close files and connections."""
        ...
