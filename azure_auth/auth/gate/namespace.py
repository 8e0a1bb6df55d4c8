"""Reflex's event namespace, with the gate in both directions: messages in, updates out."""

# Reflex and python-socketio are partly untyped.
# pyright: reportUnknownMemberType=false

import asyncio
import uuid
from typing import Any
from urllib.parse import parse_qsl

import reflex as rx
from redis.exceptions import RedisError

from azure_auth import audit
from azure_auth.auth.gate import reflex_internals as seam
from azure_auth.auth.gate.lifetimes import REDIS_SECONDS, Closing
from azure_auth.auth.gate.messages import address_of, is_event, is_report, is_too_long, takes
from azure_auth.auth.gate.middleware import EventGate
from azure_auth.auth.gate.pacing import Outgoing
from azure_auth.auth.gate.tabs import SCOPE_KEY, Tab, Tabs
from azure_auth.auth.gate.token_managers import LocalTokens
from azure_auth.auth.gate.updates import is_for_anonymous
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.bounds import ANSWER_SECONDS
from azure_auth.errors import AddressTooLong, AuthError, StoreUnavailable, whereabouts

STALL_SECONDS = 4.0
"""How long an event may be on its way to its handler before the store is asked whether it is there at all."""


class GateNamespace(seam.EventNamespace):
    """Passes a message on to Reflex, or drops it; sends an update, or the part of it that is public."""

    def __init__(
        self, app: rx.App, sessions: Sessions, tabs: Tabs, tokens: LocalTokens, events: EventGate, closing: Closing
    ) -> None:
        super().__init__(seam.path_of(app), app)
        self._sessions, self._tabs, self._tokens = sessions, tabs, tokens
        self._events, self._closing, self._updates = events, closing, closing.updates
        self._take_packet = seam.intercept_packets(app, self.take_packet)
        seam.use_queues(app, Outgoing)

    async def take_packet(self, connection: str, data: Any) -> None:
        """Take a frame from a socket, given by Engine.IO's id; what is no packet of Socket.IO ends the socket."""
        try:
            await self._take_packet(connection, data)
        except Exception as broken:
            if scope := seam.connection_scope(self.app, connection):  # else it left meanwhile
                tab, why = scope[SCOPE_KEY], f"a frame that is no packet: {whereabouts(broken)}"
                audit.record("suspicious", reason=why, address=tab.address)
                tab.end()

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """Let a socket in. Without an event that loads a page, Reflex does not know of it until one comes."""
        tab: Tab = environ["asgi.scope"][SCOPE_KEY]
        self._tabs.bind(tab, sid)
        if tab.frames:
            queue: Outgoing = seam.queue_of(self.app, sid)
            queue.on_full, tab.frames.outgoing = tab.end, queue
        loading = seam.loading_event(auth)
        if is_event(loading) and not (
            await self._is_too_long(tab, loading) or await self._is_turned_away(tab, loading)
        ):
            await self._link(tab, address_of(loading), auth)

    async def _is_too_long(self, tab: Tab, event: dict[str, Any]) -> bool:
        """Tell whether the page's address is too long, and show the person a failure. Otherwise the page would wait."""
        if not is_too_long(event):
            return False
        failure = AddressTooLong()
        audit.record("failed", failure=failure.code, reference=failure.reference, address=tab.address)
        await self._updates.send(tab, self._updates.of(failure=failure.shown("", "")))
        return True

    async def _link(self, tab: Tab, address: str, auth: Any = None) -> bool:
        """Register a socket with Reflex, if possible; tell whether it is."""
        try:
            if tab.refusal:
                raise tab.refusal
            async with asyncio.timeout(REDIS_SECONDS):
                if await self._takes_its_place(tab):
                    environ = seam.server(self.app).get_environ(tab.socket, self.namespace)
                    await super().on_connect(tab.socket, environ, auth)
                    return True
        except (AuthError, RedisError, TimeoutError) as why:
            failure = why if isinstance(why, AuthError) else StoreUnavailable(type(why).__name__)
            await self._updates.send(tab, self._updates.of_failure(failure))
            return False
        # A duplicated tab: as in Reflex, it gets another client token. It loads once more with that.
        await self.emit("new_token", str(uuid.uuid4()), to=tab.socket)
        await self._updates.send(tab, self._updates.of(leaving_to="/" + address.lstrip("/\\")))
        return False

    async def _takes_its_place(self, tab: Tab) -> bool:
        """Give a tab the state under its key; False if another socket has it and its client answers."""
        while (earlier := self._tabs.at(tab.state_key)) is not tab:
            if earlier and earlier.frames and not earlier.refusal and await earlier.frames.answers(ANSWER_SECONDS):
                return False
            if self._tabs.at(tab.state_key) is earlier:  # else another one was faster
                self._tabs.hold(tab)
                if earlier:
                    await self._closing.cut(earlier)
        return tab.session is None or await self._tokens.take_over(
            tab.state_key, tab.socket, lambda: self._sessions.ask_for(tab.state_key, tab.socket)
        )

    async def on_event(self, sid: str, data: Any = None, *_: Any) -> None:
        """Take a message from a socket; what is no event of this app is dropped, before Reflex logs all of it."""
        tab = self._tabs.of_socket(sid)
        if tab is None or tab.is_over:  # its page connects again, as who its cookie says now
            return
        if not is_event(data):
            audit.record("suspicious", reason="a message that is no event", address=tab.address)
            return
        if await self._is_too_long(tab, data):
            return
        address = address_of(data)
        where = data["router_data"] = {**data.get("router_data", {}), "asPath": address}
        if await self._is_turned_away(tab, data):
            return
        # For example an anonymous one that was turned away when the page loaded.
        if sid not in self.sid_to_token and not await self._link(tab, address):
            return
        if not takes(data):
            audit.record("suspicious", reason="an event with arguments of other types", address=tab.address)
            return
        path, query = address.partition("?")[::2]
        if path.rstrip("/") == "/callback":
            tab.answer = dict(parse_qsl(query))
            data["router_data"] = {**where, "asPath": path, "query": {}}  # a code is for no state and no log
        await self._queue(tab, data)

    async def _queue(self, tab: Tab, event: dict[str, Any]) -> None:
        """Give an event to Reflex; its handler counts as work of the tab until it is done."""
        tab.stall_timer = tab.stall_timer or asyncio.get_running_loop().call_later(
            STALL_SECONDS, lambda: self._closing.soon(self._ask_why(tab))
        )
        before = seam.last_queued(self.app)
        await super().on_event(tab.socket, event)
        is_counted = (
            tab.session and seam.registered(event["name"]).handler.is_background
        )  # by the middleware, as it runs
        queued = seam.last_queued(self.app)
        if tab.frames and queued and queued is not before and not is_counted:
            tab.frames.hold(queued)

    async def on_client_error(self, sid: str, data: Any = None, *_: Any) -> None:
        """Take what a browser reports of an update that it could not apply; only as Reflex's client says it."""
        if is_report(data):
            await super().on_client_error(sid, data)
        elif tab := self._tabs.of_socket(sid):
            audit.record("suspicious", reason="a report in another form", address=tab.address)

    async def _is_turned_away(self, tab: Tab, event: dict[str, Any]) -> bool:
        """Answer an anonymous tab's event that reaches no handler, before Reflex makes a state for it."""
        address = address_of(event)
        path = address.partition("?")[0]
        page = path if path.rstrip("/") == "/callback" else address  # a code goes nowhere else
        tab.page = "/" + page.lstrip("/\\")
        if tab.session or tab.refusal:
            return False
        answer = self._events.answer_anonymous(tab, event["name"], path)
        if answer and answer.delta:
            await self._updates.send(tab, answer)
        return answer is not None

    async def _ask_why(self, tab: Tab) -> None:
        """Tell a tab whose event has not come to its handler, for Reflex waits for its Redis without a limit."""
        tab.stall_timer = None
        try:
            await self._sessions.ping()
        except StoreUnavailable as failure:
            await self._updates.send(tab, self._updates.of_failure(failure))

    async def emit_update(self, update: seam.StateUpdate, token: str) -> None:
        """Send a browser what it may see: all of it with an active session, else what is public."""
        tab = self._tabs.at(token)
        if tab is None and self._tokens.is_elsewhere(token):
            await super().emit_update(update, token)  # the worker that has the tab decides
            return
        if tab and tab.is_over:  # it receives nothing more
            return
        if tab is None or not tab.signed_in:
            states = {name: rx.State.get_class_substate(name) for name in update.delta}
            delta = {name: update.delta[name] for name, state in states.items() if is_for_anonymous(state)}
            update = seam.StateUpdate(delta=delta, events=update.events if tab and not tab.session else [])
        if update.delta or update.events:
            await super().emit_update(update, token)
