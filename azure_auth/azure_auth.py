"""Composes the app; Reflex looks for `app` here."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import reflex as rx
from starlette.applications import Starlette
from starlette.types import ASGIApp

from azure_auth.auth.client import Client
from azure_auth.auth.core import State
from azure_auth.auth.http import ServePages, routes
from azure_auth.auth.sign_in import SignIn
from azure_auth.components.brand import APP_NAME
from azure_auth.components.frame import frame
from azure_auth.demo import Directory, LoopbackTransport
from azure_auth.errors import NotConfigured
from azure_auth.pages.callback import callback
from azure_auth.pages.home import home
from azure_auth.pages.logout import logout
from azure_auth.settings import Settings

try:
    settings = Settings.load(os.environ)
except NotConfigured as fault:
    raise SystemExit(str(fault)) from None

api = Starlette()
mounts = {}
if settings.demo:
    directory = Directory(
        tenant_id=settings.tenant_id,
        client_id=settings.client_id,
        client_secret=str(settings.credential),
        redirect_uris=(f"{settings.public_url}/callback", f"{settings.public_url}/logout"),
        origin=settings.authority_host,
        browser_origin=f"{settings.backend_url}/demo",
    )
    api.mount("/demo", directory.app())
    mounts[settings.authority_host] = LoopbackTransport(f"{settings.backend_url}/demo")
client = Client(settings, mounts)
sign_in = State.sign_in = SignIn(settings, client)
api.routes.extend(routes(sign_in))


def serve_pages(asgi: ASGIApp) -> ASGIApp:
    """Wrap Reflex's own side."""
    return ServePages(asgi, app.router)


app = rx.App(
    html_lang="en",
    api_transformer=[serve_pages, api],
    # The code in the address of /callback does not travel further.
    head_components=[rx.el.meta(name="referrer", content="same-origin")],
)


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Say at start whom the app asks and which address must be registered there; at the end, let go of it."""
    # A full collection of garbage stops everybody for the time it takes to look at every object: those made so far stay
    # for good and are left out, and it comes a tenth as often (docs/performance.md says what that changes).
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 100)
    whom = "the demo directory" if settings.demo else f"{settings.authority_host}/{settings.tenant_id}"
    print(f"Sign-in asks {whom}; the redirect URI is {settings.public_url}/callback", flush=True)
    yield
    client.close()


app.register_lifespan_task(lifespan)
app.add_page(frame(home(), demo=settings.demo), route="/", title=APP_NAME, on_load=State.require_auth)
app.add_page(
    frame(callback(), demo=settings.demo), route="/callback", title=f"Signing in · {APP_NAME}", on_load=State.callback
)
app.add_page(
    frame(logout(), demo=settings.demo), route="/logout", title=f"Signed out · {APP_NAME}", on_load=State.logout
)
