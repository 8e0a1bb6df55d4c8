"""Connections in front of any app of a test."""

from types import SimpleNamespace

from starlette.applications import Starlette
from starlette.routing import Router

from azure_auth.auth.gate.sockets import Sockets
from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.web.connections import Connections
from azure_auth.auth.web.endpoints import Site
from azure_auth.auth.web.routes import routes


def connections(app, sign_in, gate=None, tabs=None, *, api=None, is_built=lambda _: False) -> Connections:
    """Connections in front of `app`, with sign-in's own routes; `api` has the developer's endpoints."""
    sockets = Sockets(app, sign_in, gate or SimpleNamespace(), tabs or Tabs())
    return Connections(Site(app, sockets, Router(routes(sign_in)), api or Starlette(), None, is_built), sign_in)
