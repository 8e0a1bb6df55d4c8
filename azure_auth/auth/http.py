"""The routes that sign-in needs besides the pages, and pages without redirects."""

from collections.abc import Callable

from reflex.utils.prerequisites import get_web_dir
from reflex_base.constants import Dirs
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth.auth.cookies import well_formed
from azure_auth.auth.gate import public
from azure_auth.auth.sign_in import SignIn

_NO_STORE = {"Cache-Control": "no-store"}
_TICKET_LENGTH = 43


def routes(sign_in: SignIn) -> list[Route]:
    """Return the routes, all of them public."""

    @public
    async def start(request: Request) -> Response:
        """Send the browser to the directory. Two tabs share the cookie, so neither's flow ends the other's."""
        browser = sign_in.browser(request.headers.getlist("cookie"))
        location = await sign_in.begin(
            browser,
            request.query_params.get("return_to", ""),
            tab=well_formed(request.query_params.get("tab", "")),
            choose_account=request.query_params.get("prompt") == "select_account",
        )
        response = RedirectResponse(location, 303, _NO_STORE)
        sign_in.flow_cookie.set(response, browser)
        return response

    @public
    async def session(request: Request) -> Response:
        """Exchange the ticket in the body for the session cookie; the answer's text is where the browser goes next.

        Only our own pages may ask, and only the browser that the sign-in was begun in has the ticket's cookie.
        """
        if request.headers.getlist("origin") != [sign_in.settings.public_url]:
            return PlainTextResponse("Only for the pages of this site.", 403, _NO_STORE)
        ticket = await _body(request)
        cookie, address = await sign_in.start_session(ticket, request.headers.getlist("cookie"))
        response = PlainTextResponse(address, headers=_NO_STORE)
        if cookie:
            sign_in.session_cookie.set(response, cookie)
        return response

    return [Route("/auth/sign-in", start), Route("/auth/session", session, methods=["POST"])]


async def _body(request: Request) -> str:
    """Read as much of a body as a ticket is long; what is longer is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _TICKET_LENGTH:
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


def is_built(path: str, is_page: Callable[[str], object]) -> bool:
    """Tell whether a path is a page, or a file of the static build."""
    if is_page(path) is not None:
        return True
    folder = get_web_dir() / Dirs.STATIC
    try:
        file = (folder / path.lstrip("/")).resolve()
        return file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # longer than names may be, or with a null character
        return False
