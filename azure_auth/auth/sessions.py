"""Sessions: started at a validated sign-in, found by the cookie, touched by what the person does, ended for good.

The record lies sealed in the store; a `Session` is what this process knows of it while a socket or a request of it
is open here. Whatever cannot be decided is denied.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from secrets import token_urlsafe
from typing import Any, Literal, cast
from weakref import WeakValueDictionary

from azure_auth import audit
from azure_auth.auth.identity import Identity
from azure_auth.auth.sealing import CookieKeys, SealBroken, hashed
from azure_auth.auth.store import Record, Store
from azure_auth.errors import StoreUnavailable
from azure_auth.settings import Settings

_LOOK_SECONDS = 20.0
"""How often sessions are looked at that nobody does anything with, lest a message was lost."""
_WRITE_SECONDS = 60.0
"""How often the store hears that somebody is still there."""

Ending = Literal["signed_out", "directory", "idle", "expired", "replaced", "refused"]
"""Why a session ended: `directory` when the person signed out there, `refused` when the configuration changed or its
record is not what was written.
"""


class Session:
    """A session of somebody who is connected now.

    Attributes:
        keys: What the cookie opens.
        identity: Who it is.
        browser: A hash of the browser that it was started in.
        started: When it was, in seconds since 1970.
        seen: When its person last did something.
        version: Of the record, as last read or written.
        written: The `seen` of that record.
        ended: Why it is over; None while it stands.
    """

    def __init__(self, keys: CookieKeys, version: int, sealed: dict[str, Any]) -> None:
        """Open a record.

        Args:
            keys: What the cookie opens.
            version: Of the record.
            sealed: Its contents.
        """
        self.keys = keys
        self.identity = Identity(**sealed["identity"])
        self.browser: str = sealed["browser"]
        self.started: float = sealed["started"]
        self.seen = self.written = float(sealed["seen"])
        self.version = version
        self.ended: Ending | None = None


class Sessions:
    """The sessions of the app, in one store."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        """Keep sessions in `store`, as long as `settings` allow; `clock` counts seconds since 1970."""
        self._store = store
        self._clock = clock
        self._idle = settings.session_idle.total_seconds()
        self._longest = settings.session_max.total_seconds()
        self._fingerprint = settings.fingerprint
        self._allowed_tenants = settings.allowed_tenants
        self._open: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._ended: dict[str, float] = {}
        """What this process knows to be over, and until when, whatever the store says; oldest first."""
        self._unwritten: dict[str, Ending] = {}
        """What has ended and the store could not be told of yet."""
        self._wakes: dict[str, asyncio.TimerHandle] = {}
        self._tidying: set[asyncio.Task[None]] = set()
        self.on_end: Callable[[Session], None] | None = None
        """Called at once when a session ends that somebody has open here."""
        self.on_gone: Callable[[set[str]], Awaitable[None]] | None = None
        """Called with the keys of all tabs that an ended session ever had."""

    async def start(self, identity: Identity, browser: str, replacing: str | None) -> str:
        """Start a session, always with a new id.

        Args:
            identity: Who signed in.
            browser: What tells the browser from others; a session that it had ends in the same step.
            replacing: The value of the session cookie that the browser had, if any; that session ends likewise.

        Returns:
            The value of the new cookie.

        Raises:
            StoreUnavailable: When it cannot be kept.
        """
        cookie, now = token_urlsafe(32), self._clock()
        sealed = {"identity": asdict(identity), "browser": hashed(browser), "started": now, "seen": now}
        session = Session(CookieKeys(cookie), 1, sealed)
        old = CookieKeys(replacing).reference if replacing else None
        await self._spread(await self._store.start(self._record(session, 1), old, now), "replaced")
        return cookie

    async def find(self, cookie: str) -> Session | None:
        """Return the session that a cookie stands for, or None; a session that may not go on ends here.

        Raises:
            StoreUnavailable: When that cannot be told.
        """
        keys = CookieKeys(cookie)
        if session := self._open.get(keys.reference):
            return session if await self.stands(session) else None
        record = await self._store.read(keys.reference)
        session = self._unsealed(keys, record) if record and keys.reference not in self._ended else None
        if session is None:
            if record:
                await self._store.end(keys.reference, self._until())
            return None
        session = self._open.setdefault(keys.reference, session)
        self._wake_later(session)
        if over := self._over(session):
            await self.end(session, over)
        return None if session.ended else session

    async def stands(self, session: Session) -> bool:
        """Tell whether a session goes on; asked before everything that needs one.

        Raises:
            StoreUnavailable: When that cannot be told.
        """
        if session.ended is None:
            version = await self._store.version(session.keys.reference)
            if version is None:
                self._end_here(session.keys.reference, "signed_out")
            elif version != session.version and not await self._reread(session):
                await self.end(session, "refused")
            elif over := self._over(session):
                await self.end(session, over)
        return session.ended is None

    async def reach(self) -> None:
        """Ask the store for nothing.

        Raises:
            StoreUnavailable: When it does not answer.
        """
        await self._store.version("")

    async def touch(self, session: Session) -> None:
        """Note that the person did something; the store hears of it once a minute."""
        session.seen = self._clock()
        if session.seen - session.written < _WRITE_SECONDS:
            return
        session.written = session.seen
        record = self._record(session, session.version + 1)
        if await self._store.replace(record, session.version):
            session.version = record.version
        # Else it was ended or written elsewhere meanwhile, and the next look tells which.

    async def end(self, session: Session, why: Ending) -> None:
        """End a session for good.

        Raises:
            StoreUnavailable: When the store cannot be told; here it is over all the same.
        """
        self._end_here(session.keys.reference, why)
        session.ended = session.ended or why
        await self._write_end(session.keys.reference, why)

    async def end_everywhere(self, session: Session) -> None:
        """End all sessions of the person whose session this is.

        Raises:
            StoreUnavailable: When the store cannot be told; here it is over all the same.
        """
        person = _person(session.identity)
        for other in [open_ for open_ in self._open.values() if _person(open_.identity) == person]:
            self._end_here(other.keys.reference, "signed_out")  # also if its row says that it is another's
        await self._spread(await self._store.end_all("person", person, self._until()), "signed_out")

    async def end_by_directory(self, sid: str) -> None:
        """End all sessions that belong to one of the directory's, which has ended there.

        Raises:
            StoreUnavailable: When they cannot be found.
        """
        await self._spread(await self._store.end_all("sid", hashed(sid), self._until()), "directory")

    async def joined(self, session: Session, key: str) -> None:
        """Note a tab of a session, so that its states are found when the session ends.

        Raises:
            StoreUnavailable: When it cannot be noted.
        """
        await self._store.note_tab(session.keys.reference, key, session.started + self._longest)

    async def listen(self) -> None:
        """Hear for ever what other processes end; what they say is looked up, and grants nothing."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_now_and_then())
            async for references, why in self._store.announced():
                for session in [self._open.get(name) for name in references or list(self._open)]:
                    if session:
                        await self._look(session, why)

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for session in list(self._open.values()):
                await self._look(session, "signed_out")
            for reference, why in list(self._unwritten.items()):
                await self._tidy(reference, why)

    async def _look(self, session: Session, why: str) -> None:
        with suppress(StoreUnavailable):
            if session.ended is None and await self._store.version(session.keys.reference) is None:
                self._end_here(session.keys.reference, cast("Ending", why or "signed_out"))

    async def _spread(self, references: list[str], why: Ending) -> None:
        """Let everybody know, here and in other processes, and forget what Reflex keeps of them."""
        for reference in references:
            self._end_here(reference, why)
        if references:
            await self._store.announce(references, why)
        if self.on_gone:
            for reference in references:
                await self.on_gone(await self._store.tabs(reference))

    def _until(self) -> float:
        return self._clock() + self._longest

    def _end_here(self, reference: str, why: Ending) -> None:
        for old, until in list(self._ended.items()):
            if until > self._clock():
                break
            del self._ended[old]
        self._ended[reference] = self._until()
        session = self._open.pop(reference, None)
        if session is not None and session.ended is None:
            session.ended = why
            if self.on_end:
                self.on_end(session)

    def _over(self, session: Session) -> Ending | None:
        now = self._clock()
        if now - session.started >= self._longest:
            return "expired"
        return "idle" if now - session.seen >= self._idle else None

    def _wake_later(self, session: Session) -> None:
        """Look at a session again when it may be over, for people who do nothing must be signed out too."""
        due = min(session.seen + self._idle, session.started + self._longest) - self._clock()
        reference = session.keys.reference
        if earlier := self._wakes.pop(reference, None):  # of an earlier page of the same session
            earlier.cancel()
        self._wakes[reference] = asyncio.get_running_loop().call_later(max(due, 0.0), self._wake, reference)

    def _wake(self, reference: str) -> None:
        self._wakes.pop(reference, None)
        session = self._open.get(reference)
        if session is None:
            return
        if over := self._over(session):
            self._end_here(reference, over)
            task = asyncio.get_running_loop().create_task(self._tidy(reference, over))
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)
        else:
            self._wake_later(session)

    async def _tidy(self, reference: str, why: Ending) -> None:
        with suppress(StoreUnavailable):  # it is tried again
            await self._write_end(reference, why)

    async def _write_end(self, reference: str, why: Ending) -> None:
        self._unwritten[reference] = why
        if await self._store.end(reference, self._until()):
            await self._spread([reference], why)
        self._unwritten.pop(reference, None)

    def _record(self, session: Session, version: int) -> Record:
        sealed = {
            "version": version,
            "fingerprint": self._fingerprint,
            "identity": asdict(session.identity),
            "browser": session.browser,
            "started": session.started,
            "seen": session.seen,
        }
        return Record(
            reference=session.keys.reference,
            version=version,
            ends=session.started + self._longest,
            **dict(zip(("person", "sid", "browser"), _indexes(session), strict=True)),
            sealed=session.keys.seal(json.dumps(sealed).encode()),
        )

    def _unsealed(self, keys: CookieKeys, record: Record) -> Session | None:
        """Return what a record holds, if it is as it was written and of this very configuration."""
        try:
            sealed = json.loads(keys.open(record.sealed))
        except SealBroken:
            audit.record("suspicious", reason="a session's record that is not what was written")
            return None
        if sealed["version"] != record.version or sealed["fingerprint"] != self._fingerprint:
            return None
        session = Session(keys, record.version, sealed)
        if (record.person, record.sid, record.browser) != _indexes(session):
            return None
        allowed = not self._allowed_tenants or session.identity.tenant_id in self._allowed_tenants
        return session if allowed else None

    async def _reread(self, session: Session) -> bool:
        """Take over what another process wrote; False when the record is older than ours or not what was written."""
        record = await self._store.read(session.keys.reference)
        newer = self._unsealed(session.keys, record) if record else None
        if newer is None or newer.version <= session.version:
            return False
        session.version, session.written = newer.version, newer.written
        session.seen = max(session.seen, newer.seen)
        return True


def _indexes(session: Session) -> tuple[str, str, str]:
    """Return the hashes under which a session is found besides its cookie: person, Entra's session, browser."""
    sid = session.identity.sid
    return _person(session.identity), hashed(sid) if sid else "", session.browser


def _person(identity: Identity) -> str:
    return hashed(identity.tenant_id, identity.object_id)
