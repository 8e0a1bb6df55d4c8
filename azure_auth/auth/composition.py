"""Puts sign-in in front of a Reflex app. This is the one place that sets anything on the app."""

# Reflex is partly untyped.
# pyright: reportUnknownMemberType=false

import asyncio
import gc
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import reflex as rx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp

from azure_auth import audit
from azure_auth.auth.core import Services, State, register
from azure_auth.auth.entra.client import Client
from azure_auth.auth.gate.app_wraps import connection, leave, notice
from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.reflex_internals import is_wrapped, wrap_asgi
from azure_auth.auth.gate.sockets import Sockets
from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.sessions.server_keys import ServerKeys, kept_in
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import Store
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.connections import Connections
from azure_auth.auth.web.endpoints import Site
from azure_auth.auth.web.headers import SecurityHeaders
from azure_auth.auth.web.routes import routes
from azure_auth.auth.web.static_build import ServePages, is_built
from azure_auth.logs import install_redaction
from azure_auth.reflex_build import keep_lines_whole, require_writable, static_build
from azure_auth.settings import Settings
from azure_auth.settings.clouds import origins

DATA, SECRET = Path(".data"), Path(".secret/session")
"""The embedded store, and its secret beside it. Hidden folders, so that Reflex does not reload when they change."""


def install(app: rx.App, settings: Settings, transports: Mapping[str, httpx.BaseTransport] | None = None) -> None:
    """Put sign-in in front of an app: from then on everything needs a session, unless it is `public`.

    Args:
        app: The app. Pages may be added before or after, as functions. Its `api_transformer`, if any, is one app of
            Starlette or FastAPI with the app's own HTTP endpoints. Its exception handlers are called after ours.
        settings: Which directory, which credential, which addresses.
        transports: httpx transports by address, for a directory that is not on the network (the demo directory).

    Raises:
        TypeError: When `api_transformer` is anything else, because its routes cannot be protected one by one.
        RuntimeError: When sign-in is installed on this app already.
        SystemExit: When a folder cannot be written.
    """
    if is_wrapped(app):
        raise RuntimeError("sign-in is installed on this app already")
    api = app.api_transformer or Starlette()
    if not isinstance(api, Starlette):
        raise TypeError("api_transformer must be an app of Starlette or FastAPI")
    if not settings.redis_url:
        require_writable(DATA)
        if not (settings.session_secrets or SECRET.exists()):
            require_writable(SECRET.parent)
    client = Client(settings, transports)
    keys = ServerKeys(lambda: settings.session_secrets or kept_in(SECRET))
    store = RedisStore(settings.redis_url, keys) if settings.redis_url else EmbeddedStore(DATA / "sessions.sqlite")
    sessions, tabs = Sessions(store, settings, keys), Tabs()
    sign_in = SignIn(settings, client, sessions, store, keys)
    gate = Gate(app, sessions, tabs, State, sign_in.start_url)
    register(Services(sign_in, tabs))
    app.extra_app_wraps |= {
        (1, "Leave"): lambda _: leave(State, settings.backend_url),
        (2, "Notice"): lambda _: notice(State),
    }
    app.app_wraps[5, "Overlay"] = lambda _: connection(State, settings.public_url)
    # The code in the address of /callback does not travel further.
    app.head_components = [*app.head_components, rx.el.meta(name="referrer", content="same-origin")]

    def pages(inner: ASGIApp) -> ASGIApp:
        return ServePages(inner, app.router)  # by now it knows all pages

    app.api_transformer = [pages, api]

    def connections(inner: ASGIApp) -> ASGIApp:
        folder, sockets = static_build(), Sockets(inner, sign_in, gate, tabs)
        # In development the pages, which fetch their session there, live on another port.
        cors = Middleware(CORSMiddleware, allow_origins=[settings.public_url], allow_credentials=True)
        own = Router(routes(sign_in), middleware=[cors])
        reflex = api.routes[-1]  # where Reflex has mounted itself
        site = Site(inner, sockets, own, api, reflex, lambda path: is_built(folder, path, app.router))
        directory = " ".join(origins(settings.authority_host, settings.tenant_id))
        framed_by = settings.backend_url if settings.demo else directory
        return SecurityHeaders(Connections(site, sign_in), settings.public_url, framed_by, folder)

    wrap_asgi(app, connections)
    app.register_lifespan_task(_lifespan, sign_in=sign_in, client=client, store=store)


@asynccontextmanager
async def _lifespan(sign_in: SignIn, client: Client, store: Store) -> AsyncGenerator[None]:
    """Say at start which directory is asked and which redirect URI must be registered there. Close all at the end."""
    # A full garbage collection stops everybody while it looks at every object. The objects made so far stay for good:
    # leave them out, and collect a tenth as often (docs/performance.md has the effect).
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 100)  # 3.11's 700: with later versions' value, the objects of a closed tab stay longer
    settings = sign_in.settings
    whom = "the demo directory" if settings.demo else f"{settings.authority_host}/{settings.tenant_id}"
    print(f"Sign-in asks {whom}; the redirect URI is {settings.public_url}/callback", flush=True)
    for note in settings.notes:
        print(note, flush=True)
    keep_lines_whole()
    install_redaction()
    listening = asyncio.create_task(sign_in.sessions.listen())
    with audit.output(settings.audit_file) as trail, audit.writing(trail):
        yield
        await sign_in.settle()
    listening.cancel()
    client.close()
    await store.close()
