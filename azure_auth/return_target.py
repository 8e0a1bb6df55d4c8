"""Checks the address to which a sign-in returns: it must stay within this app."""

import re
import unicodedata
from urllib.parse import unquote

_LONGEST = 2000
_URL = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]|{}^`]*)?")
_OURS = {"logout", "callback", "auth"}
"""First path segments that are no return target, because they start or end a sign-in."""


def return_target(raw: str) -> str | None:
    """Return `raw`, which is untrusted, if it is a path and query within this app, else None.

    This checks only its form, not whether there is such a page.
    All browsers and routers must read it the same way: one leading slash, no empty or dot segment, no backslash,
    control character, broken UTF-8 or fragment. This also holds after decoding twice, and after normalising look-alikes
    (NFKC).
    """
    if len(raw) > _LONGEST or not _URL.fullmatch(raw):
        return None
    path = raw.partition("?")[0]
    readings = [path, unquote(path), unquote(unquote(path))]
    readings += [unicodedata.normalize("NFKC", reading) for reading in readings]
    return raw if all(_is_page(reading) for reading in readings) else None


def _is_page(path: str) -> bool:
    *segments, last = path.split("/")[1:]
    if any(segment in ("", ".", "..") for segment in segments) or last in (".", ".."):
        return False
    # U+FFFD replaces invalid UTF-8, such as an overlong encoding of a slash.
    if any(c in "\\\ufffd" or unicodedata.category(c).startswith("C") for c in path) or "//" in path:
        return False
    return (segments or [last])[0].casefold() not in _OURS
