"""What every event and every update passes: deny by default; what is public says so.

This module composes the parts, and says what becomes of tabs when a session ends.
"""

from collections.abc import Callable
from contextlib import suppress

import reflex as rx
from redis.exceptions import RedisError

from azure_auth.auth.gate import states, token_managers
from azure_auth.auth.gate.frames import Frames
from azure_auth.auth.gate.lifetimes import Admission, Cleanup, Closing
from azure_auth.auth.gate.middleware import EventGate, after_end
from azure_auth.auth.gate.namespace import GateNamespace
from azure_auth.auth.gate.reflex_internals import EventContext, install, own_exception_handlers, token_manager_of
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.gate.updates import Updates, hide_from_anonymous
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.bounds import ANSWER_SECONDS


class Gate:
    """Stands between browsers and the app's states, in both directions."""

    def __init__(
        self, app: rx.App, sessions: Sessions, tabs: Tabs, state: type[rx.State], start_url: Callable[[str, str], str]
    ) -> None:
        """Put the gate in front of everything that `app` does with states. Pages may be added later.

        `state` has `leaving_to`, `failure` and `broken`, which every page shows. `start_url` returns where an anonymous
        tab signs in, given its stable id and the page to come back to.
        """
        self._sessions, self._tabs = sessions, tabs
        self._tokens = token_managers.instead_of(token_manager_of(app))
        kept = states.instead_of(app.state_manager, sessions.is_over)
        hide_from_anonymous()
        self.updates = Updates(app, state)
        self.closing = Closing(app, tabs, self._tokens, self.updates)
        self._admission = Admission(tabs, self.closing)
        self.cleanup = Cleanup(sessions, tabs, self._tokens, kept, self.closing)
        self.events = EventGate(app, sessions, tabs, self.closing, start_url)
        self.namespace = GateNamespace(app, sessions, tabs, self._tokens, self.events, self.closing)
        install(app, kept, self.namespace, self._tokens)
        app.add_middleware(self.events, index=0)  # before Reflex's own, which answers `hydrate`
        self._their_backend_handler, self._their_frontend_handler = own_exception_handlers(app)
        app.backend_exception_handler, app.frontend_exception_handler = self._tell, self._report
        if isinstance(kept, states.SharedStates):
            kept.on_unreadable = self.events.note_lost_state
        sessions.on_gone = kept.forget
        sessions.on_end.append(self._on_end)
        sessions.on_outdated.append(self._on_outdated)
        sessions.on_asked = self._answer_for

    def welcome(self, tab: Tab) -> bool:
        """Tell whether there is room for a socket; keep the state of a tab that reconnects."""
        self.cleanup.keep(tab.state_key)
        return self._admission.admit(tab)

    async def left(self, tab: Tab) -> None:
        """Let go of a tab that is gone."""
        for timer in filter(None, (tab.timer, tab.stall_timer)):
            timer.cancel()
        await self.cleanup.left(tab)

    def _tell(self, exception: Exception) -> None:
        update = self.updates.of_exception(exception)
        self.closing.soon(self.namespace.emit_update(update, EventContext.get().token))
        if self._their_backend_handler:
            self._their_backend_handler(exception)

    def _report(self, exception: Exception) -> None:
        if self.updates.log_report(exception) and self._their_frontend_handler:
            self._their_frontend_handler(exception)

    def _on_end(self, session: Session) -> None:
        """Stop what runs for a session that has ended, forget its states, and send its tabs away."""
        keys, tabs = self.events.stop(session), self._tabs.of(session)
        for tab in tabs:
            if session.ended == "joined":
                self.closing.soon(self.closing.cut(tab))
            elif tab.socket and not tab.leaving:
                tab.leaving = True
                self.closing.soon(self.closing.send_away(tab, after_end(tab, session)))
        self.closing.soon(self.cleanup.forget({*keys, *(tab.state_key for tab in tabs)}))

    def _on_outdated(self, session: Session) -> None:
        """Cut connections whose cookie value has expired. Their pages reconnect with the current one."""
        for tab in self._tabs.of(session):
            if not self._sessions.admits(session, tab.handle):
                self.closing.soon(self.closing.cut(tab))

    def _answer_for(self, key: str, asking: str) -> None:
        """Tell another worker whether a tab is connected here, unless it is this worker's own socket that asks."""
        tab = self._tabs.at(key)
        if tab and tab.frames and tab.socket != asking:
            self.closing.soon(self._keep_or_cut(tab, tab.frames))

    async def _keep_or_cut(self, tab: Tab, frames: Frames) -> None:
        if await frames.answers(ANSWER_SECONDS):
            with suppress(RedisError):
                await self._tokens.keep(tab.state_key)
        else:
            await self.closing.cut(tab)
