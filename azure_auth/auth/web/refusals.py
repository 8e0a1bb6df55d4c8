"""The answers that refuse a request or a websocket."""

from urllib.parse import quote, urlencode

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from azure_auth.auth.web.origin import is_navigation, is_of_old_browser
from azure_auth.errors import StoreUnavailable
from azure_auth.return_target import return_target

_QUERY_CHARACTERS = "!$%&'()*+,-./:;=?@[]_~"
"""What stays as it is in a query; browsers leave more than that."""


def refusal(status: int, words: str, **headers: str) -> PlainTextResponse:
    """Return an answer of plain text. No cache keeps it: `SecurityHeaders` says so."""
    return PlainTextResponse(words, status, headers)


OTHER_ORIGIN = refusal(403, "Only for the pages of this site.")
SIGN_IN_FIRST = refusal(401, "Sign in first.")
TOO_MANY = refusal(429, "Too many requests at once.")


async def refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request; close a websocket, which has no answer."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await answer(scope, receive, send)


def unavailable(failure: StoreUnavailable) -> PlainTextResponse:
    """Return the answer while the store cannot tell who is signed in."""
    return refusal(503, f"{failure.heading}.")


def path_and_query(scope: Scope) -> str:
    """Return the address of a request within its host, quoted."""
    path, query = quote(scope["path"]), quote(scope["query_string"], safe=_QUERY_CHARACTERS)
    return f"{path}?{query}" if query else path


def sign_in_first(scope: Scope) -> Response:
    """Return the answer to an anonymous request: a redirect to sign-in for a page in a tab, 401 for anything else."""
    if not is_navigation(scope) or is_of_old_browser(scope):
        return SIGN_IN_FIRST
    page = return_target(path_and_query(scope)) or quote(scope["path"])
    # The empty fragment stops the browser from carrying the page's fragment on to the directory.
    return RedirectResponse(f"/auth/sign-in?{urlencode({'return_to': page})}#", 303)
