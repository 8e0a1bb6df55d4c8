"""The ASGI side of the gate: who is on the other end of a socket or a request, by its cookie alone.

No client token from outside reaches Reflex unchanged, and no cookie does at all. What is not public needs a session.
"""

import asyncio
import re
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from urllib.parse import parse_qsl, quote, urlencode
from weakref import WeakValueDictionary

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth import audit
from azure_auth.auth.addresses import client_address
from azure_auth.auth.frames import Frames
from azure_auth.auth.gate import TAB, Gate, is_public
from azure_auth.auth.limits import Pace, Paces
from azure_auth.auth.navigation import is_navigation, is_of_old_browser, is_post_of_ours
from azure_auth.auth.session import Held
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.tabs import Tab, Tabs
from azure_auth.bounds import OWNER, PATH_CHARACTERS, QUERY_BYTES
from azure_auth.errors import StoreUnavailable
from azure_auth.return_target import return_target

_CLIENT_TOKEN = re.compile(r"[0-9A-Za-z-]{1,64}")
_EVENTS, _UPLOAD = "/_event", "/_upload"
_HEALTH = {"/ping", "/_health"}
_TOKEN_HEADER = b"reflex-client-token"
_OF_QUERIES = "!$%&'()*+,-./:;=?@[]_~"
"""What stays as it is in a query; browsers leave more than that."""
_NO_STORE = {"Cache-Control": "no-store"}


class Doors:
    """Everything from outside comes through here first."""

    def __init__(
        self,
        app: ASGIApp,
        sign_in: SignIn,
        gate: Gate,
        tabs: Tabs,
        routes: Iterable[BaseRoute],
        is_built: Callable[[str], bool],
    ) -> None:
        """Stand before `app`.

        Args:
            app: All that there is to protect.
            sign_in: Knows sessions and cookies.
            gate: Dismisses strangers who stay too long.
            tabs: Where connections are made known.
            routes: The app's own HTTP routes, each with its mark if it is public.
            is_built: Whether a path is a page or a file of the static build, which is public.
        """
        self.app = app
        self._sign_in, self._gate, self._tabs = sign_in, gate, tabs
        self._routes, self._is_built = routes, is_built
        settings = sign_in.settings
        self._origins = {settings.public_url, *([settings.backend_url] if settings.demo else [])}
        self._paces: WeakValueDictionary[Hashable, Pace] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a connection in as who it is, or refuse it before anything of it is read."""
        path = scope.get("path", "")
        if len(path) > PATH_CHARACTERS or "\0" in path:
            await self._no_path(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            if self._is_foreign(scope):  # a stranger's, whatever cookies the browser adds
                scope = {**scope, "headers": _without_cookies(scope)}
            await self._request(scope, receive, self._tidying(scope, send))

    def _is_foreign(self, scope: Scope) -> bool:
        """Tell whether a page of another origin sends this. Who is no browser does not say so (RFC 6454, 7.3)."""
        return not set(Headers(scope=scope).getlist("origin")) <= self._origins

    def _suspect(self, scope: Scope) -> None:
        audit.record("suspicious", reason="a frame that no page sends", address=self._address(scope))

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._is_open(scope):
            await (self._callback if path.rstrip("/") == "/callback" else self.app)(scope, receive, send)
        elif _is_below(_EVENTS, scope["path"]):
            await PlainTextResponse("For websockets.", 404, _NO_STORE)(scope, receive, send)
        else:
            await self._closed(scope, receive, send)

    def _tidying(self, scope: Scope, send: Send) -> Send:
        """Wrap `send`, so that the response deletes flow cookies that are not needed any more."""
        if not (is_navigation(scope) or is_post_of_ours(scope, self._sign_in.settings.public_url)):
            return send
        cookies = Headers(scope=scope).getlist("cookie")
        presented = self._sign_in.session_cookie.read(cookies)
        return _setting(self._sign_in.flow_cookies.tidied(cookies, presented, time.time()), send)

    async def _callback(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the page to which the directory leads back; a browser that needs a name gets one with it."""
        name = (await self._sign_in.met(Headers(scope=scope).getlist("cookie"))).new_name
        named = [self._sign_in.browser_cookie.header(name)] if name else []
        await self.app(scope, receive, _setting(named, send))

    async def _no_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what is too long, or what no file system takes."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status = 414 if len(scope["path"]) > PATH_CHARACTERS else 400
            await PlainTextResponse("There is no such address.", status, _NO_STORE)(scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        tokens = _client_tokens(scope["query_string"])
        proper = _is_below(_EVENTS, scope["path"]) and len(tokens) == 1 and _CLIENT_TOKEN.fullmatch(tokens[0])
        if not proper or self._is_foreign(scope):
            why = "a socket from another origin" if proper else "a socket without a proper client token"
            audit.record("suspicious", reason=why, address=self._address(scope))
            await send({"type": "websocket.close", "code": 1008})
            return
        tab = self._tab(scope, tokens[0], None)
        try:
            if held := await self._session(scope):
                tab = self._tab(scope, tokens[0], held)
        except StoreUnavailable as failure:
            tab.trouble = failure
        others = [(n, v) for n, v in parse_qsl(scope["query_string"].decode("latin-1")) if n != "token"]
        query = urlencode([*others, ("token", tab.key)]).encode()
        tab.cut = asyncio.get_running_loop().create_future()
        tab.frames = Frames(receive, send, tab.cut, self._paces_of(tab), lambda: self._suspect(scope))
        if not self._gate.welcome(tab):
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            with self._tabs.connected(tab):
                if not tab.trouble:
                    await self._gate.note(tab)
                inner = {**scope, "query_string": query, "headers": _without_cookies(scope), TAB: tab}
                await self.app(inner, tab.frames.receive, tab.frames.send)
        finally:
            await asyncio.shield(self._gate.left(tab))
            tab.session = tab.frames = None  # Engine.IO leaves a cycle that has the tab, and garbage may lie for long

    def _paces_of(self, tab: Tab) -> Paces:
        owner = tab.session.identity.key if tab.session else tab.address
        shared: list[Pace] = []
        for length in ("short", "long"):
            if (pace := self._paces.get((length, owner))) is None:
                pace = self._paces[length, owner] = Pace(OWNER)
            shared.append(pace)
        return Paces(*shared)

    async def _closed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through with a session that stands; a stranger who wants to see a page goes to sign in."""
        try:
            held = await self._session(scope)
        except StoreUnavailable as failure:
            await _unavailable(failure)(scope, receive, send)
            return
        if held is None:
            audit.record("refused", reason="an HTTP path that needs a session", address=self._address(scope))
            await self._refusal(scope)(scope, receive, send)
        elif _is_below(_UPLOAD, scope["path"]) and scope["method"] == "POST":
            await self._upload(scope, receive, send, held)
        else:
            await self._stream(scope, receive, send, held)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, held: Held) -> None:
        """Answer a request. Without Content-Length, the response is cut when its session or cookie value ends."""
        with self._tabs.streaming(held) as stream:

            async def send_and_tell(message: Message) -> None:
                if message["type"] == "http.response.start":
                    stream.endless = "content-length" not in Headers(raw=message["headers"])
                    if stream.endless:
                        self._gate.stop_what_is_over(stream)
                await send(message)

            try:
                await self.app(scope, receive, send_and_tell)
            except asyncio.CancelledError:
                if not stream.cut:
                    raise
                stream.task.uncancel()

    async def _upload(self, scope: Scope, receive: Receive, send: Send, held: Held) -> None:
        tokens = Headers(scope=scope).getlist(_TOKEN_HEADER.decode())
        if len(tokens) != 1 or not _CLIENT_TOKEN.fullmatch(tokens[0]):
            await PlainTextResponse("One client token, please.", 400, _NO_STORE)(scope, receive, send)
            return
        tab = self._tab(scope, tokens[0], held)
        await self._gate.note(tab)
        if isinstance(tab.trouble, StoreUnavailable):
            await _unavailable(tab.trouble)(scope, receive, send)
            return
        headers = [(n, tab.key.encode() if n == _TOKEN_HEADER else v) for n, v in _without_cookies(scope)]
        with self._tabs.connected(tab, upload=True):
            await self.app({**scope, "headers": headers}, receive, send)

    async def _session(self, scope: Scope) -> Held | None:
        return await self._sign_in.session(Headers(scope=scope).getlist("cookie"))

    def _tab(self, scope: Scope, client_token: str, held: Held | None) -> Tab:
        cookies = Headers(scope=scope).getlist("cookie")
        tab = Tab.of(client_token, held, self._sign_in.flow_cookies.read(cookies), self._sign_in.browser(cookies))
        tab.address = self._address(scope)
        return tab

    def _address(self, scope: Scope) -> str:
        return client_address(scope, self._sign_in.settings.proxy_hops)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        if _is_below(_EVENTS, path) or _is_below(_UPLOAD, path):
            return False  # also where a page takes every path (`[[...splat]]`)
        for route in self._routes:
            if isinstance(route, Mount) and not route.path:
                continue  # Reflex itself
            match, found = route.matches(scope)
            if match is not Match.NONE:
                return is_public(found.get("endpoint"))
        return path in _HEALTH or (scope["method"] in ("GET", "HEAD") and self._is_built(path))

    def _refusal(self, scope: Scope) -> Response:
        if is_navigation(scope) and not is_of_old_browser(scope):  # a script of today would get a page for its data
            path, query = quote(scope["path"]), quote(scope["query_string"], safe=_OF_QUERIES)
            page = return_target(f"{path}?{query}" if query else path) or path
            # The empty fragment stops the browser from carrying the page's fragment on to the directory.
            return RedirectResponse(f"/auth/sign-in?{urlencode({'return_to': page})}#", 303, _NO_STORE)
        return PlainTextResponse("Sign in first.", 401, _NO_STORE)


def _setting(cookies: Sequence[str], send: Send) -> Send:
    """Wrap `send`, so that the response sets these cookies, but for those that it sets itself."""

    async def send_with_cookies(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            own = {cookie.partition("=")[0] for cookie in headers.getlist("set-cookie")}
            for cookie in cookies:
                if cookie.partition("=")[0] not in own:
                    headers.append("set-cookie", cookie)
        await send(message)

    return send_with_cookies


def _unavailable(failure: StoreUnavailable) -> Response:
    return PlainTextResponse(f"{failure.heading}.", 503, _NO_STORE)


def _client_tokens(query: bytes) -> list[str]:
    if len(query) > QUERY_BYTES:
        return []
    return [value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name == "token"]


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _without_cookies(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name != b"cookie"]
