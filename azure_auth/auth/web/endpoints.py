"""What answers a connection, and whether it is public: sign-in, a developer's endpoint, or a part of Reflex.

Developers' endpoints are found the way Starlette's router finds them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import takewhile
from typing import Protocol, cast

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth.auth.policy import is_public
from azure_auth.auth.sessions.session import Held

_EVENTS, _UPLOAD = "/_event", "/_upload"
HEALTH = {"/ping", "/_health"}
_KNOWN = "starlette", "fastapi"
"""The packages whose routers are followed. A class that a developer derives from theirs may do anything."""
_HARMLESS = {
    "starlette.middleware.cors.CORSMiddleware",
    "starlette.middleware.gzip.GZipMiddleware",
    "starlette.middleware.sessions.SessionMiddleware",
    "starlette.middleware.trustedhost.TrustedHostMiddleware",
}
"""Middleware that answers a request itself, or passes it on to its endpoint."""


class Part(Enum):
    """What answers besides the developer's endpoints."""

    SIGN_IN = auto()
    SOCKETS = auto()
    UPLOADS = auto()
    BUILT = auto()


@dataclass(frozen=True)
class Endpoint:
    """What answers a request.

    Attributes:
        what: The developer's function, class or app, or a `Part`; None if the way to it cannot be followed.
        is_public: Whether anonymous clients get the answer.
        methods: The methods that it takes, if the request has another one; empty otherwise.
    """

    what: object
    is_public: bool = False
    methods: Sequence[str] = ()


UNKNOWN = Endpoint(None)


def find(app: Starlette, scope: Scope, last: BaseRoute | None = None) -> Endpoint | None:
    """Return the endpoint of an app that a connection will run; None if no route before `last` matches.

    Mounts and routers are followed.
    """
    found = first(app.routes, scope, last)
    kinds = [cast("type", middleware.cls) for middleware in app.user_middleware]
    is_followed = all(f"{kind.__module__}.{kind.__qualname__}" in _HARMLESS for kind in kinds)
    return found if found is None or is_followed else UNKNOWN


def first(routes: Iterable[BaseRoute], scope: Scope, last: BaseRoute | None = None) -> Endpoint | None:
    """Return the endpoint among routes, like `find`.

    The router takes the first route that matches in full. If there is none, the first one that takes another method
    answers with 405.
    """
    other_method: Endpoint | None = None
    for route in takewhile(lambda route: route is not last, routes):
        match, child = route.matches(scope)
        if match is Match.FULL:
            return _of(route, {**scope, **child})
        if match is Match.PARTIAL and not other_method:
            other_method = replace(_of(route, scope), methods=sorted(getattr(route, "methods", None) or ("GET",)))
    return other_method


def _of(route: BaseRoute, scope: Scope) -> Endpoint:
    if not _is_known(route):
        return UNKNOWN
    if isinstance(route, Mount):
        return _within(route.app, scope)
    if isinstance(route, (Route, WebSocketRoute)):
        return Endpoint(route.endpoint, is_public(route.endpoint))
    return UNKNOWN


def _within(app: ASGIApp, scope: Scope) -> Endpoint:
    """Return the endpoint within a mounted app. A public app is public as a whole."""
    if is_public(app):
        return Endpoint(app, is_public=True)
    if not _is_known(app) or getattr(app, "root_path", ""):  # with a root path, FastAPI matches another path
        return UNKNOWN
    router = app.router if isinstance(app, Starlette) else app
    if not (isinstance(router, Router) and _is_known(router) and router.middleware_stack == router.app):
        return UNKNOWN
    return (find(app, scope) if isinstance(app, Starlette) else first(router.routes, scope)) or UNKNOWN


def _is_known(what: object) -> bool:
    return type(what).__module__.partition(".")[0] in _KNOWN


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
        if own := first(self.own.routes, scope):
            return replace(own, what=Part.SIGN_IN)
        found = find(self.api, scope, self.reflex)
        if found and not found.methods:
            return found
        return self._of_reflex(scope) or found or UNKNOWN

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
        is_open = path in HEALTH or (scope["method"] in ("GET", "HEAD") and self.is_built(path))
        return Endpoint(Part.BUILT, is_public=True) if is_open else None


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
