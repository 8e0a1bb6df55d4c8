"""Where a sign-in may lead: a page of this app, and nowhere else."""

import re
import unicodedata
from urllib.parse import unquote

_LONGEST = 2000
_URL = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*(\?[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]|{}^`]*)?")
_OURS = {"logout", "callback", "auth"}
"""First segments that a sign-in never leads to: they end or start one."""


def return_target(raw: str) -> str | None:
    """Return `raw` if it is the path and query of a page of this app, else None.

    Only what every browser and router reads in one way is taken: one leading slash, no empty or dot segment, no
    backslash, control character, broken UTF-8 or fragment, also after decoding twice and folding look-alikes (NFKC).

    Args:
        raw: What came with the request; nothing is known about it.
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
    # U+FFFD stands for what is no UTF-8, such as an overlong encoding of a slash.
    if any(c in "\\\ufffd" or unicodedata.category(c).startswith("C") for c in path) or "//" in path:
        return False
    return (segments or [last])[0].casefold() not in _OURS
