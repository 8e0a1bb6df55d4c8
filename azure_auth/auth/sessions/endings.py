"""Ends sessions: in this process, in the store, in the audit trail and at other processes.

An end takes effect in this process at once. If the store does not answer, the end is saved later.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal
from weakref import WeakValueDictionary

from azure_auth import audit
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.background import Background, Timers, attempt
from azure_auth.auth.sessions.records import Records
from azure_auth.auth.sessions.sealing import tab_prefix
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import Ending, Session
from azure_auth.auth.sessions.store.contract import GRACE_SECONDS, Changed, Gone, Mark, Store
from azure_auth.errors import StoreUnavailable
from azure_auth.settings import Settings


class Endings:
    """The sessions that are in use in this process, and how they end.

    `StoreUnavailable` from a method means: the end has taken effect in this process, and saving it is retried.
    """

    def __init__(
        self, store: Store, settings: Settings, keys: ServerKeys, clock: Callable[[], float] = time.time
    ) -> None:
        """End sessions of `store`; `clock` counts seconds since 1970."""
        self._store, self._records, self._clock = store, Records(settings, keys), clock
        self._longest = settings.session_max.total_seconds()
        self._background = Background()
        self._open: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._ended: dict[str, float] = {}
        """The prefixes of the tabs of ended sessions, and until when each is remembered; oldest first."""
        self._unsaved: dict[str, Ending] = {}
        """Ended sessions that the store does not know of yet."""
        self._unsaved_sids: set[tuple[str, ...]] = set()
        """Ended sessions of Entra that the store does not know of yet."""
        self._twin_timers = Timers(self._background, self._end_twins)
        self.on_end: list[Callable[[Session], None]] = []
        """Called when a session that is in use in this process ends."""
        self.on_gone: Callable[[set[str]], Awaitable[None]] | None = None
        """Called with the keys of all tabs of an ended session."""

    async def end(self, session: Session, why: Ending) -> None:
        """End a session, in this process first."""
        self._end_here(session.reference, why)
        session.ended = session.ended or why
        marks = self._records.marks(session) if why == "signed_out" else []
        await self._save_end(session.reference, why, marks, session.identity)

    async def end_everywhere(self, session: Session) -> None:
        """End all sessions of the user whose session this is."""
        identity = session.identity
        for other in [open_ for open_ in self._open.values() if open_.identity.key == identity.key]:
            self._end_here(other.reference, "signed_out")  # also if its row names another user
            self._unsaved[other.reference] = "signed_out"
        persons = self._records.persons(identity)
        await self._background.finish(self._end_all("person", persons, "signed_out", identity))

    async def end_by_directory(self, sid: str) -> None:
        """End all sessions that belong to a session of Entra, which has ended there."""
        sids = tuple(self._records.sids(sid))
        self._unsaved_sids.add(sids)
        await self._background.finish(self._end_sids(sids))

    def is_over(self, tab_key: str) -> bool:
        """Tell whether the session of the tab with that key has ended, as far as this process knows."""
        return tab_key[:16] in self._ended

    def _until(self) -> float:
        return self._clock() + self._longest

    def _end_here(self, reference: str, why: Ending) -> None:
        now = self._clock()
        while self._ended and self._ended[oldest := next(iter(self._ended))] <= now:
            del self._ended[oldest]
        self._ended[tab_prefix(reference)] = self._until()
        session = self._open.pop(reference, None)
        if session is not None and session.ended is None:
            session.ended = why
            for callback in self.on_end:
                callback(session)

    async def _save_end(
        self, reference: str, why: Ending, marks: Sequence[Mark] = (), who: Identity | None = None
    ) -> None:
        async def save() -> None:
            await self._announce_end(await self._store.end([reference], self._until(), why, marks), why, who)
            self._unsaved.pop(reference, None)

        self._unsaved[reference] = why
        await self._background.finish(save())

    async def _end_all(
        self, of: Literal["person", "sid"], values: Sequence[str], why: Ending, who: Identity | None = None
    ) -> None:
        gone = await self._store.end_all(of, values, self._until(), why)
        await self._announce_end(gone, why, who)
        for one in gone:
            self._unsaved.pop(one.reference, None)

    async def _end_sids(self, sids: tuple[str, ...]) -> None:
        await self._end_all("sid", sids, "directory")
        self._unsaved_sids.discard(sids)

    async def _retry_ends(self) -> None:
        for reference, why in list(self._unsaved.items()):  # without a mark: it would reject later sign-ins
            await attempt(self._save_end(reference, why))
        for sids in list(self._unsaved_sids):  # their mark rejects nobody: Entra does not reuse a session id
            await attempt(self._end_sids(sids))

    async def _announce_end(self, gone: Sequence[Gone], why: Ending, who: Identity | None = None) -> None:
        """Tell the audit trail, this process and the others what the store has ended; delete the tabs' states."""
        reason = "replaced" if why == "joined" else why
        for reference, person_hash in gone:
            session = self._open.get(reference)
            if identity := who or (session.identity if session else None):
                audit.record("signed_out", person=identity.key, reason=reason)
            else:
                audit.record("signed_out", reason=reason, person_hash=person_hash)
            self._end_here(reference, why)
        if gone:
            await self._store.send(Changed([one.reference for one in gone]))
        if self.on_gone:
            for one in gone:
                await attempt(self.on_gone(await self._store.tabs(one.reference)))

    async def _end_twins(self, twins: tuple[str, ...]) -> None:
        """End all of a user's sessions in one browser but the one that the browser uses."""
        try:
            gone = await self._store.end_twins(twins, self._until(), "joined")
        except StoreUnavailable:
            self._twin_timers.set(twins, GRACE_SECONDS)
        else:
            await self._announce_end(gone, "joined")
