"""What there is to protect, and which part of it answers a connection; the pages and files of Reflex's build."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth.auth.sessions.session import Held
from azure_auth.auth.web import endpoints
from azure_auth.auth.web.endpoints import Endpoint, Part

_EVENTS, _UPLOAD = "/_event", "/_upload"
_HEALTH = {"/ping", "/_health"}


class TabConnections(Protocol):
    """The connections of Reflex's own client; the gate serves them."""

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a socket, from its handshake to its end."""

    async def upload(self, scope: Scope, receive: Receive, send: Send, held: Held | None) -> None:
        """Serve an upload; `held` is the session that sends it."""

    def takes_anonymous_upload(self, scope: Scope) -> bool:
        """Tell whether an upload is for a public handler."""
        ...


@dataclass(frozen=True)
class Site:
    """What there is to protect.

    Attributes:
        app: All of it, except `own`.
        tabs: Serves the connections of Reflex's own client.
        own: The routes of sign-in, all of them public; they alone see the app's cookies.
        api: The developer's HTTP endpoints, and Reflex behind them.
        reflex: The route of `api` that leads to Reflex.
        is_built: Whether a path is a page or a file of the static build, which is public.
    """

    app: ASGIApp
    tabs: TabConnections
    own: Router
    api: Starlette
    reflex: BaseRoute
    is_built: Callable[[str], bool]

    def endpoint(self, scope: Scope) -> Endpoint:
        """Return what answers: sign-in, a developer's endpoint, or Reflex."""
        if own := endpoints.first(self.own.routes, scope):
            return replace(own, what=Part.SIGN_IN)
        found = endpoints.find(self.api, scope, self.reflex)
        if found and not found.methods:
            return found
        return self._of_reflex(scope) or found or endpoints.UNKNOWN

    def _of_reflex(self, scope: Scope) -> Endpoint | None:
        path = scope["path"]
        if _is_below(_EVENTS, path):
            return Endpoint(Part.SOCKETS, is_public=True)
        if scope["type"] == "websocket":
            return None
        if path.rstrip("/") == _UPLOAD and scope["method"] == "POST":
            return Endpoint(Part.UPLOADS, is_public=self.tabs.takes_anonymous_upload(scope))
        if _is_below(_UPLOAD, path):
            return None  # also where a page takes every path (`[[...splat]]`)
        is_open = path in _HEALTH or (scope["method"] in ("GET", "HEAD") and self.is_built(path))
        return Endpoint(Part.BUILT, is_public=True) if is_open else None


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


class ServePages:
    """Serves each page under the address that was asked for.

    Reflex's static build has `/callback` as `/callback/` and redirects there: over plain http behind a proxy, to the
    host that the request names, and with the code.
    """

    def __init__(self, app: ASGIApp, is_page: Callable[[str], object]) -> None:
        self._app, self._is_page = app, is_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a page's gets the path that it has in the static build."""
        if scope["type"] == "http" and not scope["path"].endswith("/") and self._is_page(scope["path"]):
            scope = dict(scope, path=f"{scope['path']}/", raw_path=None)
        await self._app(scope, receive, send)


def is_built(folder: Path, path: str, is_page: Callable[[str], object]) -> bool:
    """Tell whether a path is a page, or a file of the static build in `folder`."""
    if is_page(path) is not None:
        return True
    try:
        file = (folder / path.lstrip("/")).resolve()
        return file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # longer than names may be, or with a null character
        return False
