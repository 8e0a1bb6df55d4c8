"""How the app reads and writes cookies: out of reach of scripts and of other sites' forms."""

import re
from collections.abc import Callable, Iterable, Iterator

from starlette.responses import Response

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


class Cookie:
    """A cookie with a value of 43 characters: the session cookie, and two that a browser keeps for long."""

    def __init__(
        self, name: str, public_url: str, seconds: int, is_valid: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Name it for the app at `public_url`; the browser keeps it for `seconds`. `is_valid` detects forged values."""
        self.name = cookie_name(name, public_url)
        self._public_url, self._seconds, self._is_valid = public_url, seconds, is_valid

    def read(self, headers: Iterable[str]) -> str | None:
        """Return the cookie's value from Cookie headers; None if it is absent, malformed, forged or there twice."""
        values = [value for name, value in pairs(headers) if name == self.name]
        value = well_formed(values[0]) if len(values) == 1 else None
        return value if value and self._is_valid(value) else None

    def header(self, value: str) -> str:
        """Return the Set-Cookie header that gives the browser a value."""
        return set_cookie(self.name, value, self._seconds, self._public_url)


def cookie_name(name: str, public_url: str) -> str:
    """Return a cookie's name at that address; on https no other host can set or read it (`__Host-`, RFC 6265bis)."""
    return f"__Host-{name}" if public_url.startswith("https://") else name


def pairs(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and value of each cookie in a request, in the order in which the browser sent them.

    Parsed by hand: `http.cookies.SimpleCookie` rejects the whole header if another app's cookie is malformed.
    """
    for pair in (pair for header in headers for pair in header.split(";")):
        name, _, value = pair.strip(" \t").partition("=")
        yield name, value


def set_cookie(name: str, value: str, seconds: int, public_url: str) -> str:
    """Return a Set-Cookie header; with 0 seconds the browser deletes the cookie."""
    response = Response()
    secure = public_url.startswith("https://")
    response.set_cookie(name, value, seconds, path="/", secure=secure, httponly=True, samesite="lax")
    return response.headers["set-cookie"]


def well_formed(value: str) -> str | None:
    """Return the value if it has the form of 256 bits in URL-safe base64, else None."""
    return value if _VALUE.fullmatch(value) else None
