"""The state that pages bind to: who is signed in, and the handlers of `/`, `/callback` and `/logout`.

Thin: it translates between Reflex and `auth.sign_in`. Every function without a leading underscore can be called by
anyone with any argument, so none takes one.
"""

# Reflex's decorators are partly untyped.
# pyright: reportUnknownMemberType=false

import logging
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import ClassVar
from urllib.parse import urlencode

import reflex as rx

from azure_auth.auth.http import flow_cookie_name, read_cookie
from azure_auth.auth.identity import Identity
from azure_auth.auth.sign_in import SignIn
from azure_auth.errors import AuthError, FlowUnknown, SignInFailed, whereabouts

_log = logging.getLogger(__name__)


class State(rx.State):
    """Who is signed in in this tab.

    Attributes:
        sign_in: What does the work; set once, where the app is composed.
        leaving_to: An address outside the pages that the browser is to go to now; empty most of the time.
        failure: Of a sign-in that failed: `heading`, `message`, `reference`; the addresses `again`, `other_account`.
    """

    sign_in: ClassVar[SignIn]
    _identity: Identity | None = None
    leaving_to: str = ""
    failure: dict[str, str] = {}

    @rx.var
    def check_auth(self) -> bool:
        """Whether somebody is signed in."""
        return self._identity is not None

    @rx.var
    def token(self) -> dict[str, str]:
        """The few fields that pages show of the person: `name`, `username` and `initials`."""
        if (who := self._identity) is None:
            return {"name": "", "username": "", "initials": ""}
        return {"name": who.name, "username": who.username, "initials": who.initials}

    @rx.event
    async def require_auth(self) -> None:
        """Let a signed-in person through; send anybody else to sign in and back to this page."""
        self._settle()
        if self._identity is not None:
            self.sign_in.starts.succeeded(self._tab())
        else:
            url = self.router.url
            page = url.path + (f"?{url.query}" if url.query else "")
            self.leaving_to = self._start_url(return_to="" if page == "/" else page)

    @rx.event
    async def callback(self) -> rx.event.EventSpec | None:
        """Finish the sign-in that the directory answered, or say why it failed."""
        self._settle()
        name = flow_cookie_name(self.sign_in.settings.public_url)
        try:
            signed_in = await self.sign_in.finish(
                dict(self.router.url.query_parameters),
                browser=read_cookie([self.router.headers.cookie], name),
                tab=self._tab(),
            )
        except AuthError as failure:
            if isinstance(failure, FlowUnknown) and self._identity is not None:
                return rx.redirect(self.sign_in.settings.login_redirect, replace=True)
            self._show(failure)
        except Exception as broken:
            self._show(SignInFailed(whereabouts(broken)))
        else:
            self._identity = signed_in.identity
            return rx.redirect(signed_in.return_to, replace=True)
        return None

    @rx.event
    async def logout(self) -> rx.event.EventSpec | None:
        """End the session here, then at the directory, and come back to `/logout`; for a stranger, do nothing."""
        self._settle()
        who, self._identity = self._identity, None
        if who is None:
            return None
        try:
            self.leaving_to = await self.sign_in.sign_out_url(who)
        except AuthError as failure:
            _log.warning("signed out here, but not at the directory: %s", failure)
            return rx.redirect("/logout", replace=True)
        return None

    @rx.var
    def sign_in_url(self) -> str:
        """The address at which a sign-in starts, for a "Sign in" control."""
        return self._start_url()

    def _settle(self) -> None:
        """Forget what an earlier page of this tab was about to do or say."""
        self.leaving_to = ""
        self.failure = {}

    def _show(self, failure: AuthError) -> None:
        _log.warning("sign-in failed: %s", failure)
        self.failure = {
            "heading": failure.heading,
            "message": failure.message,
            "reference": failure.reference,
            "again": self._start_url(return_to=failure.return_to),
            "other_account": self._start_url(return_to=failure.return_to, prompt="select_account"),
        }

    def _start_url(self, **asked: str) -> str:
        query = urlencode({name: value for name, value in {**asked, "tab": self._tab()}.items() if value})
        return f"{self.sign_in.settings.backend_url}/auth/sign-in?{query}"

    def _tab(self) -> str:
        """Tell this tab from others, without showing Reflex's token, which would open its state."""
        digest = sha256(self.router.session.client_token.encode()).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")
