"""The app's three cookies: one binds flows to a browser, one identifies the session, one names the browser."""

import re
from collections.abc import Iterable

from starlette.responses import Response

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


class Cookie:
    """One of our cookies: 256 random bits, out of reach of scripts and of other sites' forms."""

    def __init__(self, name: str, public_url: str, seconds: int) -> None:
        """Name it for the app at `public_url`; on https no other host can set or read it (`__Host-`, RFC 6265bis)."""
        self._secure = public_url.startswith("https://")
        self.name = f"__Host-{name}" if self._secure else name
        self._seconds = seconds

    def read(self, headers: Iterable[str]) -> str | None:
        """Return the cookie's value, or None when it is absent, malformed or given more than once.

        Parsed by hand: `http.cookies.SimpleCookie` gives up on the whole header when a neighbour's cookie is odd.

        Args:
            headers: The values of the request's Cookie headers.
        """
        pairs = (pair.strip(" \t").partition("=") for header in headers for pair in header.split(";"))
        values = [value for key, _, value in pairs if key == self.name]
        return well_formed(values[0]) if len(values) == 1 else None

    def set(self, response: Response, value: str) -> None:
        """Give the browser a value."""
        response.set_cookie(
            self.name, value, self._seconds, path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def header(self, value: str) -> str:
        """Return the Set-Cookie header that gives the browser a value."""
        response = Response()
        self.set(response, value)
        return response.headers["set-cookie"]


def well_formed(value: str) -> str | None:
    """Return the value if it has the form of 256 bits in URL-safe base64, else None."""
    return value if _VALUE.fullmatch(value) else None
