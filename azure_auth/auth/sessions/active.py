"""Finds and checks sessions, and saves what their users do.

Tasks and processes update a record concurrently, so every write compares versions. A record is a rollback if its
version is lower than the one that this process had before it asked; the session then ends. Without an answer from the
store, access is denied. The module is above 200 lines because a check, a timer and a message all lead to `is_active`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import cast, get_args
from weakref import finalize

from azure_auth import audit
from azure_auth.auth.sessions.background import Timers, attempt
from azure_auth.auth.sessions.endings import Endings
from azure_auth.auth.sessions.sealing import Seal, SealBroken, SessionKeys, handle_of, tab_prefix
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import MAX_TRIES, Ending, Held, Session, opened
from azure_auth.auth.sessions.store.contract import Changed, Record, Store, TabWanted
from azure_auth.errors import StoreUnavailable
from azure_auth.settings import Settings

_CHECK_SECONDS = 20.0
"""How often open sessions are checked in the store, in case a message between processes was lost."""
_WRITE_SECONDS = 60.0
"""How often a user's last activity is written to the store."""


class ActiveSessions(Endings):
    """Sessions that exist already. What asks the store raises `StoreUnavailable` if that does not answer."""

    def __init__(
        self, store: Store, settings: Settings, keys: ServerKeys, clock: Callable[[], float] = time.time
    ) -> None:
        """Find sessions in `store`, as long as `settings` allow; `clock` counts seconds since 1970."""
        super().__init__(store, settings, keys, clock)
        self._idle = settings.session_idle.total_seconds()
        self._expiry_timers = Timers(self._background, self._check_expiry)
        self._save_timers = Timers(self._background, self._save_later)
        self.on_outdated: list[Callable[[Session], None]] = []
        """Called when cookie values of a session that is in use in this process may have expired."""
        self.on_asked: Callable[[str, str], None] | None = None
        """Called with the key of a tab that may be connected to this process, and with the socket that asks."""

    async def find(self, value: str, *, joined: bool = False) -> Held | None:
        """Return the session of a cookie value, or None. A session that expired or is not accepted is ended.

        The value is not trusted. `joined`: it comes from a parallel sign-in, through the store, not from the browser.
        """
        handle = handle_of(value).name
        found = await self._store.find(handle, presented=not joined)
        if found is None:
            return None
        record = found.record
        if tab_prefix(record.reference) in self._ended:  # saving its end failed, or somebody restored the row
            await self._save_end(record.reference, self._unsaved.get(record.reference, "refused"))
            return None
        try:
            keys = opened(record.reference, value, found.data_key)
            next_ = Seal("next", handle, value.encode()).open(found.next).decode() if found.next else ""
        except SealBroken:
            audit.record("suspicious", reason="a session's handle that is not what was written")
            return None
        session = await self._session(keys, record)
        if session and (over := self._expiry(session)):
            await self.end(session, over)
        return Held(session, handle, next_) if session and self.admits(session, handle) else None

    async def _session(self, keys: SessionKeys, record: Record) -> Session | None:
        """Return the session of a record, which is checked again if it is open already."""
        if session := self._open.get(record.reference):
            return session if session.version == record.version or await self.is_active(session) else None
        if session := self._records.session(keys, record):
            self._open[record.reference] = session
            finalize(session, self._cancel_timers, record.reference)
            self._set_expiry_timer(session)
        else:
            await self._save_end(record.reference, "refused")
        return session

    async def is_active(self, session: Session, handle: str | None = None) -> bool:
        """Check in the store that a session, and a cookie value if given, is valid. Called before every event."""
        if session.ended is None:
            before = session.version  # another task may apply a newer one while this one waits
            version = await self._store.version(session.reference)
            if isinstance(version, str):
                self._end_here(session.reference, self._reason(session, version))
            elif version != before and not await self._reread(session, version, before):
                await self.end(session, "refused")
            elif over := self._expiry(session):
                await self.end(session, over)
        return self.admits(session, handle) if handle else session.ended is None

    async def _reread(self, session: Session, version: int, before: int) -> bool:
        """Apply a record that another process wrote. Return False if it is a rollback or is not accepted."""
        record = await self._store.read(session.reference) if version > before else None
        if isinstance(record, str):
            self._end_here(session.reference, self._reason(session, record))
            return True
        newer = self._records.session(session.keys, record) if record else None
        if newer is None or newer.version < before:
            return False
        session.apply(newer.version, newer.record(), self._clock())
        self._refresh(session)
        return True

    def admits(self, session: Session, handle: str) -> bool:
        """Tell whether a session and a value of its cookie are valid, as far as this process knows."""
        return session.ended is None and session.admits(handle, self._clock())

    def _expiry(self, session: Session) -> Ending | None:
        now = self._clock()
        if now - session.started >= self._longest:
            return "expired"
        return "idle" if now - session.last_activity >= self._idle else None

    def _reason(self, session: Session, why: str) -> Ending:
        """Return why a session ended that is gone from the store; one that is lost without a trace is refused."""
        return cast("Ending", why) if why in get_args(Ending) else self._expiry(session) or "refused"

    async def touch(self, session: Session) -> None:
        """Record activity of the user. It is written to the store within `_WRITE_SECONDS`, and not more often."""
        session.last_activity = self._clock()
        wait = min(_WRITE_SECONDS, self._idle / 4) - (session.last_activity - session.last_saved)
        if wait <= 0:
            await self._save_activity(session)
        elif session.reference not in self._save_timers:
            self._save_timers.set(session.reference, wait)

    async def _save_activity(self, session: Session) -> None:
        """Write the last activity. If another process wrote first, apply its record and try again."""
        self._save_timers.cancel(session.reference)
        before, session.last_saved = session.last_saved, session.last_activity
        try:
            for _ in range(MAX_TRIES):
                version, record = session.version, session.record()
                if await self._store.replace(self._records.row(session, version + 1, record), version):
                    session.apply(version + 1, record, self._clock())
                    return
                if not await self.is_active(session):
                    return
        except StoreUnavailable:
            session.last_saved = before  # the next activity tries again
            raise

    async def _save_later(self, reference: str) -> None:
        session = self._open.get(reference)
        if session and session.ended is None and session.last_activity > session.last_saved:
            await self._save_activity(session)

    def _refresh(self, session: Session) -> None:
        """Apply the deadlines of a new record."""
        self._set_expiry_timer(session)
        for callback in self.on_outdated:
            callback(session)

    def _set_expiry_timer(self, session: Session) -> None:
        """Check a session again when it, or a value of its cookie, may expire."""
        now = self._clock()
        ends = min(session.last_activity + self._idle, session.started + self._longest)
        deadlines = [deadline for deadline in session.handles.values() if deadline is not None and deadline > now]
        self._expiry_timers.set(session.reference, min([ends, *deadlines]) - now)

    def _cancel_timers(self, reference: str) -> None:
        self._expiry_timers.cancel(reference)
        self._save_timers.cancel(reference)

    async def _check_expiry(self, reference: str) -> None:
        """Apply a deadline, unless another process has prolonged the session."""
        session = self._open.get(reference)
        try:
            if session is None or not await self.is_active(session):
                return
        except StoreUnavailable:
            self._expiry_timers.set(reference, _CHECK_SECONDS)
        else:
            self._refresh(session)
            await self._store.sweep()

    async def listen(self) -> None:
        """Listen to other processes until cancelled. A message only triggers a check; it is never trusted by itself."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check_regularly())
            async for message in self._store.receive():
                if isinstance(message, Changed):
                    await self._check(message.references)
                elif self.on_asked:
                    self.on_asked(*message)

    async def _check_regularly(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            await self._check()
            await self._retry_ends()

    async def _check(self, references: Sequence[str] = ()) -> None:
        """Check the open sessions with these references, or all."""
        for session in [self._open.get(reference) for reference in references or list(self._open)]:
            if session:
                await attempt(self.is_active(session))

    async def ping(self) -> None:
        """Call the store for nothing, to learn whether it answers."""
        await self._store.version("")

    async def register_tab(self, session: Session, key: str) -> list[str]:
        """Note a tab of a session, as `Store.note_tab` does."""
        return await self._store.note_tab(session.reference, key, session.started + self._longest)

    async def ask_for(self, tab_key: str, asking: str) -> None:
        """Ask the process that has a tab whether its client still answers; `asking` is the socket that wants it."""
        await self._store.send(TabWanted(tab_key, asking))
