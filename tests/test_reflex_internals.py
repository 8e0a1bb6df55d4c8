"""What we rely on in Reflex, python-socketio, engineio and Granian besides what they document, piece by piece.

An update that renames one of these fails here, with the name of the piece and what it is for.
"""

import ast
import importlib
import inspect
import re
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import reflex as rx
import reflex_base
from conftest import ROOT
from memory_page import gate_of
from reflex.compiler import compiler
from reflex.constants import Endpoint, PackageJson
from reflex.state import BaseState

from azure_auth import reflex_build
from azure_auth.auth.gate import frames, reflex_internals, sockets
from azure_auth.auth.gate.namespace import GateNamespace
from azure_auth.auth.gate.states import LocalStates, SharedStates
from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.gate.token_managers import SharedTokens
from azure_auth.auth.web import endpoints
from azure_auth.bounds import FRAME_CHARACTERS

SEAM = {ROOT / "azure_auth/auth/gate/reflex_internals.py", ROOT / "azure_auth/reflex_build.py"}
PUBLIC = {"reflex", "reflex.vars", "reflex.plugins", "reflex.components", "granian.constants", "granian.server.embed"}
"""The last two are how Granian says that it is run by a program; the demo directory does."""
PINNED = {"reflex": "0.10.1", "granian": "2.8.7"}

_NAMESPACE, _APP = "reflex.app:EventNamespace", "reflex.app:App"
_MEMORY, _REDIS = "reflex.istate.manager.memory:StateManagerMemory", "reflex.istate.manager.redis:StateManagerRedis"
_LOCAL, _LINKS = "reflex.utils.token_manager:LocalTokenManager", "reflex.utils.token_manager:RedisTokenManager"
_STATE, _CONTEXT = "reflex.state:BaseState", "reflex_base.event.context:EventContext"
_PROCESSOR = "reflex_base.event.processor.base_state_processor:BaseStateEventProcessor"
_REGISTRY = "reflex_base.registry:RegistrationContext"
_SOCKETS, _ENGINE = "socketio:AsyncServer", "engineio:AsyncServer"
PIECES = [
    (f"{_APP}.app_wraps", None, "has the toast that ours replaces"),
    ("reflex_components_core.core.banner:has_too_many_connection_errors", None, "says that a page has no connection"),
    ("reflex.utils.exec:notify_frontend", "url backend_present", "ours tells the public address"),
    (f"{_APP}._state_manager", None, "ours takes its place"),
    (f"{_APP}._event_namespace", None, "ours takes its place"),
    (f"{_APP}.event_namespace", None, "what updates are sent through, read when the server starts"),
    (f"{_APP}.event_processor", None, "has the events that are queued"),
    (f"{_APP}._unevaluated_pages", None, "says which component a page was added with, and so whether it is public"),
    (f"{_APP}.__call__", "self", "returns the ASGI app, around which the connections stand"),
    (f"{_APP}.router", None, "says which page a path is"),
    (f"{_APP}.add_middleware", "self middleware index", "the gate comes first"),
    ("reflex:Middleware.preprocess", "self app state event", "decides before each handler"),
    (f"{_NAMESPACE}.on_connect", "self sid environ auth", "handshakes come through it"),
    (f"{_NAMESPACE}.on_event", "self sid data", "events come through it"),
    (f"{_NAMESPACE}.on_client_error", "self sid data", "reports come through it"),
    (f"{_NAMESPACE}.emit_update", "self update token", "updates leave through it"),
    (f"{_NAMESPACE}.sid_to_token", None, "says whether Reflex knows a socket"),
    (f"{_PROCESSOR}._futures", None, "the event queued last is the last one"),
    (f"{_PROCESSOR}.enqueue", "self token event ev_ctx", "adds it there"),
    (f"{_CONTEXT}.get", "", "whose event runs"),
    (f"{_CONTEXT}.emit_delta", "self delta", "tells the browser of the tab whose event runs"),
    (f"{_CONTEXT}.token", None, "the key of the tab's state"),
    (f"{_CONTEXT}.parent_txid", None, "says whether a person or another event caused it"),
    (f"{_CONTEXT}.router_data", None, "says which page it comes from"),
    (f"{_REGISTRY}.event_handlers", None, "which handlers there are"),
    ("reflex_base.registry:RegisteredEventHandler.handler", None, "the function that may be public"),
    ("reflex_base.registry:RegisteredEventHandler.states", None, "whose it is"),
    ("reflex_base.event:resolve_upload_handler_param", "handler", "says whether a handler takes files"),
    ("reflex_base.event:resolve_upload_chunk_handler_param", "handler", "likewise"),
    (
        "reflex_base.event.processor.base_state_processor:_transform_event_arg",
        "value hinted_args",
        "what Reflex allows",
    ),
    ("reflex_base.constants:CompileVars.CONNECT_AUTH_EVENT", None, "where a handshake has its first event"),
    ("reflex_base.constants.state:FIELD_MARKER", None, "ends the name of each var in a delta"),
    ("reflex.istate.data:HeaderData.raw_headers", None, "all headers, whatever their names"),
    (f"{_STATE}.dict", "self include_computed initial kwargs", "computes what a page is told"),
    (f"{_STATE}.get_delta", "self", "computes what an event changed"),
    (f"{_STATE}._always_dirty_substates", None, "which substates `get_delta` asks besides the changed ones"),
    (f"{_STATE}._deserialize", "data fp", "reads a stored state, and raises when it is another release's"),
    (f"{_STATE}._is_client_storage", "prop_name_or_field", "says whether browsers keep a var"),
    (f"{_STATE}.get_class_substate", "path", "finds a state by its name"),
    (f"{_MEMORY}.states", None, "what is deleted"),
    (f"{_MEMORY}._states_locks", None, "says whether a handler still has a state"),
    (f"{_MEMORY}._token_expires_at", None, "what is deleted"),
    (f"{_MEMORY}._get_or_create_state", "self token", "brings no state of an ended session back"),
    (f"{_MEMORY}._track_token", "self token", "likewise"),
    (f"{_MEMORY}._purge_token", "self token", "deletes a state"),
    (f"{_MEMORY}.set_state", "self token state context", "keeps a state"),
    (f"{_REDIS}.token_expiration", None, "ours has the same"),
    (f"{_REDIS}.lock_expiration", None, "ours has the same"),
    (f"{_REDIS}.lock_warning_threshold", None, "ours has the same"),
    (f"{_REDIS}._lock_task", None, "is ended when the manager is closed"),
    (f"{_REDIS}._lock", "self token event_name", "is given back when an event is cancelled"),
    (f"{_REDIS}._wait_lock", "self lock_key lock_id", "likewise"),
    (f"{_REDIS}._lock_key", "token", "the name of a lock"),
    (f"{_REDIS}.get_state", "self token top_level for_state_instance", "reads a state"),
    (f"{_REDIS}.set_state", "self token state lock_id context", "keeps a state"),
    (f"{_REDIS}.modify_state", "self token context", "lends a state"),
    (f"{_LOCAL}.link_token_to_sid", "self token sid", "gives a tab its socket"),
    (f"{_LOCAL}.disconnect_token", "self token sid", "takes it away"),
    (f"{_LINKS}.is_token_connected", "self token", "says whether some worker has a tab"),
    (f"{_LINKS}._ensure_socket_record_task", "self", "hears of the other workers' tabs"),
    (f"{_LINKS}._store_socket_record", "self token socket_record nx", "tells them of ours"),
    (f"{_LINKS}._get_redis_key", "self token", "where that is"),
    ("reflex.utils.token_manager:SocketRecord.instance_id", None, "which worker has a tab"),
    ("reflex.utils.token_manager:SocketRecord.sid", None, "and by which socket"),
    (f"{_SOCKETS}.register_namespace", "self namespace_handler", "takes ours in the place of Reflex's"),
    (f"{_SOCKETS}.get_environ", "self sid namespace", "the handshake, when Reflex hears of a socket later"),
    (f"{_ENGINE}.create_queue", "self args kwargs", "makes the queue of each socket"),
    (f"{_ENGINE}.on", "self event handler", "sees packets before Socket.IO does"),
    ("reflex.compiler.utils:compile_client_storage", "state", "lists what browsers keep, in the order of a set"),
    ("reflex.utils.prerequisites:get_web_dir", "", "where the build lies"),
    ("reflex.utils.prerequisites:initialize_frontend_dependencies", "", "creates it, if it can be written"),
    ("reflex_base.constants:Dirs.STATIC", None, "and the pages in it"),
    ("reflex_base.utils.log:_console", None, "wraps lines"),
    ("reflex_base.utils.log:_console_stderr", None, "likewise"),
]
"""Where it is, its parameters (None: it is no function), and what we need it for."""


def found(place: str) -> Any:
    """What is at a place; a field of a dataclass counts as its name. Raises AttributeError."""
    module, _, path = place.partition(":")
    value: Any = importlib.import_module(module)
    for name in path.split("."):
        has = vars(value).get("__dataclass_fields__", {}) if isinstance(value, type) and is_dataclass(value) else {}
        value = has[name].name if name in has and not hasattr(value, name) else inspect.getattr_static(value, name)
    return value


def faults() -> list[str]:
    """The pieces that are not as expected, each with what it is for."""
    wrong: list[str] = []
    for place, parameters, why in PIECES:
        try:
            piece = found(place)
        except AttributeError:
            wrong.append(f"{place} is gone: {why}")
            continue
        if parameters is not None:
            function = getattr(piece, "__func__", piece)
            has = " ".join(inspect.signature(function).parameters).removeprefix("cls ")
            if has.removesuffix("cls") != parameters:
                wrong.append(f"{place} takes ({has}), not ({parameters}): {why}")
    return wrong


def test_the_versions_are_the_pinned_ones():
    """All that follows was seen in these; another version is read again first."""
    pins = (ROOT / "requirements.txt").read_text()
    for name, number in PINNED.items():
        assert re.search(rf"^{name}(\[\w+\])?=={re.escape(number)}$", pins, re.MULTILINE), name
        assert version(name) == number


def test_each_piece_is_as_expected():
    """It is there, and a function has the parameters that we pass or override."""
    assert faults() == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("reflex.app:EventNamespace", "emit_update"),
        ("reflex.istate.manager.memory:StateManagerMemory", "_track_token"),
        ("reflex_base.event.processor.base_state_processor:", "_transform_event_arg"),
    ],
)
def test_a_piece_that_is_renamed_is_named(monkeypatch, owner, name):
    """The fault says which it is; nothing else is at fault."""
    module, _, path = owner.partition(":")
    holder = importlib.import_module(module)
    holder = getattr(holder, path) if path else holder
    monkeypatch.setattr(holder, f"{name}_renamed", inspect.getattr_static(holder, name), raising=False)
    monkeypatch.delattr(holder, name)
    (fault,) = faults()
    assert name in fault
    assert "is gone" in fault


def test_a_parameter_that_is_renamed_is_named(monkeypatch):
    """An override of ours would no longer be called as Reflex calls its own."""
    monkeypatch.setattr("reflex.app.EventNamespace.on_event", lambda self, sid, message: None)  # noqa: ARG005
    (fault,) = faults()
    assert "on_event takes (self sid message)" in fault


@pytest.mark.parametrize("ours", [GateNamespace, LocalStates, SharedStates, SharedTokens])
def test_what_we_override_is_there(ours):
    """Each method with an underscore overrides one of Reflex's, except those that only we call."""
    own = {"_release_late", "_release", "_releases", "_has", "_own", "_is_given_up"}
    own |= {"_link", "_takes_its_place", "_queue", "_is_turned_away", "_is_too_long", "_ask_why"}
    for kind in (kind for kind in ours.__mro__ if kind.__module__.startswith("azure_auth")):
        private = {name for name in vars(kind) if re.match(r"_[a-z]", name) and name != "_abc_impl"} - own
        theirs = {name for base in ours.__mro__ if base.__module__.startswith("reflex") for name in vars(base)}
        assert private <= theirs, kind


@pytest.mark.anyio
async def test_each_piece_of_a_running_server_is_as_expected():
    """What only instances have: Engine.IO's handlers and sockets, and the parts that Reflex hands us."""
    gate = gate_of(Tabs())
    app = gate.namespace.app
    assert app.event_namespace is gate.namespace
    assert app.sio.namespace_handlers[reflex_internals.path_of(app)] is gate.namespace
    assert app.sio.eio.handlers["message"] == gate.namespace.take_packet
    assert gate.namespace._take_packet.__self__ is app.sio
    assert app.sio.eio.sockets == app.sio.environ == {}
    assert callable(app.sio.manager.eio_sid_from_sid)
    assert app.sio.eio.async_handlers is app.sio.async_handlers is False  # messages of a socket are taken in turn
    assert gate.namespace.token_to_sid == gate.namespace.sid_to_token == {}


def test_the_lines_that_we_replace_are_there():
    """In Reflex's own template; and a build in which one is not there fails."""
    template = Path(reflex_base.__file__).parent / ".templates/web" / reflex_build.STATE_FILE
    text = template.read_text()
    named = reflex_build.name_version(text)
    assert text.count(reflex_build.VERSION_FILE_LINE) == named.count(reflex_build.VERSION_LINE) == 1
    assert reflex_build.VERSION_FILE_LINE not in named
    assert reflex_build.name_version(named) == named  # development compiles again and again
    with pytest.raises(ValueError, match="another version of Reflex"):
        reflex_build.name_version(text.replace("reflexEnvironment", "environment"))


def test_what_the_build_calls_is_what_we_replace():
    """Reflex's compiler looks the list of storage up where ours is put, and Vite's command is the known one."""
    assert "utils.compile_client_storage(" in inspect.getsource(compiler)
    assert 'DEV = "react-router dev --host"\n' in inspect.getsource(PackageJson)
    assert {"http", "http1_settings"} <= inspect.signature(reflex_build._start_granian).parameters.keys()


def test_one_call_configures_any_app():
    """A foreign app adds it to its own `rxconfig.py`: its options win, and what protects is set where it has none."""
    environ: dict[str, str] = {}
    config = reflex_build.config_for(environ, app_name="shop", frontend_port=4000, backend_host="192.0.2.1")
    assert (config.app_name, config.frontend_port, config.backend_host) == ("shop", 4000, "192.0.2.1")
    assert list(config.cors_allowed_origins) == []
    assert config.state_manager_mode.value == "memory"
    assert [plugin for plugin in config.plugins if isinstance(plugin, reflex_build.SameBuild)]
    assert environ == {"REFLEX_SOCKET_MAX_HTTP_BUFFER_SIZE": str(FRAME_CHARACTERS)}


class Remembering(rx.State):
    """A state with both kinds of computed vars."""

    @rx.var
    def cached(self) -> str:
        return "a cached value"

    @rx.var(cache=False)
    def fresh(self) -> str:
        return "a fresh value"


@pytest.mark.anyio
async def test_the_names_that_we_strip_are_those_that_reflex_uses():
    """Without them no attribute of a state has a computed value; with them some have."""
    state = rx.State(_reflex_internal_init=True).get_substate(Remembering.get_full_name().split("."))
    assert "a cached value" in str(state.dict())
    await state._get_resolved_delta()
    computed = {name for name, value in state.__getstate__().items() if re.search("a (cached|fresh) value", str(value))}
    assert {name for name in computed if name.startswith("__cached_")}
    assert all(name.startswith(reflex_internals.COMPUTED) for name in computed)
    cached, fresh = (Remembering.computed_vars[name] for name in ("cached", "fresh"))
    assert (cached._cache_attr, fresh._last_delta_key_attr) == tuple(
        f"{start}{name}_rx_state_" for start, name in zip(reflex_internals.COMPUTED, ("cached", "fresh"), strict=True)
    )


def test_the_frameworks_states_are_all_listed():
    """Each class of Reflex's packages that is a state is on the list; a developer's or a component's is not."""
    names, defined = {"BaseState"}, set[str]()
    for package in (Path(rx.__file__).parent, Path(reflex_base.__file__).parent):
        for path in package.rglob("*.py"):
            if ".templates" not in path.parts:
                defined |= {f"{c.name}({','.join(map(ast.unparse, c.bases))})" for c in classes_of(path)}
    while True:
        more = {one.partition("(")[0] for one in defined if names & set(re.split(r"[(),. ]", one.partition("(")[2]))}
        if more <= names:
            break
        names |= more
    assert names == {state.__name__ for state in reflex_internals.FRAMEWORK_STATES}
    loaded, whole = set[type[BaseState]](), [BaseState]
    for state in whole:
        whole += state.__subclasses__()
        loaded |= {state} if state.__module__.startswith("reflex.") else set()
    copies = {state for state in loaded if state.__module__ == "reflex.istate.dynamic"}
    assert loaded - copies == reflex_internals.FRAMEWORK_STATES
    assert not copies & reflex_internals.FRAMEWORK_STATES
    assert Remembering not in reflex_internals.FRAMEWORK_STATES


def classes_of(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def test_reflexs_headers_are_fields():
    """Those that reach Reflex are the ones it has names for."""
    named = {field.name for field in fields(importlib.import_module("reflex.istate.data").HeaderData)}
    assert {"origin", "user_agent", "raw_headers", "cookie"} <= named


def test_what_we_know_of_reflexs_wire_is_what_it_uses():
    """The web side and the sockets repeat Reflex's paths, the headers of its uploads and the frames of its client."""
    ours = {endpoints._EVENTS, endpoints._UPLOAD, *endpoints.HEALTH}
    assert ours == {str(Endpoint.EVENT), str(Endpoint.UPLOAD), str(Endpoint.PING), str(Endpoint.HEALTH)}
    assert (f"40{Endpoint.EVENT!s},{{", f"41{Endpoint.EVENT!s},") == (frames._CONNECT, frames._DISCONNECT)
    uploads = Path(reflex_base.__file__).parent / ".templates/web/utils/helpers/upload.js"
    for header in (sockets._TOKEN_HEADER, sockets._HANDLER_HEADER):
        assert f'.setrequestheader("{header.decode()}"' in uploads.read_text().lower()


OURS = [path for path in [*(ROOT / "azure_auth").rglob("*.py"), ROOT / "rxconfig.py"] if path not in SEAM]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_seam_reaches_into_reflex(path):
    """No other module imports what is not public in Reflex or its servers, or silences the check of private names."""
    text, imported = path.read_text(), set[str]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported |= {node.module or ""} | (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "reflex" else set()
            )
    theirs = ("reflex", "reflex_base", "socketio", "engineio", "granian")
    assert {name for name in imported if name.partition(".")[0] in theirs} <= PUBLIC
    assert "reportPrivateUsage" not in text
