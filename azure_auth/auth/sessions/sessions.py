"""Starts and renews sessions; `active` finds and checks them, `endings` ends them."""

from contextlib import suppress

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.active import ActiveSessions
from azure_auth.auth.sessions.records import Arrival
from azure_auth.auth.sessions.sealing import Seal, SealBroken
from azure_auth.auth.sessions.session import MAX_TRIES, Held, Session
from azure_auth.auth.sessions.store.contract import GRACE_SECONDS, Changed, Checks, Join, Start, Successor
from azure_auth.errors import StoreUnavailable

_KEY_SECONDS = 7 * 24 * 3600.0
"""The maximum age of a data key; the next sign-in after that starts a new session."""
_UNKNOWN = Arrival()


class Sessions(ActiveSessions):
    """The sessions of the app, in one store."""

    async def start(self, identity: Identity, browser: str, presented: str | None, arrival: Arrival = _UNKNOWN) -> str:
        """Give a user who signed in a session, their active one in this browser or a new one, and return its cookie.

        The cookie's value is new, unless one was issued within `GRACE_SECONDS`. Another user's sessions in the browser
        end in the same step. The work goes on if the caller is cancelled. A failed check (`contract.Checks`) raises,
        and so does an unavailable store; the ticket is not consumed then. `browser` is the browser's name, or empty;
        `presented`, the value of the session cookie that it has, if any. After a sign-out it still has one.
        """
        return await self._background.finish(self._start(identity, browser, presented, arrival))

    async def _start(self, identity: Identity, browser: str, presented: str | None, arrival: Arrival) -> str:
        checks = self._records.checks(identity, browser, presented, arrival)
        joins = {seal.name: seal for seal in (Seal.of("join", binding) for binding in arrival.bindings)}
        current, joined = presented, False
        for _ in range(MAX_TRIES):
            held = await self.find(current, joined=joined) if current else None
            is_young = held is not None and self._clock() - held.session.since < _KEY_SECONDS
            if held and is_young and held.session.identity.key == identity.key:
                async with held.session.renewing:
                    newest = await self._renew(held, current or "", identity, browser, arrival.asked, checks)
                if newest:
                    return newest
                continue  # it ended or changed meanwhile
            value, start = self._new(identity, browser, arrival, checks)
            if joins:
                own, follow = next(iter(joins.values())), [] if joined or held else list(joins)
                start = start._replace(join=Join(own.name, own.seal(value.encode()), follow))
            if held:
                start = start._replace(others=[held.session.reference])
            started = await self._store.start(start)
            if started.joined:
                joined = True  # if the session that it leads to has ended, the next attempt starts another
                name, sealed = started.joined
                with suppress(SealBroken, KeyError):
                    current = joins[name].open(sealed).decode()
                continue
            await self._announce_end(started.gone, "replaced")
            if started.twins:
                self._twin_timers.set((*started.twins, start.record.reference), GRACE_SECONDS)
            return value
        raise StoreUnavailable("a session that others write all the time")

    def _new(self, identity: Identity, browser: str, arrival: Arrival, checks: Checks) -> tuple[str, Start]:
        """Return the first cookie value of a new session, and the request that starts it in the store."""
        now = self._clock()
        session, (value, handle) = Session.begun(identity, arrival.asked or now, self._records.browser(browser), now)
        row = self._records.row(session, 1, session.record())
        persons, browsers = self._records.persons(identity), self._records.browsers(browser, arrival.left)
        return value, Start(row, handle, checks, persons, browsers)

    async def _renew(
        self, held: Held, presented: str, identity: Identity, browser: str, asked: float | None, checks: Checks
    ) -> str | None:
        """Renew a session after a repeated sign-in. Return its newest cookie value, or None if it must be retried."""
        session, now = held.session, self._clock()
        version = session.version
        record, new = session.renewed(identity, asked or now, self._records.browser(browser), now)
        successor = None
        newest = presented if session.handles.get(held.handle, 0.0) is None else held.next
        if not new and not newest:
            return None  # a parallel sign-in has just issued the newest value: the next attempt finds it
        if new:
            newest, handle = new
            sealed = Seal("next", held.handle, presented.encode()).seal(newest.encode())
            successor = Successor(handle, held.handle, sealed)
        if not await self._store.renew(self._records.row(session, version + 1, record), version, successor, checks):
            await self.is_active(session)
            return None
        session.apply(version + 1, record, now)
        self._refresh(session)
        await self._store.send(Changed([session.reference]))
        return newest
