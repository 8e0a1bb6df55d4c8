"""Redirects pages to the public address, where alone cookies and sockets work."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from azure_auth.auth.cookies.cookie import cookie_name, pairs, set_cookie
from azure_auth.auth.web.origin import is_navigation
from azure_auth.auth.web.refusals import path_and_query
from azure_auth.settings import Settings

_MARK_SECONDS = 10
_OF_PROXIES = {"forwarded", "via", "x-real-ip"}


class PublicAddress:
    """Finds pages that were opened under another host name.

    A proxy may rewrite `Host`, so a configured proxy, or a proxy's header, turns the redirect off. Without either, a
    cookie stops a second redirect.
    """

    def __init__(self, settings: Settings) -> None:
        self._url, self._name = settings.public_url, urlsplit(settings.public_url).netloc
        self._mark = cookie_name("azure_auth_led", self._url)
        is_production = settings.backend_url == settings.public_url  # in development Vite serves the pages
        self._is_on = is_production and settings.proxy_hops == 0

    def redirect(self, scope: Scope) -> Response | None:
        """Return the redirect for a page that a browser opens under another name; otherwise None.

        A load balancer's probe also uses the machine's address, but does not ask for HTML. A redirect from `/callback`
        would repeat the code; Microsoft leads to the public address, so only a proxy can have rewritten that.
        """
        if scope["path"].strip("/") == "callback":
            return None
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not self._is_on or host in ("", self._name):
            return None
        if not is_navigation(scope) or "text/html" not in headers.get("accept", ""):
            return None
        if any(name in _OF_PROXIES or name.startswith("x-forwarded-") for name in headers):
            return None
        if any(name == self._mark for name, _ in pairs(headers.getlist("cookie"))):
            return None
        answer = RedirectResponse(f"{self._url}{path_and_query(scope)}", 303)
        answer.headers.append("set-cookie", set_cookie(self._mark, "1", _MARK_SECONDS, self._url))
        return answer
