"""The routes that sign-in needs besides the pages, and pages without redirects."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth import audit
from azure_auth.auth.cookies.cookie import well_formed
from azure_auth.auth.policy import public
from azure_auth.auth.sessions.sealing import TICKET_LENGTH
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.fetch_metadata import is_navigation, is_of_old_browser, is_post_of_ours
from azure_auth.auth.web.headers import FRONT_CHANNEL
from azure_auth.auth.web.requests import NO_STORE
from azure_auth.errors import StoreUnavailable
from azure_auth.reflex_build import static_build

_log = logging.getLogger(__name__)


def routes(sign_in: SignIn) -> list[Route]:
    """Return the routes, all of them public."""

    @public
    async def start(request: Request) -> Response:
        """Start a sign-in, or send a signed-in user straight to the page. Only a page opened in a tab may ask."""
        if not is_navigation(request.scope):
            return PlainTextResponse("Open this address in a tab.", 403, NO_STORE)
        led = await sign_in.begin(
            request.headers.getlist("cookie"),
            request.query_params.get("return_to", ""),
            tab=well_formed(request.query_params.get("tab", "")) or "",
            choose_account=request.query_params.get("prompt") == "select_account",
            address=client_address(request.scope, sign_in.settings.proxy_hops),
            old=is_of_old_browser(request.scope),
        )
        # Off this site the empty fragment keeps the browser from taking along that of the address it comes from.
        leaves = not led.address.startswith(f"{sign_in.settings.public_url}/")
        response = RedirectResponse(f"{led.address}#" if leaves else led.address, 303, NO_STORE)
        _set(response, led.cookies)
        return response

    @public
    async def session(request: Request) -> Response:
        """Exchange the ticket in the body for the session cookie; the answer's text is where the browser goes next.

        Only our own pages may ask. The ticket works only with its flow's cookie.
        """
        if not is_post_of_ours(request.scope, sign_in.settings.public_url):
            address = client_address(request.scope, sign_in.settings.proxy_hops)
            audit.record("suspicious", reason="a session asked for by another site", address=address)
            return PlainTextResponse("Only for the pages of this site.", 403, NO_STORE)
        ticket = await _body(request)
        led = await sign_in.start_session(ticket, request.headers.getlist("cookie"))
        response = PlainTextResponse(led.address, headers=NO_STORE)
        _set(response, led.cookies)
        if led.session_cookie:
            _set(response, [sign_in.session_cookie.header(led.session_cookie)])
        return response

    @public
    async def end_by_directory(request: Request) -> Response:
        """Front-channel logout: end the local sessions that belong to Entra's `sid`.

        The request comes from an iframe, without cookies. The response is immediate, and the same whether or not the
        `sid` is known (OIDC Front-Channel Logout 1.0).
        """
        address = client_address(request.scope, sign_in.settings.proxy_hops)
        sids = request.query_params.getlist("sid")
        return Response(
            headers=NO_STORE, background=BackgroundTask(_quietly, sign_in, sids[0] if len(sids) == 1 else "", address)
        )

    return [
        Route("/auth/sign-in", start),
        Route("/auth/session", session, methods=["POST"]),
        Route(FRONT_CHANNEL, end_by_directory),
    ]


def _set(response: Response, cookies: Iterable[str]) -> None:
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)


async def _quietly(sign_in: SignIn, sid: str, address: str) -> None:
    try:
        await sign_in.end_by_directory(sid, address)
    except StoreUnavailable as failure:
        _log.error("a sign-out by the directory was lost: %s", failure)


async def _body(request: Request) -> str:
    """Read as much of a body as a ticket is long; what is longer is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > TICKET_LENGTH:
            return ""
    return body.decode("latin-1")


class ServePages:
    """Serves each page under the address that was asked for.

    Reflex's static build has `/callback` as `/callback/` and redirects there: over plain http behind a proxy, to the
    host that the request names, and with the code.
    """

    def __init__(self, app: ASGIApp, is_page: Callable[[str], object]) -> None:
        """Wrap `app`; `is_page` tells whether a path is a page's."""
        self.app = app
        self._is_page = is_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, a page's under the path that it has in the static build."""
        if scope["type"] == "http" and not scope["path"].endswith("/") and self._is_page(scope["path"]):
            scope = dict(scope, path=f"{scope['path']}/", raw_path=None)
        await self.app(scope, receive, send)


def build() -> Path:
    """Return where the static build lies."""
    return static_build()


def is_built(path: str, is_page: Callable[[str], object]) -> bool:
    """Tell whether a path is a page, or a file of the static build."""
    if is_page(path) is not None:
        return True
    folder = build()
    try:
        file = (folder / path.lstrip("/")).resolve()
        return file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # longer than names may be, or with a null character
        return False
