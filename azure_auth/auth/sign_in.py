"""A sign-in from its first request to the session that it starts, for any front: it knows neither Reflex nor ASGI."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from secrets import token_urlsafe
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from azure_auth import audit
from azure_auth.auth.client import LONGEST_WAIT_SECONDS, Client
from azure_auth.auth.cookies import Cookie
from azure_auth.auth.flows import FLOW_SECONDS, TICKET_SECONDS, Flow, OnceOnly, Outcome
from azure_auth.auth.identity import Identity
from azure_auth.auth.records import Arrival
from azure_auth.auth.sealing import ticket_of
from azure_auth.auth.server_keys import ServerKeys
from azure_auth.auth.session import Held
from azure_auth.auth.sessions import Sessions
from azure_auth.auth.store import Store
from azure_auth.errors import AuthError, FlowTaken, FlowUnknown, StoreUnavailable, TooManyRequests, TooManyStarts
from azure_auth.parsing import GUID
from azure_auth.return_target import return_target
from azure_auth.settings import Settings

_LOOK_AGAIN_SECONDS, _LOOK_AT_LEAST_SECONDS = 0.2, 2.0
_MINUTE = 60.0
# Per minute. A whole office may share one address, so its limit is high; a browser's own limit is low.
_MOST = {"tab": 3, "browser": 20, "nameless": 12_000, "address": 12_000}
_MOST_SIDS = 600  # of an address: fewer than the store remembers, or a flood could make it forget sign-outs
_BROWSER_SECONDS = 400 * 24 * 3600
"""The longest that browsers keep a cookie."""
_PROBLEM = "problem"
_WITHOUT_STORE = {kind.code: kind for kind in (TooManyRequests, StoreUnavailable)}


class Exchanged(NamedTuple):
    """What a browser gets for its ticket.

    Attributes:
        address: The page to go to.
        cookie: The value of the session cookie; None without a session.
        browser: The browser's new name; empty where it keeps its own.
    """

    address: str
    cookie: str | None = None
    browser: str = ""


class SignIn:
    """Begins flows, finishes them, each once, and starts sessions.

    Attributes:
        settings: What the app runs with.
        sessions: Who is signed in.
        flow_cookie: Binds flows and tickets to a browser.
        session_cookie: Identifies the session; its value decrypts the session's data key.
        browser_cookie: The browser's name, for rate limits and indexes; it grants no access.
    """

    def __init__(self, settings: Settings, client: Client, sessions: Sessions, store: Store, keys: ServerKeys) -> None:
        """Sign people in to the app that `settings` describe, through `client`; `store` has what is not a session."""
        self.settings = settings
        self.sessions = sessions
        self.flow_cookie = Cookie("azure_auth_flow", settings.public_url, FLOW_SECONDS)
        self.session_cookie = Cookie(
            "azure_auth_session", settings.public_url, int(settings.session_max.total_seconds())
        )
        self.browser_cookie = Cookie("azure_auth_browser", settings.public_url, _BROWSER_SECONDS)
        self._keys = keys
        self._client = client
        self._store = store
        self._flows = OnceOnly(store, "flow", FLOW_SECONDS, Flow.unpacked)
        self._tickets = OnceOnly(store, "ticket", TICKET_SECONDS, Outcome.unpacked)
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

    async def new_name(self, cookies: Sequence[str]) -> str:
        """Return the name that a browser is to be given; empty where it keeps the one that it has."""
        stands = True
        with suppress(StoreUnavailable):
            stands = await self.session(cookies) is not None
        return self._new_name(self.browser(cookies), self.session_cookie.read(cookies), stands=stands)

    def _new_name(self, name: str, cookie: str | None, *, stands: bool) -> str:
        # After its session a browser gets another name, so that whoever signs in next is not taken for the same.
        after = self._keys.name_after(cookie) if cookie and not stands else ""
        if after:
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
        flow_cookie: str,
        return_to: str,
        *,
        browser: str = "",
        new_name: str = "",
        tab: str | None = None,
        choose_account: bool = False,
        address: str = "",
    ) -> str:
        """Start a flow for a browser.

        Args:
            flow_cookie: The value of the browser's flow cookie.
            return_to: The page asked for; anything but a page of this app leads to `LOGIN_REDIRECT`.
            browser: The browser's name; empty where it has none.
            new_name: The name that the browser gets with this very answer, if any; limits go by the one that it had.
            tab: What tells the tab from others; the flow cookie stands in for a tab that is not named.
            choose_account: Let the person pick an account even if the directory knows them already.
            address: The client's.

        Returns:
            The address to send the browser to: the directory, or our page that says why not.
        """
        target = return_target(return_to) or self.settings.login_redirect
        try:
            await self._limit("start", browser, address, tab or flow_cookie)
            msal_flow = await self._client.begin(self._redirect_uri, "select_account" if choose_account else None)
            await self._flows.put(
                msal_flow["state"], flow_cookie, Flow(msal_flow, target, browser or new_name), address
            )
        except AuthError as failure:
            return await self._telling(failure, flow_cookie, target, address)
        audit.record("started", address=address)
        return msal_flow["auth_uri"]

    async def succeeded(self, tab: str) -> None:
        """Forget the starts of a tab in which somebody is signed in."""
        with suppress(StoreUnavailable):
            await self._store.forget(self._counted("start tab", tab))

    async def finish(
        self,
        answer: Mapping[str, str],
        flow_cookie: str | None,
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
            flow_cookie: The value of the browser's flow cookie, if it has one.
            address: The client's.
            browser: The browser's name; empty where it has none.
            signed_in: Who is signed in in this tab already.

        Returns:
            A ticket with which the browser fetches its session cookie: once, and soon.

        Raises:
            AuthError: When nobody was signed in.
        """
        state = answer.get("state", "")
        try:
            if told := _WITHOUT_STORE.get(answer.get(_PROBLEM, "")):
                raise told()
            await self._limit("callback", browser, address)
            task = asyncio.create_task(self._redeem(state, answer, flow_cookie, address))
            self._redeeming.add(task)
            task.add_done_callback(self._redeemed)
            await asyncio.wait({task})  # being cancelled here leaves the task running
            try:
                return task.result()
            except FlowTaken:
                return await self._redeemed_before(state, flow_cookie, signed_in)
        except AuthError as failure:
            audit.record(
                "failed", failure=failure.code, reference=failure.reference, detail=failure.detail, address=address
            )
            raise

    async def settle(self) -> None:
        """Wait until the redemptions under way are over, so that their browsers find the outcome elsewhere."""
        if self._redeeming:
            await asyncio.wait(self._redeeming, timeout=LONGEST_WAIT_SECONDS)

    async def start_session(self, ticket: str, cookies: Sequence[str]) -> Exchanged:
        """Exchange a ticket for a session: a new one, or the person's own that stands in this browser.

        Args:
            ticket: What came with the request; nothing is known about it.
            cookies: The request's Cookie headers.
        """
        flow_cookie, target = self.flow_cookie.read(cookies), ""
        try:
            outcome = await self._tickets.look(ticket, flow_cookie)
            if flow_cookie is None or outcome.identity is None:
                raise FlowUnknown("the ticket of a failure")
            target, identity = outcome.return_to, outcome.identity
            presented, named = self.session_cookie.read(cookies), self.browser(cookies)
            held = await self.sessions.find(presented) if presented else None
            goes_on = held is not None and held.session.identity.key == identity.key
            name = self._new_name(named, presented, stands=goes_on)
            arrival = Arrival(
                outcome.asked, self._tickets.name(ticket), outcome.begun, outcome.browser, flow_cookie, left=named
            )
            cookie = await self.sessions.start(identity, name or named, presented if held else None, arrival)
        except AuthError as failure:
            audit.record("failed", failure=failure.code, reference=failure.reference, detail=failure.detail)
            return Exchanged(await self._telling(failure, flow_cookie, target) if flow_cookie else self._redirect_uri)
        audit.record("succeeded", person=identity.key)
        return Exchanged(f"{self.settings.public_url}{target}", cookie, name)

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

    async def _limit(self, what: Literal["start", "callback"], browser: str, address: str, tab: str = "") -> None:
        # Browsers without a name, such as those that keep no cookies, share the limit of their address.
        keys = {"browser": browser, "nameless": "" if browser else address, "address": address, "tab": tab}
        most = {self._counted(f"{what} {of}", key): _MOST[of] for of, key in keys.items() if key}
        if full := await self._store.admit(most, _MINUTE):
            of = full.split()[1]
            audit.record("limited", reason=f"{what}s of one {of}", address=address)
            raise TooManyStarts if of == "tab" else TooManyRequests

    def _counted(self, what: str, key: str) -> str:
        """Return the name under which something is counted."""
        return f"{what} {self._keys.hashed(what, key)}"

    @property
    def _redirect_uri(self) -> str:
        return f"{self.settings.public_url}/callback"

    async def _telling(self, failure: AuthError, flow_cookie: str, target: str, address: str = "") -> str:
        """Return the address of `/callback` that shows a failure, which is stored as a flow that has already failed.

        After a rate limit, or while the store is unavailable, nothing is stored; the query names the failure.
        """
        if failure.code in _WITHOUT_STORE:
            return f"{self._redirect_uri}?{_PROBLEM}={failure.code}"
        state = token_urlsafe(32)
        try:
            await self._flows.put(state, flow_cookie, Flow({}, target, failure=failure), address)
        except StoreUnavailable as worse:
            return f"{self._redirect_uri}?{_PROBLEM}={worse.code}"
        return f"{self._redirect_uri}?state={state}"

    async def _redeem(self, state: str, answer: Mapping[str, str], flow_cookie: str | None, address: str) -> str:
        flow = await self._flows.take(state, flow_cookie)
        owner = flow_cookie or ""
        ticket, asked = ticket_of(state, owner), time.time()
        try:
            if flow.failure:
                raise flow.failure
            identity = await self._client.redeem(flow.msal, answer)
        except AuthError as failure:
            failure.return_to = flow.return_to
            with suppress(StoreUnavailable):
                await self._tickets.put(ticket, owner, Outcome(flow.return_to, failure=failure), address)
            raise
        outcome = Outcome(flow.return_to, identity, asked=asked, begun=flow.begun, browser=flow.browser)
        await self._tickets.put(ticket, owner, outcome, address)
        return ticket

    def _redeemed(self, task: "asyncio.Task[str]") -> None:
        self._redeeming.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain when nobody waits any more

    async def _redeemed_before(self, state: str, flow_cookie: str | None, signed_in: Identity | None) -> str:
        """Return the ticket of a flow that an earlier call took; wait if that call, on any worker, is still redeeming.

        If the outcome is already known, a signed-in user gets the ticket only if it is their own.
        """
        ticket, waits = ticket_of(state, flow_cookie or ""), 0
        while True:
            try:
                outcome = await self._tickets.look(ticket, flow_cookie)
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
                await self._flows.look(state, flow_cookie)
