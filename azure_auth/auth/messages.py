"""What a browser's messages are: which of them name an event of this app, and which of these its person did."""

# Reflex's decorators and events are partly untyped.
# pyright: reportUnknownMemberType=false

import json
from inspect import signature
from typing import Any, TypeGuard, cast
from urllib.parse import urlsplit

import reflex as rx
import reflex.istate.dynamic
from reflex.state import BaseState, OnLoadInternalState, UpdateVarsInternalState
from reflex_base.constants.state import FIELD_MARKER
from reflex_base.event import Event
from reflex_base.event.context import EventContext
from reflex_base.registry import RegisteredEventHandler, RegistrationContext
from reflex_base.utils.format import format_event_handler

from azure_auth.auth.tabs import Tab

_LONGEST_ROUTE = 16_000
"""How much a message may say of the page that it comes from; a state keeps it."""
_ON_LOAD = format_event_handler(OnLoadInternalState.event_handlers["on_load_internal"])
LOADING = {
    _ON_LOAD,
    format_event_handler(OnLoadInternalState.event_handlers["set_is_hydrated"]),
    *(HYDRATING := {format_event_handler(rx.State.event_handlers[name]) for name in ("hydrate", "hydrate_and_load")}),
}
"""What Reflex itself does to load a page."""
_STORING = {
    *HYDRATING,
    format_event_handler(UpdateVarsInternalState.event_handlers["update_vars_internal"]),
}
"""What brings values that the browser keeps."""


def registered(event: str) -> RegisteredEventHandler:
    """Return what Reflex knows of the handler that an event names."""
    return RegistrationContext.get().event_handlers[event]


def is_reflexs(state: type[BaseState]) -> bool:
    """Tell whether a state is the framework's own; `rx.ComponentState` makes developers' states in a module of it."""
    return state.__module__.startswith("reflex.") and state.__module__ != reflex.istate.dynamic.__name__


def is_event(data: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a message names a handler of this app, with arguments that it takes."""
    if not isinstance(data, dict):
        return False
    fields = cast("dict[str, Any]", data)
    name, payload, route = fields.get("name"), fields.get("payload", {}), fields.get("router_data", {})
    if not (isinstance(name, str) and isinstance(payload, dict) and isinstance(route, dict)):
        return False
    found = RegistrationContext.get().event_handlers.get(name)
    if found is None or not _is_route(cast("dict[str, Any]", route)):
        return False
    arguments = cast("dict[str, Any]", payload)
    try:
        signature(found.handler.fn).bind(None, **arguments)
        json.dumps(fields, ensure_ascii=False).encode()
    except (TypeError, ValueError):  # not for this handler; bytes; half a character, which cannot be sent back
        return False
    return name not in _STORING or _are_stored(arguments.get("vars") or {})


def _is_route(route: dict[str, Any]) -> bool:
    """Tell whether this says where a page is, in a way that can be read."""
    path, address = route.get("pathname", ""), route.get("asPath", "")
    if len(json.dumps(route)) > _LONGEST_ROUTE:
        return False
    if not (isinstance(path, str) and isinstance(address, str) and isinstance(route.get("query", {}), dict)):
        return False
    try:
        urlsplit(f"https://origin{address}")
        urlsplit(address)
    except ValueError:  # a bracket where a host would be
        return False
    return True


def _are_stored(values: Any) -> bool:
    """Tell whether these are values of vars that browsers keep for the app (`rx.LocalStorage` and its like)."""
    if not isinstance(values, dict):
        return False
    for name in cast("dict[str, Any]", values):
        state, _, var = name.rpartition(".")
        try:
            if not rx.State.get_class_substate(state)._is_client_storage(var.removesuffix(FIELD_MARKER)):  # pyright: ignore[reportPrivateUsage]
                return False
        except (ValueError, KeyError):
            return False
    return True


def counts(tab: Tab, event: Event, context: EventContext) -> bool:
    """Tell whether an event is something that the person did, and not what Reflex does by itself."""
    chained = context.parent_txid is not None
    if event.name in HYDRATING:
        tab.returned = "hashes" not in event.payload  # a page load sends them, connecting again does not
        return False
    if event.name == _ON_LOAD and chained:
        return not tab.returned
    if chained or (event.name != _ON_LOAD and is_reflexs(registered(event.name).states[0])):
        return False
    tab.returned = False
    return True
