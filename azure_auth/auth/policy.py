"""Who may reach what: everything needs somebody signed in, unless it says otherwise in one word."""

from collections.abc import Hashable
from typing import Any, TypeVar

from starlette.requests import HTTPConnection

from azure_auth.auth.identity import Identity

_T = TypeVar("_T")
_public: set[object] = set()
_cross_origin: set[object] = set()
WHO = "azure_auth.who"
"""Where the scope of an HTTP request or websocket has the person."""


def public(what: _T) -> _T:
    """Mark a page, a handler, a state, an HTTP endpoint or a mounted app as open to everybody.

    All else needs somebody signed in. A public state is one whose vars strangers may see.
    """
    _public.add(what)
    return what


def cross_origin(endpoint: _T) -> _T:
    """Mark an HTTP endpoint as open to everybody and to requests of any origin, such as a webhook.

    Without this word, a request that may change something (any method but GET, HEAD and OPTIONS) and a websocket need
    the app's exact Origin (OWASP ASVS 5.0, 3.5). Here nobody is signed in: `who(request)` is None, whatever cookies the
    browser sends, for the page behind the request may be anybody's. Scripts of other origins get no answer to read, and
    no preflight is answered for them (CORS).
    """
    _cross_origin.add(endpoint)
    return public(endpoint)


def is_public(what: Any) -> bool:
    """Tell whether something was marked as public."""
    return isinstance(what, Hashable) and what in _public  # a component, also that of a page, is not hashable


def is_cross_origin(endpoint: Any) -> bool:
    """Tell whether an endpoint was marked as open to other origins."""
    return isinstance(endpoint, Hashable) and endpoint in _cross_origin


def who(connection: HTTPConnection) -> Identity | None:
    """Return who sends an HTTP request, or opened a websocket; None for a stranger.

    Args:
        connection: What Starlette or FastAPI gives an endpoint: a `Request` or a `WebSocket`.
    """
    return connection.scope.get(WHO)
