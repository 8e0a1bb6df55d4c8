"""The demo directory is reached from this machine only, and reaches nothing else."""

from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_NAMES = {"localhost", "127.0.0.1", "::1"}
_OF_PROXIES = {"forwarded", "via", "x-real-ip"}


class LoopbackOnly:
    """Refuses requests that are not of this machine alone.

    The peer, the Host header (which stops DNS rebinding) and a POST's Origin must be of it, and no proxy on the way.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Guard `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and not _is_local(scope):
            await PlainTextResponse("The demo directory answers this machine only.", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    peer = scope["client"][0] if scope.get("client") else ""
    named = [f"//{host}" for host in headers.getlist("host")]
    origins = headers.getlist("origin") if scope["method"] != "GET" else []
    try:
        return (
            ip_address(peer).is_loopback
            and len(named) == 1
            and all(urlsplit(place).hostname in _NAMES for place in (*named, *origins))
            and not any(name in _OF_PROXIES or name.startswith("x-forwarded-") for name in headers)
        )
    except ValueError:
        return False


class LoopbackTransport(httpx.BaseTransport):
    """Sends what is meant for Entra to the demo directory instead.

    MSAL takes tokens over https alone; mounted for Entra's host on an `httpx.Client`, this lets the demo directory
    stay on plain http.
    """

    def __init__(self, url: str) -> None:
        """Send everything below `url`, the demo directory's own address."""
        self._url = httpx.URL(url)
        self._transport = httpx.HTTPTransport(trust_env=False)  # ignore proxy and certificate settings

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the demo directory, with its path and query as they are."""
        target = self._url.copy_with(raw_path=self._url.raw_path.rstrip(b"/") + request.url.raw_path)
        headers = request.headers.copy()
        headers["Host"] = target.netloc.decode("ascii")
        return self._transport.handle_request(
            httpx.Request(request.method, target, headers=headers, stream=request.stream, extensions=request.extensions)
        )

    def close(self) -> None:
        """Close the connections to the demo directory."""
        self._transport.close()
