"""The doors before whatever a test puts behind them."""

from types import SimpleNamespace

from starlette.applications import Starlette
from starlette.routing import Router

from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.web.connections import Doors, Site
from azure_auth.auth.web.routes import routes


def doors(app, sign_in, gate=None, tabs=None, *, api=None, is_built=lambda _: False) -> Doors:
    """Doors before `app`, with sign-in's own routes; `api` has the developer's endpoints."""
    site = Site(app, Router(routes(sign_in)), api or Starlette(), None, is_built)
    return Doors(site, sign_in, gate or SimpleNamespace(stop_what_is_over=lambda _: None), tabs or Tabs())
