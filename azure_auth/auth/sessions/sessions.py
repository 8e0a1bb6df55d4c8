"""Starts, finds, renews and ends sessions.

Records are encrypted in the store. Tasks and processes update them concurrently, so every write compares versions. A
record is a rollback if its version is lower than the one that this process had before it asked; the session then ends.
Without an answer from the store, access is denied.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast, get_args
from weakref import WeakValueDictionary, finalize

from azure_auth import audit
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.records import Arrival, Records
from azure_auth.auth.sessions.sealing import Seal, SealBroken, handle_of, tab_prefix
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import GRACE_SECONDS, Ending, Held, Session, opened
from azure_auth.auth.sessions.store.contract import (
    Changed,
    Gone,
    Join,
    MarkKind,
    Record,
    Start,
    Store,
    Successor,
    TabWanted,
)
from azure_auth.errors import StoreUnavailable
from azure_auth.settings import Settings

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_LOOK_SECONDS = 20.0
"""How often open sessions are checked in the store, in case a message between processes was lost."""
_WRITE_SECONDS = 60.0
"""How often a user's last activity is written to the store."""
_KEY_SECONDS = 7 * 24 * 3600.0
"""The maximum age of a data key; the next sign-in after that starts a new session."""
_TRIES = 10


_UNKNOWN = Arrival()


class Sessions:
    """The sessions of the app, in one store."""

    def __init__(
        self, store: Store, settings: Settings, keys: ServerKeys, clock: Callable[[], float] = time.time
    ) -> None:
        """Keep sessions in `store`, as long as `settings` allow; `clock` counts seconds since 1970."""
        self._store = store
        self._records = Records(settings, keys)
        self._clock = clock
        self._idle = settings.session_idle.total_seconds()
        self._longest = settings.session_max.total_seconds()
        self._open: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._ended: dict[str, float] = {}
        """The prefixes of the tabs of sessions that are over, and until when that is remembered; oldest first."""
        self._unwritten: dict[str, Ending] = {}
        """What has ended and the store could not be told of yet."""
        self._unwritten_sids: set[tuple[str, ...]] = set()
        """Sessions of Entra's that have ended and the store could not be told of yet."""
        self._wakes: dict[str, asyncio.TimerHandle] = {}
        self._writes: dict[str, asyncio.TimerHandle] = {}
        self._settling: set[asyncio.TimerHandle] = set()
        self._tidying: set[asyncio.Task[None]] = set()
        self._working: set[asyncio.Task[Any]] = set()
        self.on_end: list[Callable[[Session], None]] = []
        """Called when a session that is in use in this process ends."""
        self.on_outdated: list[Callable[[Session], None]] = []
        """Called when cookie values of a session that is in use in this process may have expired."""
        self.on_asked: Callable[[str, str], None] | None = None
        """Called with the key of a tab of which a process asks whether it is connected, and with who asks."""
        self.on_gone: Callable[[set[str]], Awaitable[None]] | None = None
        """Called with the keys of all tabs of an ended session."""

    async def start(self, identity: Identity, browser: str, presented: str | None, arrival: Arrival = _UNKNOWN) -> str:
        """Give somebody who signed in a session: the one that stands in their browser, else a new one.

        The cookie's value is new, but for one that was made within `GRACE_SECONDS`. Another user's sessions in the
        browser end in the same step.

        Args:
            identity: Who signed in.
            browser: The browser's name; empty where it has none.
            presented: The value of the session cookie that the browser had, if any.
            arrival: What the sign-in brings.

        Returns:
            The value of the new cookie.

        Raises:
            FlowTaken: When the ticket was spent already.
            SignedOutMeanwhile: When the person signed out after the flow had begun.
            StoreUnavailable: When the session cannot be kept; the ticket is not spent then.
        """
        return await self._whole(self._start(identity, browser, presented, arrival))

    async def _start(self, identity: Identity, browser: str, presented: str | None, arrival: Arrival) -> str:
        joins = {seal.name: seal for seal in (Seal.of("join", binding) for binding in arrival.bindings)}
        joined = False
        for _ in range(_TRIES):
            held = await self.find(presented, joined=joined) if presented else None
            if held and held.session.identity.key == identity.key and self._is_young(held.session):
                async with held.session.renewing:
                    value = await self._renew(held, presented or "", identity, browser, arrival)
                if value:
                    return value
                continue  # it ended, or was written, meanwhile
            value, start = self._new(identity, browser, arrival)
            if joins:
                own, follow = next(iter(joins.values())), [] if joined or held else list(joins)
                start = replace(start, join=Join(own.name, own.seal(value.encode()), GRACE_SECONDS, follow))
            if held:
                start = replace(start, others=[held.session.reference])
            started = await self._store.start(start)
            if started.joined:
                joined = True  # if the session that it leads to has ended, the next attempt starts another
                name, sealed = started.joined
                with suppress(SealBroken, KeyError):
                    presented = joins[name].open(sealed).decode()
                continue
            await self._spread(started.gone, "replaced")
            if started.twins:
                self._settle_later([*started.twins, start.record.reference])
            return value
        raise StoreUnavailable("a session that others write all the time")

    async def find(self, value: str, *, joined: bool = False) -> Held | None:
        """Return the session of a cookie value, or None. A session that expired or is not accepted is ended.

        Args:
            value: The cookie value of a request; not trusted.
            joined: Whether the value comes from a parallel sign-in, through the store, and not from the browser.

        Raises:
            StoreUnavailable: When that cannot be told.
        """
        handle = handle_of(value).name
        found = await self._store.find(handle, presented=not joined)
        if found is None:
            return None
        record = found.record
        if tab_prefix(record.reference) in self._ended:  # the store could not be told, or somebody put the row back
            await self._write_end(record.reference, self._unwritten.get(record.reference, "refused"))
            return None
        try:
            keys = opened(record.reference, value, found.data_key)
            next_ = Seal("next", handle, value.encode()).open(found.next).decode() if found.next else ""
        except SealBroken:
            audit.record("suspicious", reason="a session's handle that is not what was written")
            return None
        session = self._open.get(record.reference)
        if session is None:
            if (session := self._records.session(keys, record)) is None:
                await self._refuse(record)
                return None
            self._open[record.reference] = session
            finalize(session, self._sleep, record.reference)
            self._wake_later(session)
        elif session.version != record.version and not await self.is_active(session):
            return None
        if over := self._over(session):
            await self.end(session, over)
        return Held(session, handle, next_) if self.admits(session, handle) else None

    async def is_active(self, session: Session, handle: str | None = None) -> bool:
        """Check in the store that a session, and a cookie value if given, is valid. Called before every event.

        Raises:
            StoreUnavailable: When that cannot be told.
        """
        if session.ended is None:
            before = session.version  # another task may take over a newer one while this one waits
            version = await self._store.version(session.reference)
            if isinstance(version, str):
                self._end_here(session.reference, self._reason(session, version))
            elif version != before and not await self._reread(session, version, before):
                await self.end(session, "refused")
            elif over := self._over(session):
                await self.end(session, over)
        return self.admits(session, handle) if handle else session.ended is None

    async def ping(self) -> None:
        """Ask the store for nothing.

        Raises:
            StoreUnavailable: When it does not answer.
        """
        await self._store.version("")

    async def touch(self, session: Session) -> None:
        """Record activity of the user. It is written to the store within `_WRITE_SECONDS`, and not more often."""
        session.seen = self._clock()
        wait = min(_WRITE_SECONDS, self._idle / 4) - (session.seen - session.written)
        if wait <= 0:
            await self._write_seen(session)
        elif session.reference not in self._writes:
            reference = session.reference
            timer = asyncio.get_running_loop().call_later(wait, self._write_later, reference)
            self._writes[reference] = timer

    async def end(self, session: Session, why: Ending) -> None:
        """End a session, in this process first.

        Raises:
            StoreUnavailable: When the store cannot be written; the write is retried. In this process it has ended.
        """
        self._end_here(session.reference, why)
        session.ended = session.ended or why
        marks = self._records.marks(session) if why == "signed_out" else []
        await self._write_end(session.reference, why, marks, session.identity)

    async def end_everywhere(self, session: Session) -> None:
        """End all sessions of the person whose session this is.

        Raises:
            StoreUnavailable: When the store cannot be told; here it is over all the same.
        """
        identity = session.identity
        for other in [open_ for open_ in self._open.values() if open_.identity.key == identity.key]:
            self._end_here(other.reference, "signed_out")  # also if its row says that it is another's
            self._unwritten[other.reference] = "signed_out"
        await self._whole(self._end_all("person", self._records.persons(identity), "signed_out", identity))

    async def end_by_directory(self, sid: str) -> None:
        """End all sessions that belong to one of the directory's, which has ended there.

        Raises:
            StoreUnavailable: When they cannot be found.
        """
        sids = tuple(self._records.sids(sid))
        self._unwritten_sids.add(sids)
        await self._whole(self._end_sids(sids))

    async def register_tab(self, session: Session, key: str) -> list[str]:
        """Note a tab of a session, so that its states are found when the session ends.

        Returns:
            The keys of tabs that are noted no more, because `SESSION_STATES` have come since.

        Raises:
            StoreUnavailable: When it cannot be noted.
        """
        return await self._store.note_tab(session.reference, key, session.started + self._longest)

    async def ask_for(self, tab_key: str, asking: str) -> None:
        """Ask the process that has a tab whether its client still answers; `asking` is the socket that wants it."""
        await self._store.send(TabWanted(tab_key, asking))

    def admits(self, session: Session, handle: str) -> bool:
        """Tell whether a session and a value of its cookie count, as far as this process knows."""
        return session.ended is None and session.admits(handle, self._clock())

    def is_over(self, tab_key: str) -> bool:
        """Tell whether the session of the tab with that key has ended, as far as this process knows."""
        return tab_key[:16] in self._ended

    async def listen(self) -> None:
        """Listen to other processes for ever. A message only triggers a look-up; it is never trusted by itself."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_now_and_then())
            async for message in self._store.receive():
                if isinstance(message, Changed):
                    await self._look([self._open.get(name) for name in message.references or list(self._open)])
                elif self.on_asked:
                    self.on_asked(*message)

    def _new(self, identity: Identity, browser: str, arrival: Arrival) -> tuple[str, Start]:
        """Return the first cookie value of a new session, and the request that starts it in the store."""
        now = self._clock()
        session, value, handle = Session.begun(identity, arrival.asked or now, self._records.browser(browser), now)
        start = Start(
            self._records.row(session, 1, session.touched()),
            handle,
            self._records.checks(identity, browser, arrival),
            self._records.persons(identity),
            self._records.browsers(browser, arrival.left),
        )
        return value, start

    async def _renew(
        self, held: Held, presented: str, identity: Identity, browser: str, arrival: Arrival
    ) -> str | None:
        """Renew a session after a repeated sign-in. Return its newest cookie value, or None if it has to be retried."""
        session, now = held.session, self._clock()
        version = session.version
        record, renewal = session.renewed(identity, arrival.asked or now, self._records.browser(browser), now)
        successor = None
        newest = presented if session.handles.get(held.handle, 0.0) is None else held.next
        if not renewal and not newest:
            return None  # another exchange has just made the newest value: the next look has it
        if renewal:
            sealed = Seal("next", held.handle, presented.encode()).seal(renewal.value.encode())
            successor = Successor(renewal.handle, held.handle, sealed, GRACE_SECONDS)
        row = self._records.row(session, version + 1, record)
        if not await self._store.renew(row, version, successor, self._records.checks(identity, browser, arrival)):
            await self.is_active(session)
            return None
        session.take_over(version + 1, record, now)
        self._refresh(session)
        await self._store.send(Changed([session.reference]))
        return renewal.value if renewal else newest

    async def _write_seen(self, session: Session) -> None:
        """Write the last activity. If another process wrote first, apply its record and try again."""
        self._cancel(self._writes, session.reference)
        before, session.written = session.written, session.seen
        try:
            for _ in range(_TRIES):
                version = session.version
                record = session.touched()
                if await self._store.replace(self._records.row(session, version + 1, record), version):
                    session.take_over(version + 1, record, self._clock())
                    return
                if not await self.is_active(session):
                    return
        except StoreUnavailable:
            session.written = before  # the next act tries again
            raise

    def _write_later(self, reference: str) -> None:
        self._writes.pop(reference, None)
        session = self._open.get(reference)
        if session and session.ended is None and session.seen > session.written:
            self._soon(self._write_seen(session))

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look(list(self._open.values()))
            for reference, why in list(self._unwritten.items()):  # without a mark: it would stop what began since
                await self._quietly(self._write_end(reference, why))
            for sids in list(self._unwritten_sids):  # none of them begins again
                await self._quietly(self._end_sids(sids))

    async def _look(self, sessions: Sequence[Session | None]) -> None:
        """Ask the store about sessions; whatever goes wrong with one stops nobody from looking at the next."""
        for session in filter(None, sessions):
            try:
                await self.is_active(session)
            except StoreUnavailable:  # the next look tells
                pass
            except Exception:
                _log.exception("a session could not be looked at")

    async def _spread(self, gone: Sequence[Gone], why: Ending, identity: Identity | None = None) -> None:
        """Announce ended sessions here, in the audit trail and to other processes; delete their tabs' states."""
        for one in gone:
            session = self._open.get(one.reference)
            who = identity or (session.identity if session else None)
            known = {} if who else {"person_hash": one.person}
            reason = "replaced" if why == "joined" else why
            audit.record("signed_out", person=who.key if who else None, reason=reason, **known)
            self._end_here(one.reference, why)
        if gone:
            await self._store.send(Changed([one.reference for one in gone]))
        if self.on_gone:
            for one in gone:
                await self._quietly(self.on_gone(await self._store.tabs(one.reference)))

    def _until(self) -> float:
        return self._clock() + self._longest

    def _end_here(self, reference: str, why: Ending) -> None:
        now = self._clock()
        while self._ended and self._ended[oldest := next(iter(self._ended))] <= now:
            del self._ended[oldest]
        self._ended[tab_prefix(reference)] = self._until()
        self._sleep(reference)
        session = self._open.pop(reference, None)
        if session is not None and session.ended is None:
            session.ended = why
            for heard in self.on_end:
                heard(session)

    def _over(self, session: Session) -> Ending | None:
        now = self._clock()
        if now - session.started >= self._longest:
            return "expired"
        return "idle" if now - session.seen >= self._idle else None

    def _reason(self, session: Session, why: str) -> Ending:
        """Return why a session ended that is gone from the store; one that is lost without a trace is refused."""
        return cast("Ending", why) if why in get_args(Ending) else self._over(session) or "refused"

    def _is_young(self, session: Session) -> bool:
        return self._clock() - session.since < _KEY_SECONDS

    def _refresh(self, session: Session) -> None:
        """Do what a newly written record asks for."""
        self._wake_later(session)
        for heard in self.on_outdated:
            heard(session)

    def _wake_later(self, session: Session) -> None:
        """Look at a session again when it, or a value of its cookie, may be over."""
        deadlines = [deadline for deadline in session.handles.values() if deadline is not None]
        now = self._clock()
        ends = min(session.seen + self._idle, session.started + self._longest)
        due = min([ends, *(deadline for deadline in deadlines if deadline > now)]) - now
        self._cancel(self._wakes, session.reference)
        loop = asyncio.get_running_loop()
        self._wakes[session.reference] = loop.call_later(max(due, 0.0), self._wake, session.reference)

    def _wake(self, reference: str) -> None:
        self._wakes.pop(reference, None)
        if session := self._open.get(reference):
            self._soon(self._review(session))

    async def _review(self, session: Session) -> None:
        """At a deadline, ask the store, since another process may have prolonged the session; then apply expiry."""
        try:
            if not await self.is_active(session):
                return
        except StoreUnavailable:
            loop = asyncio.get_running_loop()
            self._wakes[session.reference] = loop.call_later(_LOOK_SECONDS, self._wake, session.reference)
        else:
            self._refresh(session)
            with suppress(StoreUnavailable):
                await self._store.sweep()

    def _sleep(self, reference: str) -> None:
        """Cancel the timers of a session that nobody has open here any more."""
        self._cancel(self._wakes, reference)
        self._cancel(self._writes, reference)

    @staticmethod
    def _cancel(timers: dict[str, asyncio.TimerHandle], reference: str) -> None:
        if timer := timers.pop(reference, None):
            timer.cancel()

    def _settle_later(self, twins: Sequence[str]) -> None:
        """After `GRACE_SECONDS`, end all of a user's sessions in one browser but the one that the browser uses."""

        def settle() -> None:
            self._settling.discard(timer)
            self._soon(self._settle(twins))

        timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, settle)
        self._settling.add(timer)

    async def _settle(self, twins: Sequence[str]) -> None:
        try:
            gone = await self._store.end_twins(twins, self._until(), "joined")
        except StoreUnavailable:
            self._settle_later(twins)
        else:
            await self._spread(gone, "joined")

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._quietly(work))
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    async def _whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something to its end, also when whoever waits for it is cancelled: what it did is still told."""
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)
        return await asyncio.shield(task)

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain when nobody waits any more

    @staticmethod
    async def _quietly(work: Awaitable[None]) -> None:
        try:
            await work
        except StoreUnavailable:  # it is tried again, or found out at the next look
            pass
        except Exception:
            _log.exception("a session could not be looked after")

    async def _write_end(
        self,
        reference: str,
        why: Ending,
        marks: Sequence[tuple[MarkKind, str]] = (),
        identity: Identity | None = None,
    ) -> None:
        self._unwritten[reference] = why
        await self._whole(self._end_and_tell(reference, why, marks, identity))

    async def _end_and_tell(
        self, reference: str, why: Ending, marks: Sequence[tuple[MarkKind, str]], identity: Identity | None
    ) -> None:
        gone = await self._store.end([reference], self._until(), why, marks)
        await self._spread(gone, why, identity)
        self._unwritten.pop(reference, None)

    async def _end_all(
        self, of: Literal["person", "sid"], values: Sequence[str], why: Ending, identity: Identity | None = None
    ) -> None:
        gone = await self._store.end_all(of, values, self._until(), why)
        await self._spread(gone, why, identity)
        for one in gone:
            self._unwritten.pop(one.reference, None)

    async def _end_sids(self, sids: tuple[str, ...]) -> None:
        await self._end_all("sid", sids, "directory")
        self._unwritten_sids.discard(sids)

    async def _refuse(self, record: Record) -> None:
        """End a session whose record does not count."""
        await self._spread(await self._store.end([record.reference], self._until(), "refused"), "refused")

    async def _reread(self, session: Session, version: int, before: int) -> bool:
        """Apply a record that another process wrote. Return False if it is a rollback or is not accepted."""
        record = await self._store.read(session.reference) if version > before else None
        if isinstance(record, str):
            self._end_here(session.reference, self._reason(session, record))
            return True
        newer = self._records.session(session.keys, record) if record else None
        if newer is None or newer.version < before:
            return False
        session.take_over(newer.version, newer.touched(), self._clock())
        self._refresh(session)
        return True
