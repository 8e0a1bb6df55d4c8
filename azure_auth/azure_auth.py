"""Composes the app; Reflex looks for `app` here."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import reflex as rx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp

from azure_auth import audit
from azure_auth.auth.core import State
from azure_auth.auth.entra.client import Client
from azure_auth.auth.gate import links
from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.leave import leave
from azure_auth.auth.gate.notice import notice
from azure_auth.auth.gate.reflex_internals import build_folder
from azure_auth.auth.gate.sockets import Sockets
from azure_auth.auth.gate.states import SharedStates, instead_of
from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.policy import public
from azure_auth.auth.sessions.server_keys import ServerKeys, kept_in
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.store import EmbeddedStore
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.connections import Connections
from azure_auth.auth.web.headers import FRONT_CHANNEL, SecurityHeaders
from azure_auth.auth.web.routes import routes
from azure_auth.auth.web.site import Site
from azure_auth.auth.web.static_build import ServePages, is_built
from azure_auth.components.brand import APP_NAME
from azure_auth.demo import Directory, LoopbackTransport
from azure_auth.errors import NotConfigured
from azure_auth.logs import install_redaction
from azure_auth.pages.callback import callback
from azure_auth.pages.home import home
from azure_auth.pages.logout import logout
from azure_auth.pages.not_found import not_found
from azure_auth.settings import Settings

DATA, SECRET = Path(".data"), Path(".secret/session")
"""What must survive a restart, and the secret beside it; hidden, so that Reflex does not reload when they change."""

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
        front_channel=f"{settings.backend_url}{FRONT_CHANNEL}",
        origin=settings.authority_host,
        browser_origin=f"{settings.backend_url}/demo",
    )
    api.mount("/demo", public(directory.app()))
    mounts[settings.authority_host] = LoopbackTransport(f"{settings.backend_url}/demo")
client = Client(settings, mounts)
keys = ServerKeys(lambda: settings.session_secrets or kept_in(SECRET))
store = RedisStore(settings.redis_url, keys) if settings.redis_url else EmbeddedStore(DATA / "sessions.sqlite")
sessions = Sessions(store, settings, keys)
tabs = State.tabs = Tabs()
sign_in = State.sign_in = SignIn(settings, client, sessions, store, keys)


def serve_pages(asgi: ASGIApp) -> ASGIApp:
    """Wrap Reflex's own side."""
    return ServePages(asgi, app.router)


class App(rx.App):
    """Reflex's app, behind our doors; what is not public needs a session."""

    def __call__(self) -> ASGIApp:
        """Return the whole."""
        inner, folder = super().__call__(), build_folder()  # the first mounts Reflex as the last route of `api`
        # In development the pages, which fetch their session there, live on another port.
        pages = Middleware(CORSMiddleware, allow_origins=[settings.public_url], allow_credentials=True)
        site = Site(
            inner,
            Sockets(inner, sign_in, gate, tabs),
            Router(routes(sign_in), middleware=[pages]),
            api,
            api.routes[-1],
            lambda path: is_built(folder, path, self.router),
        )
        framed_by = settings.backend_url if settings.demo else settings.authority_host
        return SecurityHeaders(Connections(site, sign_in), settings.public_url, framed_by, folder)


app = App(
    html_lang="en",
    api_transformer=[serve_pages, api],
    extra_app_wraps={(1, "Leave"): lambda _: leave(), (2, "Notice"): lambda _: notice()},
    # The code in the address of /callback does not travel further.
    head_components=[rx.el.meta(name="referrer", content="same-origin")],
)
app._state_manager = states = instead_of(app.state_manager, sessions.is_over)  # pyright: ignore[reportPrivateUsage]
links.instead_of_reflexs(app.event_namespace)
gate = Gate(app, sessions, tabs, State, sign_in.start_url)
if isinstance(states, SharedStates):
    states.on_unreadable = gate.note_lost_state


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
    install_redaction()
    listening = asyncio.create_task(sessions.listen())
    with audit.output(settings.audit_file) as trail, audit.writing(trail):
        yield
        await sign_in.settle()
    listening.cancel()
    client.close()
    await store.close()


app.register_lifespan_task(lifespan)
app.add_page(home, route="/", title=APP_NAME, on_load=State.require_auth)
app.add_page(callback, route="/callback", title=f"Signing in · {APP_NAME}", on_load=State.callback)
app.add_page(logout, route="/logout", title=f"Signed out · {APP_NAME}", on_load=State.logout)
app.add_page(not_found, route="404", title=f"No such page · {APP_NAME}")
