"""A sign-in from its first request to the session that it starts, for any front: it knows neither Reflex nor ASGI."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from secrets import token_urlsafe
from typing import Literal
from urllib.parse import urlencode

from azure_auth import audit
from azure_auth.auth.client import LONGEST_WAIT_SECONDS, Client
from azure_auth.auth.cookies import Cookie
from azure_auth.auth.flows import FLOW_SECONDS, TICKET_SECONDS, Flow, OnceOnly, Outcome
from azure_auth.auth.identity import Identity
from azure_auth.auth.sealing import hashed, ticket_of
from azure_auth.auth.sessions import Session, Sessions
from azure_auth.auth.store import Store
from azure_auth.errors import AuthError, FlowTaken, FlowUnknown, StoreUnavailable, TooManyRequests, TooManyStarts
from azure_auth.parsing import GUID
from azure_auth.return_target import return_target
from azure_auth.settings import Settings

_LOOK_AGAIN_SECONDS, _LOOK_AT_LEAST_SECONDS = 0.2, 2.0
_MINUTE = 60.0
# Tight for one browser, generous for an address: an office is one, and somebody in it may do mischief.
_MOST = {"tab": 3, "browser": 20, "address": 12_000}
_PROBLEM = "problem"
_WITHOUT_STORE = {kind.code: kind for kind in (TooManyRequests, StoreUnavailable)}


class SignIn:
    """Begins flows, finishes them, each once, and starts sessions.

    Attributes:
        settings: What the app runs with.
        sessions: Who is signed in.
        flow_cookie: Binds flows and tickets to a browser.
        session_cookie: Is the session.
    """

    def __init__(self, settings: Settings, client: Client, sessions: Sessions, store: Store) -> None:
        """Sign people in to the app that `settings` describe, through `client`; `store` has what is not a session."""
        self.settings = settings
        self.sessions = sessions
        self.flow_cookie = Cookie("azure_auth_flow", settings.public_url, FLOW_SECONDS)
        self.session_cookie = Cookie(
            "azure_auth_session", settings.public_url, int(settings.session_max.total_seconds())
        )
        self._client = client
        self._store = store
        self._flows = OnceOnly(store, "flow", FLOW_SECONDS, Flow.unpacked)
        self._tickets = OnceOnly(store, "ticket", TICKET_SECONDS, Outcome.unpacked)
        self._redeeming: set[asyncio.Task[str]] = set()

    async def session(self, cookies: Iterable[str]) -> Session | None:
        """Return the session that a request's Cookie headers stand for, or None.

        Raises:
            StoreUnavailable: When that cannot be told.
        """
        cookie = self.session_cookie.read(cookies)
        return await self.sessions.find(cookie) if cookie else None

    def browser(self, cookies: Iterable[str]) -> str:
        """Return the value of the browser's flow cookie; a new one if it has none."""
        return self.flow_cookie.read(cookies) or token_urlsafe(32)

    def start_url(self, tab: str, return_to: str, *, choose_account: bool = False) -> str:
        """Return the address at which a sign-in starts; `begin` says what the arguments are."""
        prompt = "select_account" if choose_account else ""
        asked = {"return_to": "" if return_to == "/" else return_to, "prompt": prompt, "tab": tab}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"{self.settings.backend_url}/auth/sign-in?{query}"

    async def begin(
        self, browser: str, return_to: str, *, tab: str | None = None, choose_account: bool = False, address: str = ""
    ) -> str:
        """Start a flow for a browser.

        Args:
            browser: The value of the browser's flow cookie.
            return_to: The page asked for; anything but a page of this app leads to `LOGIN_REDIRECT`.
            tab: What tells the tab from others; the browser stands in for a tab that is not named.
            choose_account: Let the person pick an account even if the directory knows them already.
            address: The client's.

        Returns:
            The address to send the browser to: the directory, or our page that says why not.
        """
        target = return_target(return_to) or self.settings.login_redirect
        try:
            await self._limit("start", browser, address, tab or browser)
            msal_flow = await self._client.begin(self._redirect_uri, "select_account" if choose_account else None)
            await self._flows.put(msal_flow["state"], browser, Flow(msal_flow, target), address)
        except AuthError as failure:
            return await self._telling(failure, browser, target, address)
        audit.record("started", address=address)
        return msal_flow["auth_uri"]

    async def succeeded(self, tab: str) -> None:
        """Forget the starts of a tab in which somebody is signed in."""
        with suppress(StoreUnavailable):
            await self._store.forget(f"start tab {hashed(tab)}")

    async def finish(
        self, answer: Mapping[str, str], browser: str | None, address: str = "", *, signed_in: bool = False
    ) -> str:
        """Take the flow that an answer of the directory belongs to, and redeem its code.

        A reload cancels the caller but not the redemption: asked again by the same browser, on whichever worker, the
        outcome is waited for and told, until its session is fetched.

        Args:
            answer: The query that the browser brought to `/callback`.
            browser: The value of the browser's flow cookie, if it has one.
            address: The client's.
            signed_in: Whether somebody is signed in in this tab already.

        Returns:
            A ticket with which the browser fetches its session cookie: once, and soon.

        Raises:
            AuthError: When nobody was signed in.
        """
        state = answer.get("state", "")
        try:
            if told := _WITHOUT_STORE.get(answer.get(_PROBLEM, "")):
                raise told()
            await self._limit("callback", browser or "", address)
            task = asyncio.create_task(self._redeem(state, answer, browser, address))
            self._redeeming.add(task)
            task.add_done_callback(self._redeemed)
            await asyncio.wait({task})  # being cancelled here leaves the task running
            try:
                return task.result()
            except FlowTaken:
                return await self._redeemed_before(state, browser, signed_in=signed_in)
        except AuthError as failure:
            audit.record(
                "failed", failure=failure.code, reference=failure.reference, detail=failure.detail, address=address
            )
            raise

    async def settle(self) -> None:
        """Wait until the redemptions under way are over, so that their browsers find the outcome elsewhere."""
        if self._redeeming:
            await asyncio.wait(self._redeeming, timeout=LONGEST_WAIT_SECONDS)

    async def start_session(self, ticket: str, cookies: Sequence[str]) -> tuple[str | None, str]:
        """Exchange a ticket for a session.

        Args:
            ticket: What came with the request; nothing is known about it.
            cookies: The request's Cookie headers.

        Returns:
            The value of the session cookie and the address of the page to go to; without a session, None and the
            address of our page that says why.
        """
        browser, target = self.flow_cookie.read(cookies), ""
        try:
            outcome = await self._tickets.take(ticket, browser)
            if browser is None or outcome.identity is None:
                raise FlowUnknown("the ticket of a failure")
            target, replacing = outcome.return_to, self.session_cookie.read(cookies)
            cookie = await self.sessions.start(outcome.identity, browser, replacing)
        except AuthError as failure:
            audit.record("failed", failure=failure.code, reference=failure.reference, detail=failure.detail)
            return None, await self._telling(failure, browser, target) if browser else self._redirect_uri
        audit.record("succeeded", person=outcome.identity.key)
        return cookie, f"{self.settings.public_url}{target}"

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
        if await self._store.admit({f"sid address {hashed(address)}": _MOST["address"]}, _MINUTE):
            audit.record("limited", reason="front-channel sign-outs of an address", address=address)
        elif GUID.fullmatch(sid.lower()):
            await self.sessions.end_by_directory(sid.lower())

    async def _limit(self, what: Literal["start", "callback"], browser: str, address: str, tab: str = "") -> None:
        keys = {"browser": browser, "address": address, "tab": tab}
        most = {f"{what} {of} {hashed(key)}": _MOST[of] for of, key in keys.items() if key}
        if full := await self._store.admit(most, _MINUTE):
            of = full.split()[1]
            audit.record("limited", reason=f"{what}s of one {of}", address=address)
            raise TooManyStarts if of == "tab" else TooManyRequests

    @property
    def _redirect_uri(self) -> str:
        return f"{self.settings.public_url}/callback"

    async def _telling(self, failure: AuthError, browser: str, target: str, address: str = "") -> str:
        """Return the address of our page that tells of a failure: a flow that has failed already.

        What comes of too many, or of a store that cannot be asked, is not kept there; the address alone names it.
        """
        if failure.code in _WITHOUT_STORE:
            return f"{self._redirect_uri}?{_PROBLEM}={failure.code}"
        state = token_urlsafe(32)
        try:
            await self._flows.put(state, browser, Flow({}, target, failure), address)
        except StoreUnavailable as worse:
            return f"{self._redirect_uri}?{_PROBLEM}={worse.code}"
        return f"{self._redirect_uri}?state={state}"

    async def _redeem(self, state: str, answer: Mapping[str, str], browser: str | None, address: str) -> str:
        flow = await self._flows.take(state, browser)
        ticket, browser = ticket_of(state, browser or ""), browser or ""
        try:
            if flow.failure:
                raise flow.failure
            outcome = Outcome(flow.return_to, await self._client.redeem(flow.msal, answer))
        except AuthError as failure:
            failure.return_to = flow.return_to
            with suppress(StoreUnavailable):
                await self._tickets.put(ticket, browser, Outcome(flow.return_to, failure=failure), address)
            raise
        await self._tickets.put(ticket, browser, outcome, address)
        return ticket

    def _redeemed(self, task: "asyncio.Task[str]") -> None:
        self._redeeming.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain when nobody waits any more

    async def _redeemed_before(self, state: str, browser: str | None, *, signed_in: bool) -> str:
        """Return the ticket of a flow that was taken a moment ago, perhaps by another worker that is still at it.

        For somebody who is signed in, what is over already is no reason to become somebody else.
        """
        ticket, waits = ticket_of(state, browser or ""), 0
        while True:
            try:
                outcome = await self._tickets.look(ticket, browser)
            except FlowTaken:  # its session was fetched
                raise
            except FlowUnknown:
                await asyncio.sleep(min(_LOOK_AGAIN_SECONDS * 2**waits, _LOOK_AT_LEAST_SECONDS))
                waits += 1
            else:
                if signed_in and not waits:
                    raise FlowTaken("another session stands")
                if outcome.failure:
                    raise outcome.failure
                return ticket
            with suppress(FlowTaken):
                await self._flows.look(state, browser)
