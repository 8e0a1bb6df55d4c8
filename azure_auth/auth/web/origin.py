"""Which page sends a request, and for what: a foreign page never acts as the user.

Fetch Metadata (https://www.w3.org/TR/fetch-metadata/) says what a request is for. Browsers send it on https and on
loopback; old ones never do.
"""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from azure_auth.auth.cookies.cookie import pairs
from azure_auth.auth.policy import is_cross_origin
from azure_auth.auth.web.endpoints import Endpoint, Part
from azure_auth.settings import Settings

_SAFE = {"GET", "HEAD", "OPTIONS"}
"""Methods that change nothing (RFC 9110, section 9.2.1)."""


class OriginCheck:
    """Compares the origin of each request and websocket with the app's own."""

    def __init__(self, settings: Settings, session_cookie: str) -> None:
        """Allow the origins of the app; `session_cookie` is the name of that cookie."""
        self._url = settings.public_url
        self._origins = {self._url, *([settings.backend_url] if settings.demo else [])}
        self._session_cookie = session_cookie

    def admitted(self, scope: Scope, endpoint: Endpoint) -> Scope | None:
        """Return the scope, without cookies if a page of another origin may have sent them; None to refuse it.

        A foreign page gets what anonymous clients may read, and endpoints that are open to all origins. A client that
        is no browser sends no Origin (RFC 6454, section 7.3). It is admitted, as long as it sends no session cookie
        with a request that may change something.
        """
        anonymous, headers = with_cookies(scope, []), Headers(scope=scope)
        if is_cross_origin(endpoint.what):
            return anonymous
        is_safe = scope["type"] == "http" and scope["method"] in _SAFE
        if self._is_foreign(scope, headers):
            return anonymous if endpoint.is_public and is_safe else None
        if is_safe or endpoint.what is Part.SOCKETS or "origin" in headers:
            return scope
        cookies = {name for name, _ in pairs(headers.getlist("cookie"))}
        return None if self._session_cookie in cookies else scope

    def compared(self, scope: Scope) -> str:
        """Return the origin of a request beside the app's own, for the log."""
        return f"{Headers(scope=scope).get('origin', 'none')}, not {self._url}"

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether a page of another origin sends this; following its link to a page does not count."""
        if origins := headers.getlist("origin"):
            return not self._origins.issuperset(origins)
        return headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_navigation(scope)


def is_post_of_ours(scope: Scope, public_url: str) -> bool:
    """Tell whether a request is a POST by a page of the app at `public_url`."""
    return scope.get("method") == "POST" and Headers(scope=scope).getlist("origin") == [public_url]


def is_navigation(scope: Scope) -> bool:
    """Tell whether a request opens a page in a tab: no image, frame, script, prefetch or websocket.

    A request without Fetch Metadata counts as a page. One for a part of a page (`Range`) does not.
    """
    headers = Headers(scope=scope)
    if scope.get("method") != "GET" or "sec-purpose" in headers or "purpose" in headers or "range" in headers:
        return False
    asked = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return asked == ("navigate", "document") or is_of_old_browser(scope)


def is_of_old_browser(scope: Scope) -> bool:
    """Tell whether a request has no Fetch Metadata."""
    return not any(name.startswith(b"sec-fetch-") for name, _ in scope["headers"])


def with_cookies(scope: Scope, cookies: Iterable[bytes]) -> Scope:
    """Return the scope with these Cookie headers in place of its own."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": headers + [(b"cookie", value) for value in cookies]}
