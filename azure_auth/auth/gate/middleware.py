"""Who may run an event: asked before every handler, the framework's own included. Deny by default.

Reflex lets anybody call any handler of any state. So no event reaches a handler unless the tab that it belongs to is
known here with an active session, or the handler or page is public.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import reflex as rx

from azure_auth import audit
from azure_auth.auth.gate import reflex_internals as seam
from azure_auth.auth.gate.lifetimes import Closing
from azure_auth.auth.gate.messages import fits_upload, takes_files
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.gate.updates import is_for_anonymous
from azure_auth.auth.policy import is_public
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.bounds import SESSION_TASKS
from azure_auth.errors import StoreUnavailable, TooManyTasks

_log = logging.getLogger(__name__)


class EventGate(rx.Middleware):
    """Lets an event pass, or answers in its handler's place."""

    def __init__(
        self, app: rx.App, sessions: Sessions, tabs: Tabs, closing: Closing, start_url: Callable[[str, str], str]
    ) -> None:
        self._app, self._sessions, self._tabs, self._start_url = app, sessions, tabs, start_url
        self._closing, self._updates = closing, closing.updates
        self._running: dict[Session, dict[asyncio.Task[Any], str]] = {}

    async def preprocess(self, app: rx.App, state: Any, event: seam.Event) -> seam.StateUpdate | None:  # noqa: ARG002
        """Let an event pass (None), or answer in its handler's place."""
        context = seam.EventContext.get()
        tab = self._tabs.at(context.token)
        if tab is None or tab.is_over:  # it left meanwhile
            return seam.StateUpdate()
        if tab.stall_timer:
            tab.stall_timer.cancel()
            tab.stall_timer = None
        if takes_files(event.name) and not fits_upload(event):  # it came by HTTP, past `on_event`
            audit.record("suspicious", reason="an upload with other arguments", address=tab.address)
            return seam.StateUpdate()
        lost, tab.lost = tab.lost, False
        if lost and event.name not in seam.HYDRATING:
            return self._updates.of(leaving_to=tab.page)
        if tab.session:
            return await self._answer_session(tab, tab.session, event, context)
        if event.name in seam.STORING:  # what an anonymous browser remembers is for public states alone
            stored = cast("dict[str, Any]", event.payload.get("vars") or {})
            kept = {name: value for name, value in stored.items() if _is_var_for_anonymous(name)}
            event.payload.clear()
            event.payload.update({"vars": kept} if stored else {})
        return self.answer_anonymous(tab, event.name, urlsplit(str(context.router_data.get("asPath", ""))).path)

    async def _answer_session(
        self, tab: Tab, session: Session, event: seam.Event, context: seam.EventContext
    ) -> seam.StateUpdate | None:
        if len(self._running.get(session, ())) >= SESSION_TASKS and seam.registered(event.name).handler.is_background:
            return self._updates.of_broken(TooManyTasks())
        self._count(session, context.token)  # before the session is asked for: it may end while the store answers
        try:
            if not await self._sessions.is_active(session, tab.handle):
                if session.ended is None:  # the cookie has another value now
                    await self._closing.cut(tab)
                    return seam.StateUpdate()
                return seam.StateUpdate() if tab.leaving else self._updates.of(leaving_to=after_end(tab, session))
        except StoreUnavailable as failure:
            return self._updates.of_failure(failure)
        if event.name in seam.HYDRATING:
            tab.returned = "hashes" not in event.payload  # a page load sends them, connecting again does not
        elif is_user_activity(tab, event, context):
            tab.returned = False
            try:
                await self._sessions.touch(session)
            except StoreUnavailable as failure:  # it stays active all the same; unless told later, it idles out sooner
                _log.error("the store was not told that somebody is there: %s", failure)
        return None

    def answer_anonymous(self, tab: Tab, event: str, path: str) -> seam.StateUpdate | None:
        """Return what an anonymous tab gets in its handler's place; None if the event is public.

        `event` is its name, `path` that of the page that it comes from.
        """
        if is_public(seam.registered(event).handler.fn):
            return None
        is_of_page = event in seam.LOADING | seam.STORING
        if not is_of_page:
            why, page = "an event that needs a session", f"/{self._app.router(path) or ''}"
            audit.record("refused", reason=why, address=tab.address, handler=event, page=page)
        if not is_public(seam.page_at(self._app, path)):
            return self._updates.of(leaving_to=self._start_url(tab.stable_id, tab.page))
        return None if is_of_page else seam.StateUpdate()

    def note_lost_state(self, key: str) -> None:
        """Note that a tab's state, written by another release, was reset: reload the page at its next event."""
        if tab := self._tabs.at(key):
            tab.lost = True

    def stop(self, session: Session) -> set[str]:
        """Cancel the handlers that run for a session; return the keys of their states."""
        running = self._running.pop(session, {})
        for task in running:
            if task is not asyncio.current_task():
                task.cancel()
        return set(running.values())

    def _count(self, session: Session, key: str) -> None:
        if task := asyncio.current_task():
            self._running.setdefault(session, {})[task] = key
            task.add_done_callback(lambda done: self._forget(session, done))

    def _forget(self, session: Session, task: asyncio.Task[Any]) -> None:
        running = self._running.get(session, {})
        running.pop(task, None)
        if not running:
            self._running.pop(session, None)


def is_user_activity(tab: Tab, event: seam.Event, context: seam.EventContext) -> bool:
    """Tell whether an event is something that the person did, and not what Reflex does by itself."""
    is_chained = context.parent_txid is not None
    if event.name == seam.ON_LOAD:
        return not (is_chained and tab.returned)
    return not is_chained and seam.registered(event.name).states[0] not in seam.FRAMEWORK_STATES


def after_end(tab: Tab, session: Session) -> str:
    """Return where a tab goes whose session has ended; one that was replaced loads again, with the new one."""
    if session.ended == "replaced":
        return tab.page
    return f"/logout?{urlencode({'because': session.ended, 'return_to': tab.page})}"


def _is_var_for_anonymous(var: str) -> bool:
    return is_for_anonymous(rx.State.get_class_substate(var.rpartition(".")[0]))
