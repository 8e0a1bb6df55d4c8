"""A sign-in from its first request to the session that it starts. It knows neither Reflex nor ASGI.

The module is above 200 lines because begin, finish and exchange are one protocol, with one way to report a failure.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from secrets import token_urlsafe
from typing import NamedTuple
from urllib.parse import urlencode

from azure_auth import audit, errors
from azure_auth.auth.cookies.cookie import Cookie
from azure_auth.auth.cookies.flow_cookies import FlowCookie, FlowCookies
from azure_auth.auth.entra.client import Client
from azure_auth.auth.identity import Identity
from azure_auth.auth.redemption import Redemptions
from azure_auth.auth.sessions.flows import FLOW_SECONDS, TICKET_SECONDS, Flow, OneTime, Outcome
from azure_auth.auth.sessions.records import Arrival
from azure_auth.auth.sessions.sealing import flow_id
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import KNOWN, WAITING, Store
from azure_auth.auth.sign_in_limits import SignInLimits
from azure_auth.errors import AuthError, FlowExpired, FlowForeign, FlowUnknown, StoreUnavailable, TooManyRequests
from azure_auth.return_target import return_target
from azure_auth.settings import Settings
from azure_auth.settings.parsing import GUID

_BROWSER_SECONDS = 400 * 24 * 3600
"""The longest that browsers keep a cookie."""
_WITHOUT_COOKIE = {TooManyRequests.code, StoreUnavailable.code}
_UNAVAILABLE = (errors.Unavailable, errors.Slow, errors.Throttled, errors.KeysUnreachable, StoreUnavailable)
_TOLD_BY_QUERY = {kind.code: kind for kind in (TooManyRequests, errors.TooManyStarts, *_UNAVAILABLE)}
"""What a query may name. Anybody can write a query, so these say nothing about the account or the app."""


class Redirect(NamedTuple):
    """Where a browser goes next."""

    address: str  # of the directory, or of a page of this app
    cookies: Sequence[str] = ()  # the Set-Cookie headers of all cookies but the session's
    session_cookie: str | None = None  # the value of the session cookie that the browser gets; None for none


class BrowserCookies(NamedTuple):
    """What a request's cookies say about its browser."""

    signed_in: bool  # whether they include the cookie of an active session
    name: str  # empty if it has none
    new_name: str  # the name that the response gives it; empty if it keeps its own


class SignIn:
    """Begins flows, finishes them, each once, and starts sessions."""

    def __init__(self, settings: Settings, client: Client, sessions: Sessions, store: Store, keys: ServerKeys) -> None:
        """Sign users in to the app that `settings` describe, through `client`; `store` keeps flows and counts."""
        url = settings.public_url
        self.settings, self.sessions, self.clock = settings, sessions, time.time
        self._redirect_uri = f"{url}/callback"
        self.flow_cookies = FlowCookies(url, keys)
        self.session_cookie = Cookie("azure_auth_session", url, int(settings.session_max.total_seconds()))
        # The browser's name, for rate limits and indexes, and whether somebody has signed in in it before. Neither
        # grants access.
        self.browser_cookie = Cookie("azure_auth_browser", url, _BROWSER_SECONDS, keys.is_name)
        self.known_cookie = Cookie("azure_auth_known", url, _BROWSER_SECONDS, keys.is_known)
        self._keys, self._client, self._limits = keys, client, SignInLimits(store, keys)
        self._flows = OneTime(store, "flow", FLOW_SECONDS, Flow.unpacked)
        self._tickets = OneTime(store, "ticket", TICKET_SECONDS, Outcome.unpacked)
        self._redemptions = Redemptions(client, self._flows, self._tickets, lambda: self.clock())

    async def session(self, cookies: Iterable[str]) -> Held | None:
        """Return the session that a request's Cookie headers identify, or None."""
        cookie = self.session_cookie.read(cookies)
        return await self.sessions.find(cookie) if cookie else None

    def browser(self, cookies: Iterable[str]) -> str:
        """Return the browser's name from a request's Cookie headers; empty if it has none, or a forged one."""
        return self.browser_cookie.read(cookies) or ""

    async def read_browser(self, cookies: Sequence[str]) -> BrowserCookies:
        """Return what a request's Cookie headers say about its browser.

        While the store is unavailable, nobody is signed in, and every browser keeps its name.
        """
        name, presented = self.browser(cookies), self.session_cookie.read(cookies)
        ended, signed_in = presented, False
        try:
            if presented and await self.sessions.find(presented):
                ended, signed_in = None, True
        except StoreUnavailable:
            ended = None
        return BrowserCookies(signed_in, name, self._new_name(name, ended))

    def _new_name(self, name: str, ended: str | None) -> str:
        # After its session has ended, a browser gets a new name, so that two users of one computer have two names.
        if ended:
            after = self._keys.name_after(ended)
            return after if after != name else ""
        return "" if name else self._keys.new_name()

    def start_url(self, tab: str, return_to: str, *, choose_account: bool = False) -> str:
        """Return the address at which a sign-in starts; see `begin` for the arguments."""
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
    ) -> Redirect:
        """Start a flow for a browser. A signed-in user goes straight to the page instead.

        Args:
            cookies: The request's Cookie headers.
            return_to: The page asked for; anything but a page of this app leads to `LOGIN_REDIRECT`.
            tab: Its id; empty if unknown.
            choose_account: Let the user pick an account, also if the directory or this app knows who it is.
            address: The client's.
            old: Whether the browser is too old to send Fetch Metadata.
        """
        target, browser = return_target(return_to) or self.settings.login_redirect, await self.read_browser(cookies)
        known = self.known_cookie.read(cookies) or ""
        named = [self.browser_cookie.header(browser.new_name)] if browser.new_name else []
        began = self.clock()  # before the store's time, so that the cookie expires first
        try:
            await self._limits.admit("start", browser.name, address, known=known, tab=tab, old=address if old else "")
            if browser.signed_in and not choose_account:
                return Redirect(f"{self.settings.public_url}{target}", named)
            msal_flow = await self._client.begin(self._redirect_uri, "select_account" if choose_account else None)
            cookie = FlowCookie.begin(msal_flow["state"], began, target)
            flow, rank = Flow(msal_flow, target, browser.name or browser.new_name), KNOWN if known else WAITING
            await self._flows.put(msal_flow["state"], cookie.binding, flow, address, rank)
        except AuthError as failure:
            failed = self._failed(failure, cookies, target, address, None)
            return failed._replace(cookies=[*failed.cookies, *named])
        audit.record("started", address=address)
        return Redirect(msal_flow["auth_uri"], [*self._add(cookie, cookies), *named])

    async def succeeded(self, tab: str) -> None:
        """Reset the count of starts of a tab in which somebody is signed in."""
        with suppress(StoreUnavailable):
            await self._limits.forget_tab(tab)

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
        for the outcome of the first one; this works until the ticket is used. The browser exchanges the ticket for its
        session cookie within `TICKET_SECONDS`. `answer` is the query that the browser brought to `/callback`;
        `signed_in`, who is signed in in this tab already.
        """
        state = answer.get("state", "")
        cookie = next((cookie for cookie in cookies if cookie.id == flow_id(state)), None)
        if told := _TOLD_BY_QUERY.get(answer.get("problem", "")):
            failure = told()  # it was recorded when it happened; anybody can write this address
            if errors.REFERENCE.fullmatch(reference := answer.get("reference", "")):
                failure.reference = reference
            raise failure
        try:
            await self._limits.admit("callback", browser, address)
            if cookie is None:
                raise _foreign(answer)
            if cookie.failure:
                raise cookie.failure.with_traceback(None)  # the tab shows the same instance again
            if cookie.age(self.clock()) >= FLOW_SECONDS:
                raise FlowExpired("by its cookie")
            return await self._redemptions.redeem(answer, cookie, address, signed_in)
        except AuthError as failure:
            failure.return_to = failure.return_to or (cookie.return_to if cookie else "")
            if not (cookie and cookie.failure is failure):  # else it was recorded when it happened
                _record(failure, address)
            raise

    async def settle(self) -> None:
        """Wait for the redemptions that are running, so that their browsers find the outcome at another worker."""
        await self._redemptions.settle()

    async def start_session(self, ticket: str, cookies: Sequence[str]) -> Redirect:
        """Exchange a ticket, which is not trusted, for a session: a new one, or the user's active one in the browser.

        `cookies` are the request's Cookie headers.
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
            held = await self.session(cookies)
            stays = held is not None and held.session.identity.key == identity.key
            name = self._new_name(named, None if stays else presented)
            bindings = [own.binding, *(cookie.binding for cookie in flows if cookie is not own)]
            name_of_ticket = self._tickets.name(ticket)
            arrival = Arrival(outcome.asked, name_of_ticket, outcome.begun, outcome.browser, bindings, left=named)
            value = await self.sessions.start(identity, name or named, presented, arrival)
        except AuthError as failure:
            return self._failed(failure, cookies, target, "", own)
        audit.record("succeeded", person=identity.key)
        given = [self.flow_cookies.finished(own, value, self.clock())]
        given += [self.browser_cookie.header(name)] if name else []
        given += [] if self.known_cookie.read(cookies) else [self.known_cookie.header(self._keys.new_known())]
        return Redirect(f"{self.settings.public_url}{target}", given, value)

    async def sign_out_url(self, identity: Identity) -> str:
        """Return the address at which the user signs out of the directory and comes back to `/logout`."""
        return await self._client.sign_out_url(identity, f"{self.settings.public_url}/logout")

    async def end_by_directory(self, sid: str, address: str) -> None:
        """End the sessions that belong to a session of Entra, which has ended there; `sid` is not trusted."""
        if await self._limits.admit_sid(address) and GUID.fullmatch(sid.lower()):
            await self.sessions.end_by_directory(sid.lower())

    def _add(self, new: FlowCookie, cookies: Sequence[str], instead_of: FlowCookie | None = None) -> Sequence[str]:
        return self.flow_cookies.add(new, cookies, self.session_cookie.read(cookies), instead_of)

    def _failed(
        self, failure: AuthError, cookies: Sequence[str], target: str, address: str, instead_of: FlowCookie | None
    ) -> Redirect:
        """Return the address of `/callback` that shows a failure, and the cookies in which the browser keeps it.

        After a rate limit, while the store is unavailable, and if there is no room for a cookie, the query names it.
        """
        _record(failure, address)
        if failure.code not in _WITHOUT_COOKIE:
            state = token_urlsafe(32)
            new = FlowCookie.begin(state, self.clock(), target, failure)
            if given := self._add(new, cookies, instead_of):
                return Redirect(f"{self._redirect_uri}?state={state}", given)
        return Redirect(f"{self._redirect_uri}?problem={failure.code}&reference={failure.reference}")


def _foreign(answer: Mapping[str, str]) -> FlowForeign:
    """Return the failure for an answer that belongs to no flow of this browser. Its content is not trusted."""
    if "admin_consent" in answer:
        return errors.ConsentAnswered()
    if "error" in answer and not answer.get("state"):
        return errors.AnswerUnasked()
    return FlowForeign("no cookie of this flow")


def _record(failure: AuthError, address: str) -> None:
    known = {name: getattr(failure, name) for name in ("reference", "detail", "advice")}
    audit.record("failed", failure=failure.code, **known, address=address)
