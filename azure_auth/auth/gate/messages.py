"""What a browser's messages are: which of them name an event of this app."""

# Reflex's decorators and events are partly untyped.
# pyright: reportUnknownMemberType=false

import json
from inspect import signature
from types import NoneType
from typing import Any, TypeGuard, cast
from urllib.parse import urlsplit

from azure_auth.auth.gate import reflex_internals
from azure_auth.auth.gate.reflex_internals import (
    FRAMEWORK_STATES,
    SENT_BY_CLIENT,
    STORING,
    is_client_storage,
    is_registered,
    registered,
)
from azure_auth.bounds import ROUTE_CHARACTERS


def is_event(data: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a message names a handler of this app that clients may call, with arguments of its names."""
    if not isinstance(data, dict):
        return False
    fields = cast("dict[str, Any]", data)
    name, payload, route = fields.get("name"), fields.get("payload", {}), fields.get("router_data", {})
    if not (isinstance(name, str) and isinstance(payload, dict) and isinstance(route, dict)):
        return False
    if not is_registered(name) or not _is_route(cast("dict[str, Any]", route)):
        return False
    found = registered(name)
    if found.states[0] in FRAMEWORK_STATES and name not in SENT_BY_CLIENT:
        return False
    arguments = cast("dict[str, Any]", payload)
    try:
        signature(found.handler.fn).bind(None, **arguments)
        json.dumps(fields, ensure_ascii=False).encode()
    except (TypeError, ValueError):  # not for this handler; bytes; half a character, which cannot be sent back
        return False
    return name not in STORING or _are_stored(arguments.get("vars") or {})


def address_of(event: dict[str, Any]) -> str:
    """Return the path and query of an event's page. Reflex's client also sends the fragment; it is dropped here."""
    return str(event.get("router_data", {}).get("asPath", "/")).partition("#")[0]


def takes_files(event: str) -> bool:
    """Tell whether an event names a handler that is for uploads."""
    return is_registered(event) and reflex_internals.takes_files(event)


def is_report(data: Any) -> bool:
    """Tell whether this is what Reflex's client reports of an update that it could not apply."""
    if not isinstance(data, dict):
        return False
    fields = cast("dict[str, Any]", data)
    named = {"message", "error_type"} <= fields.keys() <= {"message", "error_type", "substate"}
    return named and all(isinstance(value, str) for value in fields.values())


def _is_route(route: dict[str, Any]) -> bool:
    """Tell whether this says where a page is, in a way that can be read."""
    path, address = route.get("pathname", ""), route.get("asPath", "")
    if len(json.dumps(route)) > ROUTE_CHARACTERS:
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
    stored = cast("dict[str, Any]", values)  # browsers keep nothing but text
    return all(isinstance(value, (str, NoneType)) and is_client_storage(var) for var, value in stored.items())
