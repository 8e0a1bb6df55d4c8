"""Which of a developer's endpoints a request will run, found the way Starlette's router finds it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import takewhile
from typing import cast

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Scope

from azure_auth.auth.policy import is_public

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
