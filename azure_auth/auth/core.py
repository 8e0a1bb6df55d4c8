"""The state that pages bind to: who is signed in, and the handlers of `/`, `/callback` and `/logout`.

It translates between Reflex and `auth.sign_in`. Any client can call a handler without a leading underscore, with any
argument, so no handler takes one. The state stores nothing about the user: what pages show is computed from the
session, and left out of Reflex's pickles.
"""

# Reflex's decorators are partly untyped.
# pyright: reportUnknownMemberType=false

import logging
from dataclasses import dataclass
from typing import Any

import reflex as rx

from azure_auth.auth.gate import reflex_internals
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.identity import Identity
from azure_auth.auth.policy import public
from azure_auth.auth.sign_in import SignIn
from azure_auth.errors import AuthError, FlowForeign, FlowUnknown, SignInFailed, StoreUnavailable, whereabouts
from azure_auth.return_target import return_target

_log = logging.getLogger(__name__)
_NOTICES = {
    "directory": "You signed out of Microsoft, and so of this site.",
    "idle": "Your session ended after a time without activity.",
    "expired": "Your session reached its maximum length.",
    "refused": "Your session ended because the configuration of this site changed.",
    "unreachable": "Microsoft could not be reached, so you may still be signed in there. Close all browser windows.",
}


@dataclass(frozen=True, slots=True)
class Services:
    """What `install` made for the app of this process: the parts of sign-in that its states need."""

    sign_in: SignIn
    tabs: Tabs


_services: Services | None = None


def register(services: Services) -> None:
    """Make the services of the app known to its states, which Reflex builds without arguments."""
    global _services
    _services = services


def services() -> Services:
    """Return the services of the app.

    Raises:
        RuntimeError: When `install` was not called.
    """
    if _services is None:
        raise RuntimeError("call azure_auth.auth.install(app, settings) before a page is built")
    return _services


@public
class State(rx.State):
    """Who is signed in, in this tab.

    The state of a page that shows something about the user inherits from this one and calls `_who`.

    Attributes:
        leaving_to: The address to which the browser goes now, by a full navigation. Sent to the browser, never stored,
            like the following three.
        ticket: The ticket with which the browser fetches its session cookie before it leaves.
        failure: What went wrong: `heading`, `message`, `reference`, and the addresses `again` and `other_account`.
        broken: Which fault a handler of a page had: `heading`, `message`, `reference`.
    """

    leaving_to: str = ""
    ticket: str = ""
    failure: dict[str, str] = {}
    broken: dict[str, str] = {}

    @rx.var(cache=False)
    def check_auth(self) -> bool:
        """Whether a user is signed in."""
        return self._who() is not None

    @rx.var(cache=False)
    def token(self) -> dict[str, str]:
        """The fields of the user that pages show: `name`, `username` and `initials`."""
        if (who := self._who()) is None:
            return {"name": "", "username": "", "initials": ""}
        return {"name": who.name, "username": who.username, "initials": who.initials}

    @rx.event
    @public
    async def require_auth(self) -> None:
        """Let a signed-in user through. Send anybody else to sign in, and back to this page."""
        tab = self._tab()
        if tab.signed_in:
            await services().sign_in.succeeded(tab.stable_id)
        else:
            url = self.router.url
            page = url.path + (f"?{url.query}" if url.query else "")
            await self._update_client(leaving_to=services().sign_in.start_url(tab.stable_id, page))

    @rx.event
    @public
    async def callback(self) -> rx.event.EventSpec | None:
        """Finish a sign-in with the directory's answer, or show why it failed."""
        tab = self._tab()
        try:
            who = tab.signed_in.identity if tab.signed_in else None
            ticket = await services().sign_in.finish(
                tab.answer, tab.flow_cookies, tab.address, browser=tab.browser, signed_in=who
            )
        except AuthError as failure:
            if isinstance(failure, (FlowUnknown, FlowForeign)) and tab.signed_in:
                return rx.redirect(services().sign_in.settings.login_redirect, replace=True)
            await self._show(failure)
        except Exception as broken:
            failure = SignInFailed(whereabouts(broken))
            _log.error("sign-in failed: %s", failure)
            await self._show(failure)
        else:
            tab.leaving = True
            await self._update_client(ticket=ticket)
        return None

    @rx.event
    @public
    async def logout(self) -> None:
        """End the session here, then at the directory, and come back to `/logout`. Without a session, do nothing."""
        await self._sign_out(everywhere=False)

    @rx.event
    async def logout_everywhere(self) -> None:
        """End all sessions of the user, in all browsers; then do the same as `logout`."""
        await self._sign_out(everywhere=True)

    @rx.var
    def sign_in_url(self) -> str:
        """The address that starts a sign-in, for a "Sign in" control. It leads back to the page that was left."""
        return services().sign_in.start_url(self._tab().stable_id, return_target(self._asked("return_to")) or "/")

    @rx.var
    def notice(self) -> str:
        """What `/logout` says besides that nobody is signed in."""
        return _NOTICES.get(self._asked("because"), "")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out computed vars, because they show the user, and a pickle may be stored."""
        kept: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in kept.items() if not name.startswith(reflex_internals.COMPUTED)}

    def _who(self) -> Identity | None:
        """Return the user of this state's tab; None when nobody is signed in."""
        session = self._tab().signed_in
        return session.identity if session else None

    def _tab(self) -> Tab:
        key = self.router.session.client_token
        return services().tabs.at(key) or Tab.of(key, None)

    async def _sign_out(self, *, everywhere: bool) -> None:
        tab = self._tab()
        if (session := tab.signed_in) is None:
            return
        tells = self.router.url.path.rstrip("/") == "/logout" and self._asked("because")
        if tab.returned or tells:  # the page shows how an earlier session ended; the current session stays
            await self._update_client(leaving_to=return_target(self._asked("return_to")) or "/")
            return
        tab.leaving = True
        sessions = services().sign_in.sessions
        try:
            await (sessions.end_everywhere(session) if everywhere else sessions.end(session, "signed_out"))
            address = await services().sign_in.sign_out_url(session.identity)
        except StoreUnavailable as failure:
            _log.error("not signed out: %s", failure)
            await self._show(failure)
            return
        except AuthError as failure:
            _log.warning("signed out here, but not at the directory: %s", failure)
            address = "/logout?because=unreachable"
        await self._update_client(leaving_to=address)

    async def _update_client(self, **values: object) -> None:
        """Set vars in the browser alone. What navigates once must not stay in a state."""
        await reflex_internals.EventContext.get().emit_delta(reflex_internals.delta(State, **values))

    async def _show(self, failure: AuthError) -> None:
        tab, return_to = self._tab().stable_id, failure.return_to
        again = services().sign_in.start_url(tab, return_to)
        other_account = services().sign_in.start_url(tab, return_to, choose_account=True)
        await self._update_client(failure=failure.shown(again, other_account))

    def _asked(self, name: str) -> str:
        return self.router.url.query_parameters.get(name, "")
