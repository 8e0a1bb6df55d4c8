"""The state that pages bind to: who is signed in, and the handlers of `/`, `/callback` and `/logout`.

Thin: it translates between Reflex and `auth.sign_in`. Every function without a leading underscore can be called by
anyone with any argument, so none takes one. Nothing of the person is kept in the state: what pages show is computed
from the session, and kept out of Reflex's pickles.
"""

# Reflex's decorators are partly untyped.
# pyright: reportUnknownMemberType=false

import logging
from typing import Any, ClassVar

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
    "idle": "Your session ended because nothing happened for a while.",
    "expired": "Your session ended because it had lasted as long as a session may.",
    "refused": "Your session ended because this site was set up anew.",
    "unreachable": "Microsoft could not be reached, so you may still be signed in there. Close all browser windows.",
}


@public
class State(rx.State):
    """Who is signed in, in this tab.

    A page's own state that shows something of the person inherits from this one and asks `_who`.

    Attributes:
        sign_in: What does the work; set once, where the app is composed.
        tabs: Who is connected; likewise.
        leaving_to: An address that the browser is to go to now, by a full navigation; told to the browser, never kept.
        ticket: With which the browser fetches its session cookie on the way; likewise.
        failure: What went wrong: `heading`, `message`, `reference`; the addresses `again`, `other_account`; likewise.
        broken: What a handler of a page failed with: `heading`, `message`, `reference`; likewise.
    """

    sign_in: ClassVar[SignIn]
    tabs: ClassVar[Tabs]
    leaving_to: str = ""
    ticket: str = ""
    failure: dict[str, str] = {}
    broken: dict[str, str] = {}

    @rx.var(cache=False)
    def check_auth(self) -> bool:
        """Whether somebody is signed in."""
        return self._who() is not None

    @rx.var(cache=False)
    def token(self) -> dict[str, str]:
        """The few fields that pages show of the person: `name`, `username` and `initials`."""
        if (who := self._who()) is None:
            return {"name": "", "username": "", "initials": ""}
        return {"name": who.name, "username": who.username, "initials": who.initials}

    @rx.event
    @public
    async def require_auth(self) -> None:
        """Let a signed-in person through; send anybody else to sign in and back to this page."""
        tab = self._tab()
        if tab.signed_in:
            await self.sign_in.succeeded(tab.stable_id)
        else:
            url = self.router.url
            page = url.path + (f"?{url.query}" if url.query else "")
            await self._update_client(leaving_to=self.sign_in.start_url(tab.stable_id, page))

    @rx.event
    @public
    async def callback(self) -> rx.event.EventSpec | None:
        """Finish the sign-in that the directory answered, or say why it failed."""
        tab = self._tab()
        try:
            who = tab.signed_in.identity if tab.signed_in else None
            ticket = await self.sign_in.finish(
                tab.answer, tab.flow_cookies, tab.address, browser=tab.browser, signed_in=who
            )
        except AuthError as failure:
            if isinstance(failure, (FlowUnknown, FlowForeign)) and tab.signed_in:
                return rx.redirect(self.sign_in.settings.login_redirect, replace=True)
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
        """End the session here, then at the directory, and come back to `/logout`; for a stranger, do nothing."""
        await self._sign_out(everywhere=False)

    @rx.event
    async def logout_everywhere(self) -> None:
        """End all sessions of the person, in all browsers; then as `logout`."""
        await self._sign_out(everywhere=True)

    @rx.var
    def sign_in_url(self) -> str:
        """The address at which a sign-in starts, for a "Sign in" control; it leads to the page that was left."""
        return self.sign_in.start_url(self._tab().stable_id, return_target(self._asked("return_to")) or "/")

    @rx.var
    def notice(self) -> str:
        """What there is to say at `/logout` besides that nobody is signed in."""
        return _NOTICES.get(self._asked("because"), "")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was computed: it tells of the person, and Reflex's pickles are no place for that."""
        kept: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in kept.items() if not name.startswith(reflex_internals.COMPUTED)}

    def _who(self) -> Identity | None:
        """Return who is signed in in the tab whose state this is; None for a stranger."""
        tab = self.tabs.at(self.router.session.client_token)
        return tab.signed_in.identity if tab and tab.signed_in else None

    def _tab(self) -> Tab:
        tab = self.tabs.at(self.router.session.client_token)
        return tab or Tab.of(self.router.session.client_token, None)

    async def _sign_out(self, *, everywhere: bool) -> None:
        tab = self._tab()
        session = tab.signed_in
        if session is None:
            return
        tells = self.router.url.path.rstrip("/") == "/logout" and self._asked("because")
        if tab.returned or tells:  # a page that only tells of an end: another session's, it seems
            await self._update_client(leaving_to=return_target(self._asked("return_to")) or "/")
            return
        tab.leaving = True
        sessions = self.sign_in.sessions
        try:
            await (sessions.end_everywhere(session) if everywhere else sessions.end(session, "signed_out"))
            address = await self.sign_in.sign_out_url(session.identity)
        except StoreUnavailable as failure:
            _log.error("not signed out: %s", failure)
            await self._show(failure)
            return
        except AuthError as failure:
            _log.warning("signed out here, but not at the directory: %s", failure)
            address = "/logout?because=unreachable"
        await self._update_client(leaving_to=address)

    async def _update_client(self, **values: object) -> None:
        """Set vars in the browser alone: what leads somewhere once is not to lie in a state."""
        await reflex_internals.EventContext.get().emit_delta(reflex_internals.delta(State, **values))

    async def _show(self, failure: AuthError) -> None:
        tab, return_to = self._tab().stable_id, failure.return_to
        again = self.sign_in.start_url(tab, return_to)
        other_account = self.sign_in.start_url(tab, return_to, choose_account=True)
        await self._update_client(failure=failure.shown(again, other_account))

    def _asked(self, name: str) -> str:
        return self.router.url.query_parameters.get(name, "")
