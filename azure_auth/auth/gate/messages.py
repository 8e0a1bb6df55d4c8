"""What a browser's messages are: which of them name an event of this app, with arguments that its handler takes.

Reflex would log each argument that does not fit the handler's types.
"""

import json
from collections.abc import Callable, Iterable
from functools import cache
from inspect import signature
from types import NoneType, UnionType
from typing import Annotated, Any, TypeGuard, Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import reflex as rx

from azure_auth.auth.gate import reflex_internals as seam
from azure_auth.bounds import REPORT_CHARACTERS, ROUTE_CHARACTERS

_SCALARS, _CONTAINERS = (str, int, float, bool), (list, tuple, set, frozenset)


def is_event(data: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a message names a handler of this app that clients may call, with arguments of its names."""
    if not isinstance(data, dict):
        return False
    fields = cast("dict[str, Any]", data)
    name, payload, route = fields.get("name"), fields.get("payload", {}), fields.get("router_data", {})
    if not (isinstance(name, str) and isinstance(payload, dict) and isinstance(route, dict)):
        return False
    if not seam.is_registered(name) or not _is_route(cast("dict[str, Any]", route)):
        return False
    found = seam.registered(name)
    if found.states[0] in seam.FRAMEWORK_STATES and name not in seam.SENT_BY_CLIENT:
        return False
    arguments = cast("dict[str, Any]", payload)
    try:
        signature(found.handler.fn).bind(None, **arguments)
        json.dumps(fields, ensure_ascii=False).encode()
    except (TypeError, ValueError):  # not for this handler; bytes; half a character, which cannot be sent back
        return False
    return name not in seam.STORING or _are_stored(arguments.get("vars") or {})


def address_of(event: dict[str, Any]) -> str:
    """Return the path and query of an event's page. Reflex's client also sends the fragment; it is dropped here."""
    return str(event.get("router_data", {}).get("asPath", "/")).partition("#")[0]


def is_too_long(event: dict[str, Any]) -> bool:
    """Tell whether the address of an event's page is longer than a state keeps."""
    return len(json.dumps(event.get("router_data", {}))) > ROUTE_CHARACTERS


def takes_files(event: str) -> bool:
    """Tell whether an event names a handler that is for uploads."""
    return seam.is_registered(event) and seam.takes_files(event)


def is_report(data: Any) -> bool:
    """Tell whether this is what Reflex's client reports of an update that it could not apply."""
    if not isinstance(data, dict):
        return False
    fields = cast("dict[str, Any]", data)
    named = {"message", "error_type"} <= fields.keys() <= {"message", "error_type", "substate"}
    return named and all(isinstance(value, str) for value in fields.values())


def _is_route(route: dict[str, Any]) -> bool:
    path, address = route.get("pathname", ""), route.get("asPath", "")
    if not (isinstance(path, str) and isinstance(address, str) and isinstance(route.get("query", {}), dict)):
        return False
    if len(address) > ROUTE_CHARACTERS:  # `is_too_long`; `urlsplit` would keep it in its cache
        return True
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
    return all(isinstance(value, (str, NoneType)) and seam.is_client_storage(var) for var, value in stored.items())


def fits_upload(event: seam.Event) -> bool:
    """Tell whether a handler takes what came with the files of an upload."""
    try:
        signature(seam.registered(event.name).handler.fn).bind(None, **event.payload)
    except TypeError:
        return False
    return _all_fit(event.name, {name: value for name, value in event.payload.items() if _is_plain(value)})


def _is_plain(value: Any) -> bool:
    """Tell whether a value came as JSON, and is neither a list of files nor an iterator over their parts."""
    files = isinstance(value, list) and any(isinstance(one, rx.UploadFile) for one in cast("list[Any]", value))
    return not files and not isinstance(value, rx.UploadChunkIterator)


def takes(event: dict[str, Any]) -> bool:
    """Tell whether a handler's types allow the arguments of an event.

    What a browser reports of an exception is shortened: Reflex searches it with patterns that are not linear.
    """
    name, arguments = event["name"], cast("dict[str, Any]", event.get("payload", {}))
    if not _all_fit(name, arguments):
        return False
    if name in seam.STORING and arguments.get("vars"):  # None is what a browser sends for a value that is gone
        arguments["vars"] = {var: value for var, value in arguments["vars"].items() if value is not None}
    if name == seam.EXCEPTION:
        event["payload"] = {argument: value[:REPORT_CHARACTERS] for argument, value in arguments.items()}
    return True


def _all_fit(event: str, arguments: dict[str, Any]) -> bool:
    hints = _hints(seam.registered(event).handler.fn)
    return all(_fits(value, hints.get(argument, Any)) for argument, value in arguments.items())


@cache
def _hints(handler: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(handler)
    except NameError:  # a type that is known to type checkers alone: Reflex cannot transform by it either
        return {}


def _fits(value: Any, hint: Any) -> bool:
    return value is None or hint is Any or (_is_shaped(value, hint) and seam.transforms(value, hint))


def _is_shaped(value: Any, hint: Any) -> bool:
    """Tell whether a value of JSON has the shape that a type hint says: one value, a list or a mapping.

    None has every shape, for a page sends it for an emptied field; of one value, any kind may be sent.
    """
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return value is None or any(_is_shaped(value, one) for one in inner if one is not NoneType)
    if origin is Annotated:
        return _is_shaped(value, inner[0])
    if origin in _SCALARS:
        return not isinstance(value, (dict, list))
    if origin is dict:
        values = cast("dict[str, Any]", value)
        return isinstance(value, dict) and (len(inner) < 2 or _are_shaped(values.values(), inner[1]))
    if origin not in _CONTAINERS:
        return True
    if not isinstance(value, list):
        return False
    items = cast("list[Any]", value)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return len(items) == len(inner) and all(map(_is_shaped, items, inner))
    return not inner or _are_shaped(items, inner[0])


def _are_shaped(values: Iterable[Any], hint: Any) -> bool:
    kinds = {*(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))}
    if kinds <= {*_SCALARS, NoneType}:  # there may be a hundred thousand
        return {*map(type, values)}.isdisjoint((dict, list))
    return all(value is None or _is_shaped(value, hint) for value in values)
