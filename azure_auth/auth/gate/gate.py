"""What every event and every update passes: deny by default; what is public says so.

Reflex lets anybody call any handler of any state, and sends to whoever holds a state's key. So no event reaches a
handler, and no update a browser, unless the tab that it belongs to is known here with a session that stands.
"""

# Reflex's decorators and events are partly untyped.
# pyright: reportUnknownMemberType=false

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from itertools import repeat
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import reflex as rx
from redis.exceptions import RedisError

from azure_auth import audit
from azure_auth.auth.gate import states
from azure_auth.auth.gate.frames import Frames, Outgoing
from azure_auth.auth.gate.links import SharedLinks
from azure_auth.auth.gate.messages import fits_upload, is_event, is_report, is_user_activity, takes, takes_files
from azure_auth.auth.gate.reflex_internals import (
    FRAMEWORK_STATES,
    HYDRATING,
    LOADING,
    STORING,
    Event,
    EventContext,
    LockExpiredError,
    Middleware,
    RedisTokenManager,
    StateUpdate,
    delta,
    last_queued,
    loading_event,
    page_at,
    registered,
)
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.policy import is_public
from azure_auth.auth.sessions.limits import Limit
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.bounds import (
    ANSWER_SECONDS,
    GONE_SECONDS,
    REPORTS_A_MINUTE,
    SESSION_SOCKETS,
    SESSION_TABS,
    SESSION_TASKS,
    STRANGER_ANSWER_SECONDS,
    STRANGER_SECONDS,
    STRANGER_STATE_SECONDS,
    STRANGERS,
    STRANGERS_OF_ADDRESS,
    STRANGERS_OF_BROWSER,
    TAB_ANSWER_SECONDS,
)
from azure_auth.errors import AuthError, HandlerFailed, StoreUnavailable, TooManyTabs, TooManyTasks, whereabouts

_log = logging.getLogger(__name__)
TAB = "azure_auth.tab"
"""Where the ASGI side leaves a socket's tab in its scope."""
LATE_SECONDS = 4.0
"""How long an event may be on its way to the gate before the store is asked whether it is there at all."""


def _is_for_strangers(state: type[Any]) -> bool:
    return state in FRAMEWORK_STATES or is_public(state)


def _is_for_all(var: str) -> bool:
    return _is_for_strangers(rx.State.get_class_substate(var.rpartition(".")[0]))


class Gate(Middleware):
    """Stands between browsers and the app's states, in both directions."""

    def __init__(
        self, app: rx.App, sessions: Sessions, tabs: Tabs, state: type[rx.State], start_url: Callable[[str, str], str]
    ) -> None:
        """Put the gate in front of everything that `app` does with states.

        Args:
            app: The app; its pages may be added later.
            sessions: Who is signed in.
            tabs: Who is connected.
            state: The state that has `leaving_to` and `failure`, which every page shows.
            start_url: Returns where a stranger signs in, given the id of the tab and the page to come back to.
        """
        if app.event_namespace is None or app.sio is None:
            raise RuntimeError("the app has no states yet")
        self._app, self._sessions, self._tabs = app, sessions, tabs
        self._namespace, self._server = app.event_namespace, app.sio
        self._state, self._start_url = state, start_url
        self._running: dict[Session, dict[asyncio.Task[Any], str]] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self._left: dict[str, asyncio.TimerHandle] = {}
        # Reflex has no other place through which all updates, and all messages, pass.
        self._emit, self._namespace.emit_update = self._namespace.emit_update, self.emit_update
        self._receive, self._namespace.on_event = self._namespace.on_event, self.on_event
        self._connect, self._namespace.on_connect = self._namespace.on_connect, self.on_connect
        self._client_error, self._namespace.on_client_error = self._namespace.on_client_error, self.on_client_error
        self._packet = self._server.eio.handlers["message"]
        self._server.eio.on("message", self.on_packet)
        self._server.eio.create_queue = Outgoing
        states.hide_from_strangers(_is_for_strangers)
        app.add_middleware(self, index=0)  # before Reflex's own, which answers `hydrate`
        sessions.on_end.append(self._on_end)
        sessions.on_outdated.append(self._on_outdated)
        sessions.on_gone = self._forget_states
        sessions.on_asked = self._answer_for
        app.backend_exception_handler = self.report
        self._reports = Limit(REPORTS_A_MINUTE, 60.0)
        app.frontend_exception_handler = self.log_report

    async def on_packet(self, sid: str, data: Any) -> None:
        """Take a frame from a socket, given by Engine.IO's id; what is no packet of Socket.IO ends the socket."""
        try:
            await self._packet(sid, data)
        except Exception as broken:
            if environ := cast("dict[str, Any] | None", self._server.environ.get(sid)):  # else it left meanwhile
                tab, why = _tab_of(environ), f"a frame that is no packet: {whereabouts(broken)}"
                audit.record("suspicious", reason=why, address=tab.address)
                tab.end()

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """Let a socket in. Without an event that loads a page, Reflex does not know of it until one comes."""
        tab = _tab_of(environ)
        tab.socket = sid
        if tab.frames:
            sockets = cast("dict[str, Any]", self._server.eio.sockets)
            queue: Outgoing = sockets[cast("Any", self._server.manager).eio_sid_from_sid(sid, self._path)].queue
            queue.on_full, tab.frames.outgoing = tab.end, queue
        loading = loading_event(auth)
        if is_event(loading) and not await self._is_turned_away(tab, loading):
            await self._link(tab, _address_of(loading), auth)

    async def _link(self, tab: Tab, address: str, auth: Any = None) -> bool:
        """Let Reflex know a socket, unless that cannot be; tell whether it does."""
        try:
            if tab.store_error:
                raise tab.store_error
            async with asyncio.timeout(2 * LATE_SECONDS):  # Reflex asks its Redis, and sets no limit
                if await self._takes_its_place(tab):
                    await self._connect(tab.socket, self._environ(tab.socket), auth)
                    return True
        except (AuthError, RedisError, TimeoutError) as why:
            await self._namespace.emit("event", self._failure_update(_unavailable(why)), to=tab.socket)
            return False
        # A duplicated tab: it loads once more, with another client token.
        await self._namespace.emit("new_token", str(uuid.uuid4()), to=tab.socket)
        again = self.client_update(leaving_to="/" + address.lstrip("/\\"))
        await self._namespace.emit("event", again, to=tab.socket)
        return False

    async def _takes_its_place(self, tab: Tab) -> bool:
        """Give a tab the state under its key; False if another socket has it whose client answers."""
        while (earlier := self._tabs.at(tab.key)) is not tab:
            if earlier and earlier.frames and not earlier.store_error and await earlier.frames.answers(ANSWER_SECONDS):
                return False
            if self._tabs.at(tab.key) is earlier:  # else another one was faster
                self._tabs.hold(tab)
                if earlier:
                    await self._cut(earlier)
        manager = self._namespace._token_manager  # pyright: ignore[reportPrivateUsage]
        if tab.session and isinstance(manager, SharedLinks):
            return await manager.take_over(tab.key, tab.socket, lambda: self._sessions.ask_for(tab.key, tab.socket))
        return True

    def _answer_for(self, key: str, asking: str) -> None:
        """Tell another worker whether a tab is connected here, unless it is this worker's own socket that asks."""
        tab = self._tabs.at(key)
        if tab and tab.frames and tab.socket != asking:
            self._soon(self._keep_or_cut(tab, tab.frames))

    async def _keep_or_cut(self, tab: Tab, frames: Frames) -> None:
        manager = self._namespace._token_manager  # pyright: ignore[reportPrivateUsage]
        if not await frames.answers(ANSWER_SECONDS):
            await self._cut(tab)
        elif isinstance(manager, SharedLinks):
            with suppress(RedisError):
                await manager.keep(tab.key)

    async def on_event(self, sid: str, data: Any = None, *_: Any) -> None:
        """Take a message from a socket; what is no event of this app is dropped, before Reflex logs all of it."""
        tab = _tab_of(self._environ(sid))
        if tab.is_over:  # its page connects again, as who its cookie says now
            return
        if not is_event(data):
            audit.record("suspicious", reason="a message that is no event", address=tab.address)
            return
        address = _address_of(data)
        where = data["router_data"] = {**data.get("router_data", {}), "asPath": address}
        if await self._is_turned_away(tab, data):
            return
        # A stranger who was turned away when the page loaded, say.
        if sid not in self._namespace.sid_to_token and not await self._link(tab, address):
            return
        if not takes(data):
            audit.record("suspicious", reason="an event with arguments of other types", address=tab.address)
            return
        path, query = address.partition("?")[::2]
        if path.rstrip("/") == "/callback":
            tab.answer = dict(parse_qsl(query))
            data["router_data"] = {**where, "asPath": path, "query": {}}  # a code is for no state and no log
        tab.stall_timer = tab.stall_timer or asyncio.get_running_loop().call_later(
            LATE_SECONDS, lambda: self._soon(self._ask_why(tab, sid))
        )
        before = last_queued(self._app)
        await self._receive(sid, data)
        is_background = tab.session and registered(data["name"]).handler.is_background  # they are counted as they run
        if tab.frames and not is_background and (queued := last_queued(self._app)) and queued is not before:
            tab.frames.hold(queued)

    async def on_client_error(self, sid: str, data: Any = None, *_: Any) -> None:
        """Take what a browser reports of an update that it could not apply; only as Reflex's client says it."""
        if is_report(data):
            await self._client_error(sid, data)
        else:
            audit.record("suspicious", reason="a report in another form", address=_tab_of(self._environ(sid)).address)

    async def _is_turned_away(self, tab: Tab, event: dict[str, Any]) -> bool:
        """Answer a stranger's event that reaches no handler, before Reflex makes a state for it."""
        address = _address_of(event)
        path = address.partition("?")[0]
        page = path if path.rstrip("/") == "/callback" else address  # a code goes nowhere else
        tab.page = "/" + page.lstrip("/\\")
        if tab.session or tab.store_error:
            return False
        answer = self._of_a_stranger(tab, event["name"], path)
        if answer and answer.delta:
            await self._namespace.emit("event", answer, to=tab.socket)
        return answer is not None

    def _environ(self, sid: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._server.get_environ(sid, self._path))

    @property
    def _path(self) -> str:
        return str(cast("Any", self._namespace.namespace))

    async def _ask_why(self, tab: Tab, sid: str) -> None:
        """Tell a tab whose event has not come to the gate, for Reflex waits for its Redis without a limit."""
        tab.stall_timer = None
        try:
            await self._sessions.ping()
        except StoreUnavailable as failure:
            await self._namespace.emit("event", self._failure_update(failure), to=sid)

    async def preprocess(self, app: rx.App, state: Any, event: Event) -> StateUpdate | None:  # noqa: ARG002
        """Let an event pass (None), or answer in its handler's place."""
        context = EventContext.get()
        tab = self._tabs.at(context.token)
        if tab is None or tab.is_over:  # it left meanwhile
            return StateUpdate()
        if tab.stall_timer:
            tab.stall_timer.cancel()
            tab.stall_timer = None
        if takes_files(event.name) and not fits_upload(event):  # it came by HTTP, past `on_event`
            audit.record("suspicious", reason="an upload with other arguments", address=tab.address)
            return StateUpdate()
        lost, tab.lost = tab.lost, False
        if lost and event.name not in HYDRATING:
            return self.client_update(leaving_to=tab.page)
        if tab.session:
            return await self._of_somebody(tab, tab.session, event, context)
        if event.name in STORING:  # what a stranger's browser remembers is for public states alone
            stored = cast("dict[str, Any]", event.payload.get("vars") or {})
            kept = {name: value for name, value in stored.items() if _is_for_all(name)}
            event.payload.clear()
            event.payload.update({"vars": kept} if stored else {})
        return self._of_a_stranger(tab, event.name, urlsplit(str(context.router_data.get("asPath", ""))).path)

    async def _of_somebody(self, tab: Tab, session: Session, event: Event, context: EventContext) -> StateUpdate | None:
        running = self._running.get(session, {})
        if len(running) >= SESSION_TASKS and registered(event.name).handler.is_background:
            failure = TooManyTasks()
            _log.error("a handler was not started: %s", failure)
            return self.client_update(broken=failure.shown("", ""))
        if task := asyncio.current_task():  # before the session is asked for: it may end while the store answers
            self._running.setdefault(session, {})[task] = context.token
            task.add_done_callback(lambda done: self._forget(session, done))
        try:
            if not await self._sessions.is_active(session, tab.handle):
                if session.ended is None:  # the cookie has another value now
                    await self._cut(tab)
                    return StateUpdate()
                return StateUpdate() if tab.leaving else self.client_update(leaving_to=_after(tab, session))
        except StoreUnavailable as failure:
            return self._failure_update(failure)
        if is_user_activity(tab, event, context):
            try:
                await self._sessions.touch(session)
            except StoreUnavailable as failure:  # it stands all the same; unless told later, it idles out the sooner
                _log.error("the store was not told that somebody is there: %s", failure)
        return None

    def note_lost_state(self, key: str) -> None:
        """Note that a tab's state, written by another release, was reset: reload the page at its next event."""
        if tab := self._tabs.at(key):
            tab.lost = True

    def _forget(self, session: Session, task: asyncio.Task[Any]) -> None:
        running = self._running.get(session, {})
        running.pop(task, None)
        if not running:
            self._running.pop(session, None)

    def _of_a_stranger(self, tab: Tab, event: str, path: str) -> StateUpdate | None:
        if is_public(registered(event).handler.fn):
            return None
        if event not in LOADING | STORING:
            why, page = "an event that needs a session", f"/{self._app.router(path) or ''}"
            audit.record("refused", reason=why, address=tab.address, handler=event, page=page)
        if not self._is_public_page(path):
            return self.client_update(leaving_to=self._start_url(tab.id, tab.page))
        return None if event in LOADING | STORING else StateUpdate()

    def _is_public_page(self, path: str) -> bool:
        return is_public(page_at(self._app, path))

    async def emit_update(self, update: StateUpdate, token: str) -> None:
        """Send a browser what it may see: all of it with a session that stands, else what is public."""
        tab = self._tabs.at(token)
        if tab is None and not states.is_strangers(token) and self._is_elsewhere(token):
            await self._emit(update, token)  # the worker that has the tab decides
            return
        if tab and tab.is_over:  # nobody would read it
            return
        if tab is None or not tab.signed_in:
            public_ = {name for name in update.delta if _is_for_strangers(rx.State.get_class_substate(name))}
            delta = {name: update.delta[name] for name in public_}
            update = StateUpdate(delta=delta, events=update.events if tab and not tab.session else [])
        if update.delta or update.events:
            await self._emit(update, token)

    def _is_elsewhere(self, token: str) -> bool:
        """Tell whether a tab may be connected to another worker; Reflex passes updates on between them."""
        manager = self._namespace._token_manager  # pyright: ignore[reportPrivateUsage]
        record = manager.token_to_socket.get(token)
        own = record is not None and record.instance_id == manager.instance_id
        return isinstance(manager, RedisTokenManager) and not own

    def client_update(self, **values: Any) -> StateUpdate:
        """Return an update that tells the browser vars of the shared state."""
        return StateUpdate(delta=delta(self._state, **values))

    def report(self, exception: Exception) -> None:
        """Tell a person that a handler failed, and the log where; Reflex's own message needs `eval` in the browser."""
        if isinstance(exception, RedisError):  # Reflex's own: the event did not even come to the gate
            update = self._failure_update(_unavailable(exception))
        else:
            failure = HandlerFailed(whereabouts(exception))
            lost = isinstance(exception, LockExpiredError)  # Reflex's lock: it took too long, or Redis was emptied
            _log.error("%s", failure, exc_info=None if lost else exception)
            update = self.client_update(broken=failure.shown("", ""))
        self._soon(self.emit_update(update, EventContext.get().token))

    def log_report(self, exception: Exception) -> None:
        """Log what a browser reports of itself; shortened, and not too often, for it says what it likes."""
        if self._reports.admit(""):
            _log.error("a browser reports: %.500s", exception)

    def _failure_update(self, failure: AuthError) -> StateUpdate:
        failure = failure.again()
        _log.error("the gate stays closed: %s", failure)
        return self.client_update(failure=failure.shown(again="", other_account=""))

    def _on_end(self, session: Session) -> None:
        """Stop what runs for a session that has ended, forget its states, and send its tabs away."""
        running = self._running.pop(session, {})
        for task in running:
            if task is not asyncio.current_task():
                task.cancel()
        tabs = self._tabs.of(session)
        for tab in tabs:
            if session.ended == "joined":
                self._soon(self._cut(tab))
            elif tab.socket and not tab.leaving:
                tab.leaving = True
                self._soon(self._send_away(tab, _after(tab, session)))
        self._soon(self._forget_states({*running.values(), *(tab.key for tab in tabs)}))

    def _on_outdated(self, session: Session) -> None:
        """Cut connections whose cookie value has expired. Their pages reconnect with the current one."""
        for tab in self._tabs.of(session):
            if not self._sessions.admits(session, tab.handle):
                self._soon(self._cut(tab))

    def welcome(self, tab: Tab) -> bool:
        """Tell whether there is room for a socket; keep the state of a tab that reconnects.

        A session's newest tab is the one that is refused. Among strangers the oldest one goes, at the latest after
        `STRANGER_SECONDS`: a public page needs no socket once it is loaded, because its links are plain ones.
        """
        if timer := self._left.pop(tab.key, None):
            timer.cancel()
        return self._has_room(tab, tab.session) if tab.session else self._makes_room(tab)

    def _has_room(self, tab: Tab, session: Session) -> bool:
        sockets = [other for other in self._tabs.of(session) if other.frames]
        if len({other.key for other in sockets} - {tab.key}) < SESSION_TABS and len(sockets) < SESSION_SOCKETS:
            tab.timer = asyncio.get_running_loop().create_task(self._attend(tab, TAB_ANSWER_SECONDS))
            return True
        audit.record("limited", person=session.identity.key, reason="sockets of a session", address=tab.address)
        if len(sockets) >= SESSION_SOCKETS:
            return False
        tab.store_error = TooManyTabs()
        tab.timer = asyncio.get_running_loop().call_later(GONE_SECONDS, lambda: self._soon(self._dismiss(tab)))
        return True

    def _makes_room(self, tab: Tab) -> bool:
        strangers = self._tabs.strangers()
        crowds = (
            ([other for other in strangers if tab.browser and other.browser == tab.browser], STRANGERS_OF_BROWSER),
            ([other for other in strangers if other.address == tab.address], STRANGERS_OF_ADDRESS),
            (strangers, STRANGERS),
        )
        if crowd := next((crowd for crowd, most in crowds if len(crowd) >= most), None):
            staying = [other for other in crowd if not other.leaving]
            for heaviest, _ in Counter(other.address for other in staying).most_common(1):
                audit.record("limited", reason="sockets of strangers", address=heaviest)
                heavy = [other for other in staying if other.address == heaviest]
                oldest = min(heavy, key=lambda other: bool(other.browser))  # a browser that was here has a name
                oldest.leaving = True  # so that the next one in a burst sends away another
                self._soon(self._dismiss(oldest))
        if len(strangers) >= 1.1 * STRANGERS:  # those that leave still count
            return False
        rounds = round(STRANGER_SECONDS / STRANGER_ANSWER_SECONDS)
        tab.timer = asyncio.get_running_loop().create_task(self._attend(tab, STRANGER_ANSWER_SECONDS, rounds))
        return True

    async def _attend(self, tab: Tab, seconds: float, rounds: int | None = None) -> None:
        """Ping a socket every so often: cut it when it does not answer, and dismiss it after so many rounds.

        The server holds up to 64 MB of a message that has not come to its end, and whoever sends one cannot answer.
        """
        for _ in range(rounds) if rounds else repeat(None):
            await asyncio.sleep(seconds)
            if tab.frames and not await tab.frames.answers(seconds) and not tab.frames.is_sending:
                tab.end()
                return
        await self._dismiss(tab)

    async def left(self, tab: Tab) -> None:
        """Forget the state of a tab that is gone: at once if its session has ended, a stranger's after a while."""
        for timer in filter(None, (tab.timer, tab.stall_timer)):
            timer.cancel()
        if tab.session is None:
            if timer := self._left.pop(tab.key, None):
                timer.cancel()
            loop = asyncio.get_running_loop()
            self._left[tab.key] = loop.call_later(
                STRANGER_STATE_SECONDS, lambda: self._soon(self._forget_left(tab.key))
            )
            if len(self._left) > STRANGERS:
                await self._forget_left(next(iter(self._left)))
        elif tab.session.ended:
            await self._forget_left(tab.key)
        elif not tab.store_error:
            await self.note(tab)

    async def _forget_left(self, key: str) -> None:
        if timer := self._left.pop(key, None):
            timer.cancel()
        await self.forget_closed([key])

    async def note(self, tab: Tab) -> None:
        """Note a tab of a session, when it comes and when it leaves; forget what the session had too many of."""
        if tab.session:
            try:
                await self.forget_closed(await self._sessions.register_tab(tab.session, tab.key))
            except StoreUnavailable as failure:
                tab.store_error = failure

    async def forget_closed(self, keys: Iterable[str]) -> None:
        """Forget the states of tabs, given by their keys, that are connected to no worker."""
        with suppress(RedisError, TimeoutError):  # then they expire by themselves
            async with asyncio.timeout(2 * LATE_SECONDS):
                if closed := {key for key in keys if not await self._is_connected(key)}:
                    await self._forget_states(closed)

    async def _is_connected(self, key: str) -> bool:
        manager = self._namespace._token_manager  # pyright: ignore[reportPrivateUsage]
        return self._tabs.at(key) is not None or await manager.is_token_connected(key)

    async def _forget_states(self, keys: set[str]) -> None:
        await states.forget(self._app.state_manager, keys)

    def _soon(self, farewell: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(farewell)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _send_away(self, tab: Tab, address: str) -> None:
        """Tell a tab to leave by a full navigation, then close its socket."""
        await self._namespace.emit("event", self.client_update(leaving_to=address), to=tab.socket)
        await self._dismiss(tab)

    async def _dismiss(self, tab: Tab) -> None:
        """Close a tab's socket: tell the page not to reconnect, then cut the connection in case it does not obey."""
        if tab.socket:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._server.disconnect(tab.socket, namespace=self._path)
        tab.end()

    async def _cut(self, tab: Tab) -> None:
        """Cut a tab's socket without telling the page, so that it reconnects at once, with its current cookie."""
        tab.end()
        self._tabs.let_go(tab)
        if token := self._namespace.sid_to_token.get(tab.socket):  # its page may be faster than the end of its socket
            manager = self._namespace._token_manager  # pyright: ignore[reportPrivateUsage]
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(2 * LATE_SECONDS):
                    await manager.disconnect_token(token, tab.socket)


def _tab_of(environ: dict[str, Any]) -> Tab:
    return environ["asgi.scope"][TAB]


def _address_of(event: dict[str, Any]) -> str:
    """Return the path and query of an event's page. Reflex's client also sends the fragment; it is dropped here."""
    return str(event.get("router_data", {}).get("asPath", "/")).partition("#")[0]


def _unavailable(why: Exception) -> AuthError:
    return why if isinstance(why, AuthError) else StoreUnavailable(type(why).__name__)


def _after(tab: Tab, session: Session) -> str:
    """Return where a tab goes whose session has ended; one that was replaced loads again, with the new one."""
    if session.ended == "replaced":
        return tab.page
    return f"/logout?{urlencode({'because': session.ended, 'return_to': tab.page})}"
