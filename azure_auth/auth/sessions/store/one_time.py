"""One-time entries and sign-out marks in memory, for the embedded store."""

import time
from collections.abc import Callable
from hmac import compare_digest

from azure_auth.auth.sessions.store import contract
from azure_auth.auth.sessions.store.contract import RANKS, Checks, MarkKind, OneTimeEntry
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, TooManyRequests


class OneTimeEntries:
    """The entries of one kind; `contract.Store` documents `put`, `consume` and `peek`."""

    def __init__(self, most: int = contract.MAX_ENTRIES, clock: Callable[[], float] = time.time) -> None:
        """Keep at most `most` entries; `clock` counts seconds."""
        self._most, self._clock = most, clock
        self._entries: dict[str, tuple[float, float, OneTimeEntry]] = {}
        """When each expires, when it was put, and the entry; the oldest come first."""
        self._consumed: dict[str, tuple[float, str]] = {}
        """Until when each is remembered as consumed, and its owner."""
        self._of: dict[str, tuple[dict[str, None], ...]] = {}
        """For each address and rank, the names of its entries; the oldest come first."""

    def put(self, name: str, entry: OneTimeEntry, seconds: float) -> None:
        """Keep an entry for `seconds`."""
        now = self._clock()
        while self._entries and (oldest := next(iter(self._entries))) and self._entries[oldest][0] <= now:
            self.drop(oldest)
        self.drop(name)
        if len(self._entries) >= self._most:
            self.drop(self._least(entry.rank))
        self._entries[name] = (now + seconds, now, entry)
        self._of.setdefault(entry.address, tuple({} for _ in RANKS))[entry.rank][name] = None

    def _least(self, rank: int) -> str:
        """Return the name of the entry that makes room for one of that rank."""
        heaviest = max(self._of.values(), key=lambda ranks: sum(map(len, ranks)))
        if sum(map(len, heaviest)) * contract.LARGEST_SHARE > self._most:
            return next(name for names in heaviest for name in names)
        for lower in range(rank + 1):
            most = max((ranks[lower] for ranks in self._of.values()), key=len)
            if most:
                return next(iter(most))
        raise TooManyRequests("the store is full")

    def consume(self, name: str, owner: str) -> tuple[bytes, float]:
        """Return an entry, and remember only that it was consumed."""
        found = self.peek(name, owner)
        self.use_up(name)
        return found

    def peek(self, name: str, owner: str) -> tuple[bytes, float]:
        """Return an entry, and leave it in place."""
        expires, put, entry = self._entries.get(name, (0.0, 0.0, None))
        until, consumer = self._consumed.get(name, (0.0, ""))
        if (entry or until > self._clock()) and not compare_digest(entry.owner if entry else consumer, owner):
            raise FlowForeign("the cookie of another flow")
        if entry and expires > self._clock():
            return entry.sealed, put
        raise FlowTaken("just now") if until > self._clock() else FlowUnknown("nothing waits under it")

    def get(self, name: str) -> bytes | None:
        """Return an entry's ciphertext, whoever owns it."""
        expires, _, entry = self._entries.get(name, (0.0, 0.0, None))
        return entry.sealed if entry and expires > self._clock() else None

    def use_up(self, name: str) -> None:
        """Consume an entry whose owner was checked before."""
        if name not in self._entries:
            return
        now, owner = self._clock(), self._entries[name][2].owner
        while self._consumed and (oldest := next(iter(self._consumed))):
            if self._consumed[oldest][0] > now and len(self._consumed) < self._most:
                break
            del self._consumed[oldest]
        self._consumed[name] = now + contract.CONSUMED_SECONDS, owner
        self.drop(name)

    def drop(self, name: str) -> None:
        """Delete an entry."""
        if found := self._entries.pop(name, None):
            entry = found[2]
            del self._of[entry.address][entry.rank][name]
            if not any(self._of[entry.address]):
                del self._of[entry.address]


class Marks:
    """The sign-outs of the last minutes; above `MAX_MARKS` of a kind, the oldest is forgotten."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin empty; `clock` counts seconds since 1970."""
        self._clock = clock
        self._at: dict[MarkKind, dict[str, float]] = {"person": {}, "sid": {}, "browser": {}}

    def set(self, kind: MarkKind, name: str) -> None:
        """Remember a sign-out."""
        marks, now = self._at[kind], self._clock()
        marks.pop(name, None)
        while marks and (len(marks) >= contract.MAX_MARKS or marks[next(iter(marks))] < now - contract.MARK_SECONDS):
            del marks[next(iter(marks))]
        marks[name] = now

    def reject(self, checks: Checks) -> bool:
        """Tell whether a sign-out came after a sign-in began."""
        return any(name in self._at[kind] and self._at[kind][name] >= checks.begun for kind, name in checks.marks)
