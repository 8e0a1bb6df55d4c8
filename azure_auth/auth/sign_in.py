"""A sign-in from its first request to the session that it starts, for any front: it knows neither Reflex nor ASGI."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from secrets import token_urlsafe
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from azure_auth import audit
from azure_auth.auth.cookies.cookie import Cookie
from azure_auth.auth.cookies.flow_cookies import MOST, FlowCookie, FlowCookies
from azure_auth.auth.entra.client import LONGEST_WAIT_SECONDS, Client
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.flows import FLOW_SECONDS, TICKET_SECONDS, Flow, OneTime, Outcome
from azure_auth.auth.sessions.records import Arrival
from azure_auth.auth.sessions.sealing import flow_id, ticket_of
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import KNOWN, OVER, WAITING, Store
from azure_auth.errors import (
    REFERENCE,
    AuthError,
    FlowExpired,
    FlowForeign,
    FlowTaken,
    FlowUnknown,
    KeysUnreachable,
    Slow,
    StoreUnavailable,
    Throttled,
    TooManyRequests,
    TooManyStarts,
    Unavailable,
)
from azure_auth.return_target import return_target
from azure_auth.settings import Settings
from azure_auth.settings.parsing import GUID

_LOOK_AGAIN_SECONDS, _LOOK_AT_LEAST_SECONDS = 0.2, 2.0
_MINUTE = 60.0
# Per minute; the next one is refused. A whole office may share one address, so its limit is high. A browser may restore
# all its tabs at once, so its limit is twice its maximum number of flows.
_MOST = {
    "browser": 2 * MOST,
    "known": 2 * MOST,
    "old": 600,
    "nameless": 12_000,
    "address": 12_000,
    "tab": 2,
}
_MOST_SIDS = 600  # of an address: fewer than the store remembers, or a flood could make it forget sign-outs
_BROWSER_SECONDS = 400 * 24 * 3600
"""The longest that browsers keep a cookie."""
_SAID = {
    "known": "browser",
    "nameless": "address, without a browser's name",
    "old": "address, without Fetch Metadata",
}
_CLOCKS_DIFFER = 60.0
_PROBLEM, _REFERENCE = "problem", "reference"
_WITHOUT_COOKIE = {TooManyRequests.code, StoreUnavailable.code}
_TOLD_BY_QUERY: dict[str, type[AuthError]] = {
    kind.code: kind
    for kind in (TooManyRequests, TooManyStarts, StoreUnavailable, Unavailable, Slow, Throttled, KeysUnreachable)
}
"""What a query may name; anybody can write one, so these say nothing of the account or of the app."""


class Led(NamedTuple):
    """Where a browser goes next.

    Attributes:
        address: The directory, or a page of this app.
        cookies: The Set-Cookie headers for all cookies but that of the session.
        session_cookie: The value of the session cookie that the browser gets; None for none.
    """

    address: str
    cookies: Sequence[str] = ()
    session_cookie: str | None = None


class Met(NamedTuple):
    """What a request's cookies say of its browser.

    Attributes:
        signed_in: Whether they include that of a session that stands.
        name: The browser's name; empty where it has none.
        new_name: The name that it is to be given; empty where it keeps its own.
        known: What it got when somebody first signed in; empty where it has nothing such.
    """

    signed_in: bool
    name: str
    new_name: str
    known: str


class SignIn:
    """Begins flows, finishes them, each once, and starts sessions.

    Attributes:
        settings: What the app runs with.
        sessions: Who is signed in.
        flow_cookies: Bind each flow, and its ticket, to a browser.
        session_cookie: Identifies the session; its value decrypts the session's data key.
        browser_cookie: The browser's name, for rate limits and indexes; it grants no access.
        known_cookie: Tells that somebody has signed in in the browser before; it grants no access either.
    """

    def __init__(self, settings: Settings, client: Client, sessions: Sessions, store: Store, keys: ServerKeys) -> None:
        """Sign people in to the app that `settings` describe, through `client`; `store` has what is not a session."""
        self.settings = settings
        self.sessions = sessions
        self.flow_cookies = FlowCookies(settings.public_url, keys)
        self.session_cookie = Cookie(
            "azure_auth_session", settings.public_url, int(settings.session_max.total_seconds())
        )
        self.browser_cookie = Cookie("azure_auth_browser", settings.public_url, _BROWSER_SECONDS)
        self.known_cookie = Cookie("azure_auth_known", settings.public_url, _BROWSER_SECONDS)
        self._keys = keys
        self._client = client
        self._store = store
        self._flows = OneTime(store, "flow", FLOW_SECONDS, Flow.unpacked)
        self._tickets = OneTime(store, "ticket", TICKET_SECONDS, Outcome.unpacked)
        self._redeeming: set[asyncio.Task[str]] = set()

    async def session(self, cookies: Iterable[str]) -> Held | None:
        """Return the session that a request's Cookie headers stand for, or None.

        Raises:
            StoreUnavailable: When that cannot be told.
        """
        cookie = self.session_cookie.read(cookies)
        return await self.sessions.find(cookie) if cookie else None

    def browser(self, cookies: Iterable[str]) -> str:
        """Return the name of the browser that a request's Cookie headers come from; empty without a valid one."""
        name = self.browser_cookie.read(cookies)
        return name if name and self._keys.is_name(name) else ""

    def known(self, cookies: Iterable[str]) -> str:
        """Return what tells that somebody has signed in in the browser before; empty without it."""
        value = self.known_cookie.read(cookies)
        return value if value and self._keys.is_known(value) else ""

    async def met(self, cookies: Sequence[str]) -> Met:
        """Return who a request comes from, as far as its Cookie headers tell.

        While the store cannot be asked, nobody is signed in, and every browser keeps its name.
        """
        name, presented = self.browser(cookies), self.session_cookie.read(cookies)
        ended, signed_in = presented, False
        try:
            if presented and await self.sessions.find(presented):
                ended, signed_in = None, True
        except StoreUnavailable:
            ended = None
        return Met(signed_in, name, self._new_name(name, ended), self.known(cookies))

    def _new_name(self, name: str, ended: str | None) -> str:
        # When its session has ended, a browser gets a new name, so the next user is not taken for the last one.
        if ended:
            after = self._keys.name_after(ended)
            return after if after != name else ""
        return "" if name else self._keys.new_name()

    def start_url(self, tab: str, return_to: str, *, choose_account: bool = False) -> str:
        """Return the address at which a sign-in starts; `begin` says what the arguments are."""
        prompt = "select_account" if choose_account else ""
        asked = {"return_to": "" if return_to == "/" else return_to, "prompt": prompt, "tab": tab}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"{self.settings.backend_url}/auth/sign-in?{query}"

    async def begin(
        self,
        cookies: Sequence[str],
        return_to: str,
        *,
        tab: str = "",
        choose_account: bool = False,
        address: str = "",
        old: bool = False,
    ) -> Led:
        """Start a flow for a browser; one in which somebody is signed in goes straight to the page instead.

        Args:
            cookies: The request's Cookie headers.
            return_to: The page asked for; anything but a page of this app leads to `LOGIN_REDIRECT`.
            tab: The tab's id; empty if unknown.
            choose_account: Let the person pick an account even if the directory, or this app, knows them already.
            address: The client's.
            old: Whether the browser is so old that it does not say what its requests are for.

        Returns:
            Where to send the browser: to the directory, to the page, or to our page that says why not.
        """
        target, met = return_target(return_to) or self.settings.login_redirect, await self.met(cookies)
        named = [self.browser_cookie.header(met.new_name)] if met.new_name else []
        began = time.time()  # before the store's time, so that the cookie expires first
        try:
            await self._limit("start", met.name, address, met.known, tab, address if old else "")
            if met.signed_in and not choose_account:
                return Led(f"{self.settings.public_url}{target}", named)
            msal_flow = await self._client.begin(self._redirect_uri, "select_account" if choose_account else None)
            cookie = FlowCookie.begin(msal_flow["state"], began, target)
            flow, rank = Flow(msal_flow, target, met.name or met.new_name), KNOWN if met.known else WAITING
            await self._flows.put(msal_flow["state"], cookie.binding, flow, address, rank)
        except AuthError as failure:
            address, cookies = self._telling(failure, cookies, target, address)
            return Led(address, [*cookies, *named])
        audit.record("started", address=address)
        return Led(msal_flow["auth_uri"], [*self._add(cookie, cookies), *named])

    async def succeeded(self, tab: str) -> None:
        """Forget the starts of a tab in which somebody is signed in."""
        with suppress(StoreUnavailable):
            await self._store.forget(self._counted("start tab", tab))

    async def finish(
        self,
        answer: Mapping[str, str],
        cookies: Sequence[FlowCookie],
        address: str = "",
        *,
        browser: str = "",
        signed_in: Identity | None = None,
    ) -> str:
        """Redeem the code in Microsoft's answer, and return a ticket for the session.

        A reload cancels the caller but not the redemption. A second call from the same browser, on any worker, waits
        for the outcome of the first one; this works until the ticket is used.

        Args:
            answer: The query that the browser brought to `/callback`.
            cookies: The browser's flow cookies.
            address: The client's.
            browser: The browser's name; empty where it has none.
            signed_in: Who is signed in in this tab already.

        Returns:
            A ticket with which the browser fetches its session cookie: once, and soon.

        Raises:
            AuthError: When nobody was signed in.
        """
        state = answer.get("state", "")
        cookie = next((cookie for cookie in cookies if cookie.id == flow_id(state)), None)
        if told := _TOLD_BY_QUERY.get(answer.get(_PROBLEM, "")):
            failure = told()  # it was recorded when it happened; the address is anybody's to write
            if REFERENCE.fullmatch(reference := answer.get(_REFERENCE, "")):
                failure.reference = reference
            raise failure
        try:
            await self._limit("callback", browser, address)
            if cookie is None:
                raise FlowForeign("no cookie of this flow")
            if cookie.failure:
                raise cookie.failure.with_traceback(None)  # a tab keeps it, and brings it again
            if cookie.age(time.time()) >= FLOW_SECONDS:
                raise FlowExpired("by its cookie")
            task = asyncio.create_task(self._redeem(state, answer, cookie, address))
            self._redeeming.add(task)
            task.add_done_callback(self._redeemed)
            await asyncio.wait({task})  # being cancelled here leaves the task running
            try:
                return task.result()
            except FlowTaken:
                return await self._redeemed_before(state, cookie, signed_in)
        except AuthError as failure:
            failure.return_to = failure.return_to or (cookie.return_to if cookie else "")
            if not (cookie and cookie.failure is failure):  # else it was recorded when it happened
                _record(failure, address)
            raise

    async def settle(self) -> None:
        """Wait until the redemptions under way are over, so that their browsers find the outcome elsewhere."""
        if self._redeeming:
            await asyncio.wait(self._redeeming, timeout=LONGEST_WAIT_SECONDS)

    async def start_session(self, ticket: str, cookies: Sequence[str]) -> Led:
        """Exchange a ticket for a session: a new one, or the person's own that stands in this browser.

        Args:
            ticket: What came with the request; nothing is known about it.
            cookies: The request's Cookie headers.
        """
        flows, target, own = self.flow_cookies.read(cookies), "", None
        try:
            own = next((cookie for cookie in flows if ticket.startswith(cookie.id)), None)
            if own is None:
                raise FlowForeign("no cookie of this ticket's flow")
            outcome = await self._tickets.peek(ticket, own.binding)
            if outcome.identity is None:
                raise FlowUnknown("the ticket of a failure")
            target, identity = outcome.return_to, outcome.identity
            presented, named = self.session_cookie.read(cookies), self.browser(cookies)
            held = await self.sessions.find(presented) if presented else None
            goes_on = held is not None and held.session.identity.key == identity.key
            name = self._new_name(named, None if goes_on else presented)
            bindings = [own.binding, *(cookie.binding for cookie in flows if cookie is not own)]
            name_of_ticket = self._tickets.name(ticket)
            arrival = Arrival(outcome.asked, name_of_ticket, outcome.begun, outcome.browser, bindings, named)
            value = await self.sessions.start(identity, name or named, presented, arrival)
        except AuthError as failure:
            return Led(*self._telling(failure, cookies, target, instead_of=own))
        audit.record("succeeded", person=identity.key)
        given = [self.flow_cookies.finished(own, value, time.time())]
        given += [self.browser_cookie.header(name)] if name else []
        given += [] if self.known(cookies) else [self.known_cookie.header(self._keys.new_known())]
        return Led(f"{self.settings.public_url}{target}", given, value)

    async def sign_out_url(self, identity: Identity) -> str:
        """Return the address at which the person signs out of the directory and comes back to `/logout`.

        Raises:
            AuthError: When the directory cannot be asked.
        """
        return await self._client.sign_out_url(identity, f"{self.settings.public_url}/logout")

    async def end_by_directory(self, sid: str, address: str) -> None:
        """End the sessions of a session of the directory's, which says that it has ended there.

        Args:
            sid: What came with the request; nothing is known about it.
            address: The client's.

        Raises:
            StoreUnavailable: When they cannot be found.
        """
        if await self._store.admit({self._counted("sid address", address): _MOST_SIDS}, _MINUTE):
            audit.record("limited", reason="front-channel sign-outs of an address", address=address)
        elif GUID.fullmatch(sid.lower()):
            await self.sessions.end_by_directory(sid.lower())

    async def _limit(
        self,
        what: Literal["start", "callback"],
        browser: str,
        address: str,
        known: str = "",
        tab: str = "",
        old: str = "",
    ) -> None:
        keys = {"browser": browser, "known": known, "old": old, "address": address, "tab": tab}
        # Browsers without a name, such as those that keep no cookies, share the limit of their address.
        keys["nameless"] = "" if browser else address
        most = {self._counted(f"{what} {of}", keys[of]): limit for of, limit in _MOST.items() if keys[of]}
        if full := await self._store.admit(most, _MINUTE):
            of = full.split()[1]
            audit.record("limited", reason=f"{what}s of one {_SAID.get(of, of)}", address=address)
            raise TooManyStarts if of == "tab" else TooManyRequests

    def _counted(self, what: str, key: str) -> str:
        """Return the name under which something is counted."""
        return f"{what} {self._keys.hashed(what, key)}"

    @property
    def _redirect_uri(self) -> str:
        return f"{self.settings.public_url}/callback"

    def _add(self, new: FlowCookie, cookies: Sequence[str], instead_of: FlowCookie | None = None) -> Sequence[str]:
        return self.flow_cookies.add(new, cookies, self.session_cookie.read(cookies), instead_of)

    def _telling(
        self,
        failure: AuthError,
        cookies: Sequence[str],
        target: str,
        address: str = "",
        instead_of: FlowCookie | None = None,
    ) -> tuple[str, Sequence[str]]:
        """Return the address of `/callback` that shows a failure, and the cookies in which the browser remembers it.

        After a rate limit, while the store is unavailable, and where there is no room for a cookie, the query names it.
        """
        _record(failure, address)
        if failure.code not in _WITHOUT_COOKIE:
            state = token_urlsafe(32)
            new = FlowCookie.begin(state, time.time(), target, failure)
            if given := self._add(new, cookies, instead_of):
                return f"{self._redirect_uri}?state={state}", given
        return f"{self._redirect_uri}?{_PROBLEM}={failure.code}&{_REFERENCE}={failure.reference}", ()

    async def _redeem(self, state: str, answer: Mapping[str, str], cookie: FlowCookie, address: str) -> str:
        try:
            flow = await self._flows.consume(state, cookie.binding)
        except FlowUnknown as unknown:
            if type(unknown) is FlowUnknown and cookie.age(time.time()) >= FLOW_SECONDS - _CLOCKS_DIFFER:
                raise FlowExpired("by the store's clock") from None
            raise
        ticket, asked = ticket_of(state, cookie.binding), time.time()
        try:
            identity = await self._client.redeem(flow.msal, answer)
        except AuthError as failure:
            failure.return_to = flow.return_to
            with suppress(StoreUnavailable, TooManyRequests):
                outcome = Outcome(flow.return_to, failure=failure)
                await self._tickets.put(ticket, cookie.binding, outcome, address, OVER)
            raise
        outcome = Outcome(flow.return_to, identity, asked=asked, begun=flow.begun, browser=flow.browser)
        await self._tickets.put(ticket, cookie.binding, outcome, address, KNOWN)
        return ticket

    def _redeemed(self, task: "asyncio.Task[str]") -> None:
        self._redeeming.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain when nobody waits any more

    async def _redeemed_before(self, state: str, cookie: FlowCookie, signed_in: Identity | None) -> str:
        """Return the ticket of a flow that an earlier call took; wait if that call, on any worker, is still redeeming.

        If the outcome is already known, a signed-in user gets the ticket only if it is their own.
        """
        ticket, waits = ticket_of(state, cookie.binding), 0
        while True:
            try:
                outcome = await self._tickets.peek(ticket, cookie.binding)
            except FlowTaken:  # its session was fetched
                raise
            except FlowUnknown:
                await asyncio.sleep(min(_LOOK_AGAIN_SECONDS * 2**waits, _LOOK_AT_LEAST_SECONDS))
                waits += 1
            else:
                someone_else = outcome.identity is None or (signed_in and signed_in.key != outcome.identity.key)
                if signed_in and someone_else and not waits:
                    raise FlowTaken("another session stands")
                if outcome.failure:
                    raise outcome.failure
                return ticket
            with suppress(FlowTaken):
                await self._flows.peek(state, cookie.binding)


def _record(failure: AuthError, address: str) -> None:
    audit.record(
        "failed",
        failure=failure.code,
        reference=failure.reference,
        detail=failure.detail,
        advice=failure.advice,
        address=address,
    )
