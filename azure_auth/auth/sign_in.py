"""A sign-in from its first request to the session that it starts, for any front: it knows neither Reflex nor ASGI."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from secrets import token_urlsafe
from typing import Literal
from urllib.parse import urlencode

from azure_auth import audit
from azure_auth.auth.client import Client
from azure_auth.auth.cookies import Cookie
from azure_auth.auth.flows import FLOW_SECONDS, TICKET_SECONDS, Flow, OnceOnly, SignedIn
from azure_auth.auth.identity import Identity
from azure_auth.auth.sealing import hashed
from azure_auth.auth.sessions import Session, Sessions
from azure_auth.auth.store import Store
from azure_auth.errors import AuthError, FlowUnknown, StoreUnavailable, TooManyRequests, TooManyStarts
from azure_auth.parsing import GUID
from azure_auth.return_target import return_target
from azure_auth.settings import Settings

_UNTOLD_SECONDS = 60.0
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
        self._tickets = OnceOnly(store, "ticket", TICKET_SECONDS, SignedIn.unpacked)
        self._redemptions: dict[tuple[str, str | None, str], asyncio.Task[SignedIn]] = {}

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
        self, answer: Mapping[str, str], browser: str | None, tab: str, address: str = "", *, signed_in: bool = False
    ) -> SignedIn:
        """Take the flow that an answer of the directory belongs to, and redeem its code.

        A reload cancels the caller but not the redemption: asked again by the same tab, the result is told again,
        until its session is fetched, and for a minute at most.

        Args:
            answer: The query that the browser brought to `/callback`.
            browser: The value of the browser's flow cookie, if it has one.
            tab: What tells this tab from others of the browser.
            address: The client's.
            signed_in: Whether somebody is signed in in this tab already.

        Raises:
            AuthError: When nobody was signed in.
        """
        try:
            if told := _WITHOUT_STORE.get(answer.get(_PROBLEM, "")):
                raise told()
            await self._limit("callback", browser or "", address)
            return await self._finish(answer, browser, tab, signed_in=signed_in)
        except AuthError as failure:
            audit.record(
                "failed", failure=failure.code, reference=failure.reference, detail=failure.detail, address=address
            )
            raise

    async def _finish(self, answer: Mapping[str, str], browser: str | None, tab: str, *, signed_in: bool) -> SignedIn:
        asked = (hashed(answer.get("state", "")), browser, tab)
        task = self._redemptions.get(asked)
        if task is None:
            task = self._redemptions[asked] = asyncio.create_task(self._redeem(answer, browser))
            task.add_done_callback(lambda done: self._forget_later(asked, done))
        elif task.done() and signed_in:
            raise FlowUnknown("its session was fetched, or another one stands")
        await asyncio.wait({task})  # being cancelled here leaves the task running
        return task.result()

    async def hand_over(self, signed_in: SignedIn) -> str:
        """Return a ticket with which the browser fetches its session cookie: once, and soon.

        Raises:
            StoreUnavailable: When it cannot be kept.
        """
        ticket = token_urlsafe(32)
        await self._tickets.put(ticket, signed_in.browser, signed_in)
        return ticket

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
            signed_in = await self._tickets.take(ticket, browser)
            for asked in [asked for asked in self._redemptions if asked[0] == signed_in.flow]:
                del self._redemptions[asked]
            target, replacing = signed_in.return_to, self.session_cookie.read(cookies)
            cookie = await self.sessions.start(signed_in.identity, signed_in.browser, replacing)
        except AuthError as failure:
            audit.record("failed", failure=failure.code, reference=failure.reference, detail=failure.detail)
            return None, await self._telling(failure, browser, target) if browser else self._redirect_uri
        audit.record("succeeded", person=signed_in.identity.key)
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

    async def _redeem(self, answer: Mapping[str, str], browser: str | None) -> SignedIn:
        state = answer.get("state", "")
        flow = await self._flows.take(state, browser)
        try:
            if flow.failure:
                raise flow.failure
            identity = await self._client.redeem(flow.msal, answer)
            return SignedIn(identity, browser or "", flow.return_to, hashed(state))
        except AuthError as failure:
            failure.return_to = flow.return_to
            raise

    def _forget_later(self, asked: tuple[str, str | None, str], task: "asyncio.Task[SignedIn]") -> None:
        if task.cancelled() or task.exception():  # looked at, so that asyncio does not complain
            self._redemptions.pop(asked, None)
        asyncio.get_running_loop().call_later(_UNTOLD_SECONDS, self._redemptions.pop, asked, None)
