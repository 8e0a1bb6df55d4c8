"""Encodes stored records as versioned JSON, so that other releases of the app can read them.

A release may add fields without a new `FORMAT`: older releases ignore unknown fields, and newer releases give a missing
field the default that grants least. `FORMAT` changes only when an older release would misread a record.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

FORMAT = 1
_T = TypeVar("_T")


class Unreadable(Exception):
    """The record has another format version, or lacks a required field."""


def packed(record: Mapping[str, Any]) -> bytes:
    """Return a record as bytes."""
    return json.dumps({**record, "v": FORMAT}).encode()


def unpacked(data: bytes) -> dict[str, Any]:
    """Return the record that the bytes hold, with unknown fields; raises `Unreadable` if it has another format."""
    try:
        record = json.loads(data)
    except ValueError:
        raise Unreadable("no JSON") from None
    if not isinstance(record, dict):
        raise Unreadable("no record")
    found = cast("dict[str, Any]", record)
    if found.get("v") != FORMAT:
        raise Unreadable(f"format {str(found.get('v'))[:20]}")
    return found


def texts(kind: type[_T], record: Any) -> _T:
    """Return a dataclass of texts from a record. Unknown fields are ignored, missing ones get their defaults.

    Without a default, a field that is missing or is not a text raises `Unreadable`.
    """
    known = cast("dict[str, Any]", record) if isinstance(record, dict) else {}
    names = [field.name for field in fields(cast("Any", kind))]
    try:
        return kind(**{name: known[name] for name in names if type(known.get(name)) is str})
    except TypeError:
        raise Unreadable(f"an incomplete {kind.__name__}") from None
