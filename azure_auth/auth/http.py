"""The ASGI side: the route that starts a sign-in, the flow's cookie, and pages without redirects."""

import re
from collections.abc import Callable, Iterable
from secrets import token_urlsafe

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth.auth.flows import LIFETIME_SECONDS
from azure_auth.auth.sign_in import SignIn

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


def flow_cookie_name(public_url: str) -> str:
    """Return the name of the cookie that binds flows to a browser; on https no other host can set it (`__Host-`)."""
    return "__Host-azure_auth_flow" if public_url.startswith("https://") else "azure_auth_flow"


def read_cookie(headers: Iterable[str], name: str) -> str | None:
    """Return the value of one of our cookies, or None when it is absent, malformed or given more than once.

    Parsed by hand: `http.cookies.SimpleCookie` gives up on the whole header when a neighbour's cookie is odd.

    Args:
        headers: The values of the request's Cookie headers.
        name: The exact name.
    """
    pairs = (pair.strip(" \t").partition("=") for header in headers for pair in header.split(";"))
    values = [value for key, _, value in pairs if key == name]
    return well_formed(values[0]) if len(values) == 1 else None


def well_formed(value: str) -> str | None:
    """Return the value if it has the form of 256 bits in URL-safe base64, else None."""
    return value if _VALUE.fullmatch(value) else None


def routes(sign_in: SignIn) -> list[Route]:
    """Return the routes that sign-in needs besides the pages."""

    async def start(request: Request) -> Response:
        """Send the browser to the directory. Two tabs share the cookie, so neither's flow ends the other's."""
        public_url = sign_in.settings.public_url
        name = flow_cookie_name(public_url)
        browser = read_cookie(request.headers.getlist("cookie"), name) or token_urlsafe(32)
        location = await sign_in.begin(
            browser,
            request.query_params.get("return_to", ""),
            tab=well_formed(request.query_params.get("tab", "")),
            choose_account=request.query_params.get("prompt") == "select_account",
        )
        response = RedirectResponse(location, 303, {"Cache-Control": "no-store"})
        secure = public_url.startswith("https://")
        response.set_cookie(name, browser, LIFETIME_SECONDS, path="/", secure=secure, httponly=True, samesite="lax")
        return response

    return [Route("/auth/sign-in", start)]


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
