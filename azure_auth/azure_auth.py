"""The app: its pages and endpoints. Reflex looks for `app` here."""

import os

import reflex as rx
from starlette.applications import Starlette

from azure_auth.auth import State, install, public
from azure_auth.components.brand import APP_NAME
from azure_auth.demo import Directory, LoopbackTransport
from azure_auth.errors import NotConfigured
from azure_auth.pages.callback import callback, callback_title
from azure_auth.pages.home import home
from azure_auth.pages.logout import logout
from azure_auth.pages.not_found import not_found
from azure_auth.settings import Settings

try:
    settings = Settings.load(os.environ)
except NotConfigured as fault:
    raise SystemExit(str(fault)) from None

api = Starlette()
app = rx.App(html_lang="en", api_transformer=api)
transports = {}
if settings.demo:
    directory = Directory(
        tenant_id=settings.tenant_id,
        client_id=settings.client_id,
        client_secret=str(settings.credential),
        redirect_uris=(f"{settings.public_url}/callback", f"{settings.public_url}/logout"),
        front_channel=f"{settings.backend_url}/auth/frontchannel-logout",
        origin=settings.authority_host,
        browser_origin=f"{settings.backend_url}/demo",
    )
    api.mount("/demo", public(directory.app()))
    transports[settings.authority_host] = LoopbackTransport(f"{settings.backend_url}/demo")
install(app, settings, transports)

app.add_page(home, route="/", title=APP_NAME, on_load=State.require_auth)
app.add_page(callback, route="/callback", title=callback_title(), on_load=State.callback)
app.add_page(logout, route="/logout", title=f"Signed out · {APP_NAME}", on_load=State.logout)
app.add_page(not_found, route="404", title=f"No such page · {APP_NAME}")
