"""The one seam to what Reflex, python-socketio and engineio do not document: each piece with the reason why we need it.

No other module of `auth/` imports anything private of theirs. `azure_auth/reflex_build.py` holds what Reflex reads
before there is an app. `tests/test_reflex_internals.py` asserts that each piece is as expected in the pinned version;
`docs/reflex.md` says what would replace them. It is longer than 200 lines so that there is one place to look.
"""

# Reflex is partly untyped, and what is private has no public name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from asyncio import Future, Queue
from collections.abc import Awaitable, Callable
from dataclasses import fields
from functools import cache, wraps
from typing import Any, cast

import reflex as rx
from reflex.app import EventNamespace as EventNamespace  # all messages and all updates pass through it
from reflex.app import default_backend_exception_handler, default_frontend_exception_handler
from reflex.istate.data import HeaderData
from reflex.istate.manager import StateManager as StateManager  # holds states; it has no hook to delete one
from reflex.istate.manager.memory import StateManagerMemory as StateManagerMemory  # likewise
from reflex.istate.manager.redis import StateManagerRedis as StateManagerRedis  # likewise
from reflex.istate.shared import SharedState, SharedStateBaseInternal
from reflex.state import (
    BaseState,
    ComponentState,
    FrontendEventExceptionState,
    OnLoadInternalState,
    UpdateVarsInternalState,
)
from reflex.state import StateUpdate as StateUpdate  # what a browser is sent
from reflex.utils.token_manager import LocalTokenManager as LocalTokenManager  # gives a second socket a new key
from reflex.utils.token_manager import RedisTokenManager as RedisTokenManager  # likewise
from reflex.utils.token_manager import SocketRecord as SocketRecord  # what both keep of a socket
from reflex.vars import VarData
from reflex_base.constants import CompileVars
from reflex_base.constants.state import FIELD_MARKER
from reflex_base.event import Event as Event  # what middleware is given
from reflex_base.event import resolve_upload_chunk_handler_param, resolve_upload_handler_param
from reflex_base.event.context import EventContext as EventContext  # whose event runs, and its way to the browser
from reflex_base.event.processor.base_state_processor import _transform_event_arg
from reflex_base.registry import RegisteredEventHandler, RegistrationContext
from reflex_base.utils.exceptions import LockExpiredError as LockExpiredError  # a handler took too long, or lost Redis
from reflex_base.utils.exceptions import StateSchemaMismatchError, UploadTypeError, UploadValueError
from reflex_base.utils.format import format_event_handler
from reflex_components_core.core.banner import has_too_many_connection_errors
from starlette.types import ASGIApp

ON_LOAD = format_event_handler(OnLoadInternalState.event_handlers["on_load_internal"])
HYDRATING = {format_event_handler(rx.State.event_handlers[name]) for name in ("hydrate", "hydrate_and_load")}
LOADING = {ON_LOAD, format_event_handler(OnLoadInternalState.event_handlers["set_is_hydrated"]), *HYDRATING}
"""What Reflex itself does to load a page."""
STORING = {*HYDRATING, format_event_handler(UpdateVarsInternalState.event_handlers["update_vars_internal"])}
"""What brings values that the browser keeps."""
EXCEPTION = format_event_handler(FrontendEventExceptionState.event_handlers["handle_frontend_exception"])
"""What a browser reports of an error of its own."""
SENT_BY_CLIENT = {ON_LOAD, EXCEPTION, *STORING}
"""The framework's events that its client sends; the others come from its server alone."""
FRAMEWORK_STATES: set[type[BaseState]] = {
    *(BaseState, rx.State, ComponentState, SharedState, SharedStateBaseInternal),
    *(FrontendEventExceptionState, OnLoadInternalState, UpdateVarsInternalState),
}
"""The framework's own states; developers' states are all others, `rx.ComponentState`'s copies included."""
PacketHandler = Callable[[str, Any], Awaitable[None]]
COMPUTED = "__cached_", "__last_delta_"
"""What the attributes of a state begin with that hold values of computed vars; Reflex pickles them."""
_dict, _get_delta, _deserialize = BaseState.dict, BaseState.get_delta, BaseState._deserialize.__func__
"""Reflex's own functions. Each gate replaces them; tests make several."""
NAMED_HEADERS = {field.name.replace("_", "-") for field in fields(HeaderData) if field.name != "raw_headers"}
"""The headers that Reflex has names for; it keeps all that it gets in the tab's state."""


def own_exception_handlers(app: rx.App) -> tuple[Callable[[Exception], Any] | None, Callable[[Exception], Any] | None]:
    """Return the backend's and the frontend's exception handler of an app; None for Reflex's default."""
    backend, frontend = app.backend_exception_handler, app.frontend_exception_handler
    return (
        None if backend is default_backend_exception_handler else backend,
        None if frontend is default_frontend_exception_handler else frontend,
    )


def is_wrapped(app: rx.App) -> bool:
    """Tell whether `wrap_asgi` was called with an app."""
    return getattr(app, "is_wrapped", False)


def wrap_asgi(app: rx.App, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    """Make `wrap` outermost: around what `api_transformer` returns, Reflex puts an app that answers CORS by itself."""

    class Wrapped(type(app)):
        is_wrapped = True

        def __call__(self) -> ASGIApp:
            return wrap(super().__call__())

    app.__class__ = Wrapped


def install(app: rx.App, states: StateManager, namespace: EventNamespace, tokens: LocalTokenManager) -> None:
    """Replace Reflex's state manager, its event namespace, and the token manager that a namespace makes by itself.

    Reflex's configuration knows three kinds of state managers, and takes no class. Python-socketio takes any namespace,
    but `rx.App` has no parameter for one.
    """
    app._state_manager = states
    namespace._token_manager = tokens
    app._event_namespace = namespace
    server(app).register_namespace(namespace)


def token_manager_of(app: rx.App) -> LocalTokenManager:
    """Return the token manager that Reflex chose. Its class says whether Redis is used; it has the client."""
    return cast("LocalTokenManager", namespace_of(app)._token_manager)


def namespace_of(app: rx.App) -> EventNamespace:
    """Return an app's event namespace; an app without any state has none."""
    if app.event_namespace is None:
        raise RuntimeError("the app has no states yet")
    return app.event_namespace


def path_of(app: rx.App) -> str:
    """Return the name of an app's event namespace, which begins with a slash."""
    return str(cast("Any", namespace_of(app)).namespace)


def server(app: rx.App) -> Any:
    """Return the Socket.IO server, untyped."""
    return cast("Any", app.sio)


def intercept_packets(app: rx.App, take: PacketHandler) -> PacketHandler:
    """Give each packet of Engine.IO to `take` instead of Socket.IO; return Socket.IO's own handler.

    Socket.IO raises for what it cannot parse, and Engine.IO logs that with a traceback and goes on.
    """
    eio = server(app).eio
    handler = eio.handlers["message"]
    eio.on("message", take)
    return handler


def use_queues(app: rx.App, make: Callable[[], "Queue[Any]"]) -> None:
    """Let Engine.IO use our queue for each socket: its own has no limit."""
    server(app).eio.create_queue = make


def queue_of(app: rx.App, socket: str) -> Any:
    """Return the queue that Engine.IO uses for a socket, given by Socket.IO's id."""
    connection = server(app).manager.eio_sid_from_sid(socket, path_of(app))
    return server(app).eio.sockets[connection].queue


def connection_scope(app: rx.App, connection: str) -> dict[str, Any] | None:
    """Return the ASGI scope of a socket, given by Engine.IO's id; None if it has left."""
    environ = server(app).environ.get(connection)
    return environ and environ["asgi.scope"]


def last_queued(app: rx.App) -> "Future[Any] | None":
    """Return the future of the event that was queued last: `on_event` does not return it."""
    futures = app.event_processor._futures
    return futures[key] if (key := next(reversed(futures), None)) else None


def page_at(app: rx.App, path: str) -> object | None:
    """Return what `app.add_page` was given for the page at a path; Reflex has no public name for it."""
    page = app._unevaluated_pages.get(app.router(path) or "")
    return page and page.component


def loading_event(auth: Any) -> Any:
    """Return the event that a connection brings with it to load the page."""
    return cast("dict[str, Any]", auth).get(CompileVars.CONNECT_AUTH_EVENT) if isinstance(auth, dict) else None


def delta(state: type[rx.State], **values: object) -> dict[str, dict[str, object]]:
    """Return the delta that sets vars of a state in the browser; Reflex's client marks the names of vars."""
    return {state.get_full_name(): {f"{name}{FIELD_MARKER}": value for name, value in values.items()}}


CANNOT_CONNECT = has_too_many_connection_errors
"""Whether a page failed twice in a row to open its socket."""


def var_data(*of: rx.Var[Any]) -> VarData | None:
    """Return what a component's own hook must import and subscribe to for its vars."""
    return VarData.merge(*(var._get_all_var_data() for var in of))


def is_registered(event: str) -> bool:
    """Tell whether an event names a handler of this app."""
    return event in RegistrationContext.get().event_handlers


def registered(event: str) -> RegisteredEventHandler:
    """Return what Reflex knows of the handler that an event names: its function, and the states that have it."""
    return RegistrationContext.get().event_handlers[event]


@cache
def takes_files(event: str) -> bool:
    """Tell whether a handler is one for uploads, by the rules of Reflex's own upload routes."""
    handler = registered(event).handler
    resolve = resolve_upload_chunk_handler_param if handler.is_background else resolve_upload_handler_param
    try:
        resolve(handler)
    except (UploadTypeError, UploadValueError):
        return False
    return True


def transforms(value: Any, hint: Any) -> bool:
    """Tell whether Reflex can turn an argument into the type of its hint; what it cannot, it logs."""
    try:
        _transform_event_arg(value, hint)
    except Exception:  # whatever a developer's type raises
        return False
    return True


def is_client_storage(var: str) -> bool:
    """Tell whether browsers keep the value of a var (`rx.LocalStorage` and its like), given its full name."""
    state, _, name = var.rpartition(".")
    try:
        return rx.State.get_class_substate(state)._is_client_storage(name.removesuffix(FIELD_MARKER))
    except (ValueError, KeyError):
        return False


def hide_states(is_hidden: Callable[[type[BaseState]], bool]) -> None:
    """Compute no var of a hidden state: it may cost a query.

    Reflex computes the vars of all states when a page loads, and those that may have changed after each event. Of a
    state for which the latest `is_hidden` holds, only the substates are computed.
    """

    @wraps(_dict)
    def dict_(self: BaseState, *args: Any, initial: bool = False, **kwargs: Any) -> dict[str, Any]:
        if initial or not is_hidden(type(self)):
            return _dict(self, *args, initial=initial, **kwargs)
        parts = [substate.dict(*args, **kwargs) for substate in self.substates.values()]
        return {name: values for part in parts for name, values in part.items()}

    @wraps(_get_delta)
    def get_delta(self: BaseState) -> Any:
        if not is_hidden(type(self)):
            return _get_delta(self)
        parts = [self.substates[name].get_delta() for name in self.dirty_substates | self._always_dirty_substates]
        return {name: values for part in parts for name, values in part.items()}

    BaseState.dict, BaseState.get_delta = dict_, get_delta  # pyright: ignore[reportAttributeAccessIssue]


def on_unreadable_state(note: Callable[[], None]) -> None:
    """Call `note` whenever a stored state cannot be read. Reflex resets such a state, and has no hook for that."""

    @wraps(_deserialize)
    def deserialize(cls: type[BaseState], *args: Any, **kwargs: Any) -> BaseState:
        try:
            return _deserialize(cls, *args, **kwargs)
        except Exception as why:  # a mismatch, or what Reflex did not expect to find
            note()
            raise StateSchemaMismatchError from why

    BaseState._deserialize = classmethod(deserialize)  # pyright: ignore[reportAttributeAccessIssue]
