"""The routes that sign-in needs besides the pages."""

import logging
from collections.abc import Iterable
from functools import partial

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from azure_auth import audit
from azure_auth.auth.cookies.cookie import well_formed
from azure_auth.auth.policy import public
from azure_auth.auth.sessions.sealing import TICKET_LENGTH
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.headers import FRONT_CHANNEL
from azure_auth.auth.web.origin import is_navigation, is_of_old_browser, is_post_of_ours
from azure_auth.auth.web.refusals import OTHER_ORIGIN, refusal
from azure_auth.errors import StoreUnavailable

_log = logging.getLogger(__name__)
_NO_STORE = {"Cache-Control": "no-store"}


def routes(sign_in: SignIn) -> list[Route]:
    """Return the routes, all of them public."""
    return [
        Route("/auth/sign-in", public(partial(_start, sign_in))),
        Route("/auth/session", public(partial(_session, sign_in)), methods=["POST"]),
        Route(FRONT_CHANNEL, public(partial(_end_by_directory, sign_in))),
    ]


async def _start(sign_in: SignIn, request: Request) -> Response:
    """Start a sign-in, or send a signed-in user straight to the page. Only a page opened in a tab may ask."""
    if not is_navigation(request.scope):
        return refusal(403, "Open this address in a tab.")
    led = await sign_in.begin(
        request.headers.getlist("cookie"),
        request.query_params.get("return_to", ""),
        tab=well_formed(request.query_params.get("tab", "")) or "",
        choose_account=request.query_params.get("prompt") == "select_account",
        address=client_address(request.scope, sign_in.settings.proxy_hops),
        old=is_of_old_browser(request.scope),
    )
    # The empty fragment stops the browser from carrying the fragment of the page on to the directory.
    leaves = not led.address.startswith(f"{sign_in.settings.public_url}/")
    return _setting(led.cookies, RedirectResponse(f"{led.address}#" if leaves else led.address, 303, _NO_STORE))


async def _session(sign_in: SignIn, request: Request) -> Response:
    """Exchange the ticket in the body for the session cookie; the answer's text is where the browser goes next.

    Only the app's own pages may ask. The ticket works only with its flow's cookie.
    """
    if not is_post_of_ours(request.scope, sign_in.settings.public_url):
        address = client_address(request.scope, sign_in.settings.proxy_hops)
        audit.record("suspicious", reason="a session asked for by another site", address=address)
        return OTHER_ORIGIN
    led = await sign_in.start_session(await _ticket(request), request.headers.getlist("cookie"))
    session_cookie = [sign_in.session_cookie.header(led.session_cookie)] if led.session_cookie else []
    return _setting([*led.cookies, *session_cookie], PlainTextResponse(led.address, headers=_NO_STORE))


async def _ticket(request: Request) -> str:
    """Return the body; empty if it is longer than a ticket."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > TICKET_LENGTH:
            return ""
    return body.decode("latin-1")


async def _end_by_directory(sign_in: SignIn, request: Request) -> Response:
    """Front-channel logout: end the local sessions that belong to Entra's `sid`.

    The request comes from an iframe, without cookies. The response is immediate, and the same whether or not the `sid`
    is known (OIDC Front-Channel Logout 1.0).
    """
    sids = request.query_params.getlist("sid")
    address = client_address(request.scope, sign_in.settings.proxy_hops)

    async def end() -> None:
        try:
            await sign_in.end_by_directory(sids[0] if len(sids) == 1 else "", address)
        except StoreUnavailable as failure:
            _log.error("a sign-out by the directory was lost: %s", failure)

    return Response(headers=_NO_STORE, background=BackgroundTask(end))


def _setting(cookies: Iterable[str], response: Response) -> Response:
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response
