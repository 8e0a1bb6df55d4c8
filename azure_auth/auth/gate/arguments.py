"""Whether a handler's types allow the arguments of an event. Reflex would log each value that they do not."""

# Reflex's decorators and events are partly untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Iterable
from functools import cache
from inspect import signature
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import reflex as rx

from azure_auth.auth.gate.reflex_internals import EXCEPTION, STORING, Event, registered, transforms
from azure_auth.bounds import REPORT_CHARACTERS

_SCALARS, _CONTAINERS = (str, int, float, bool), (list, tuple, set, frozenset)


def fits_upload(event: Event) -> bool:
    """Tell whether a handler takes what came with the files of an upload."""
    try:
        signature(registered(event.name).handler.fn).bind(None, **event.payload)
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
    if name in STORING and arguments.get("vars"):  # None is what a browser sends for a value that is gone
        arguments["vars"] = {var: value for var, value in arguments["vars"].items() if value is not None}
    if name == EXCEPTION:
        event["payload"] = {argument: value[:REPORT_CHARACTERS] for argument, value in arguments.items()}
    return True


def _all_fit(event: str, arguments: dict[str, Any]) -> bool:
    hints = _hints(registered(event).handler.fn)
    return all(_fits(value, hints.get(argument, Any)) for argument, value in arguments.items())


@cache
def _hints(handler: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(handler)
    except NameError:  # a type that is known to type checkers alone: Reflex cannot transform by it either
        return {}


def _fits(value: Any, hint: Any) -> bool:
    if value is None or hint is Any:
        return True
    return _is_shaped(value, hint) and transforms(value, hint)


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
