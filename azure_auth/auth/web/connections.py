"""The ASGI side of the gate: who is on the other end of a request, and whether its endpoint is for them.

Everything from outside comes through here first. What is not public needs a session.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote, urlencode

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth import audit
from azure_auth.auth.cookies.cookie import cookie_name, pairs
from azure_auth.auth.policy import WHO
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web import endpoints, requests
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.endpoints import Endpoint
from azure_auth.auth.web.fetch_metadata import is_navigation, is_of_old_browser, is_post_of_ours
from azure_auth.auth.web.requests import NO_STORE, Body, Crowd, Share, unavailable
from azure_auth.auth.web.streams import Stream, Streams
from azure_auth.auth.web.websockets import Conversation
from azure_auth.bounds import (
    BODIES_OF_ADDRESS,
    BODIES_OF_STRANGERS,
    BODY_BYTES,
    BODY_SECONDS,
    PATH_CHARACTERS,
    REQUESTS_OF_ADDRESS,
    REQUESTS_OF_SESSION,
    REQUESTS_OF_STRANGERS,
    STRANGER_WEBSOCKET_SECONDS,
    TICKET_SECONDS,
    UPLOADS_OF_OWNER,
    WEBSOCKETS_OF_ADDRESS,
    WEBSOCKETS_OF_SESSION,
    WEBSOCKETS_OF_STRANGERS,
)
from azure_auth.errors import StoreUnavailable
from azure_auth.return_target import return_target

_EVENTS, _UPLOAD = "/_event", "/_upload"
_HEALTH = {"/ping", "/_health"}
_SAFE = {"GET", "HEAD", "OPTIONS"}
"""Methods that change nothing (RFC 9110, section 9.2.1)."""
_OF_QUERIES = "!$%&'()*+,-./:;=?@[]_~"
"""What stays as it is in a query; browsers leave more than that."""
_PREFIX = "azure_auth_"
"""How the names of the app's own cookies begin."""
_SOCKETS, _UPLOADS, _BUILT = "sockets", "uploads", "built"
"""What of Reflex answers."""
_CLOSED = Response(status_code=403)
Cookies = Sequence[bytes]


class TabConnections(Protocol):
    """The connections of Reflex's own client; the gate serves them."""

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a socket, from its handshake to its end."""
        ...

    async def upload(self, scope: Scope, receive: Receive, send: Send, held: Held | None) -> None:
        """Serve an upload of whoever has that session."""
        ...

    def takes_anonymous_upload(self, scope: Scope) -> bool:
        """Tell whether an upload is for a public handler."""
        ...


@dataclass(frozen=True)
class Site:
    """What there is to protect.

    Attributes:
        app: All of it, but for `own`.
        tabs: Serves the connections of Reflex's own client.
        own: The routes of sign-in, all of them public; they alone see the app's cookies.
        api: The developer's HTTP endpoints, and Reflex behind them.
        reflex: The route of `api` that leads to Reflex.
        is_built: Whether a path is a page or a file of the static build, which is public.
    """

    app: ASGIApp
    tabs: "TabConnections"
    own: Router
    api: Starlette
    reflex: BaseRoute
    is_built: Callable[[str], bool]


class Connections:
    """Lets a connection in as who it is, or refuses it before anything of it is read."""

    def __init__(self, site: Site, sign_in: SignIn) -> None:
        """Stand before `site`; `sign_in` knows sessions and cookies."""
        self._site, self._sign_in = site, sign_in
        self._settings = settings = sign_in.settings
        self._origins = {settings.public_url, *([settings.backend_url] if settings.demo else [])}
        self._prefix = cookie_name(_PREFIX, settings.public_url)
        self._streams = Streams(sign_in.sessions)
        self._crowd, self._bytes = Crowd(), Crowd()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._site.app(scope, receive, send)
        elif answer := _refused_unread(scope):
            await _refuse(answer, scope, receive, send)
        else:
            ours, others = requests.split_cookies(scope, self._prefix)
            scope = requests.with_cookies(scope, ours)
            answer = self._websocket if scope["type"] == "websocket" else self._http
            await answer(scope, others, receive, send)

    async def _http(self, scope: Scope, others: Cookies, receive: Receive, send: Send) -> None:
        endpoint = self._endpoint(scope)
        asked = self._as_who_asks(scope, endpoint)
        scope = asked or requests.with_cookies(scope, [])
        send = self._tidying(scope, send)
        if _is_preflight(scope):  # what Reflex answers by itself (CORS)
            await self._site.app(requests.with_cookies(scope, []), receive, send)
        elif asked is None:
            await PlainTextResponse("Only for the pages of this site.", 403, NO_STORE)(scope, receive, send)
        elif endpoint.what is _SOCKETS:
            await PlainTextResponse("For websockets.", 404, NO_STORE)(scope, receive, send)
        elif endpoint.what is _BUILT:
            await self._built(scope, receive, send)
        else:
            try:
                held = await self._held(scope, endpoint)
            except StoreUnavailable as failure:
                await unavailable(failure)(scope, receive, send)
                return
            if held is None and not endpoint.is_public:
                handler = getattr(endpoint.what, "__qualname__", "")
                why = "an HTTP path that needs a session"
                audit.record("refused", reason=why, address=self._address(scope), handler=handler)
                await self._to_sign_in(scope)(scope, receive, send)
            elif endpoint.methods:
                allow = {"Allow": ", ".join(endpoint.methods), **NO_STORE}
                await PlainTextResponse("This address takes no such method.", 405, allow)(scope, receive, send)
            else:
                with self._room(scope, endpoint, held) as room:
                    if room.take(1):
                        await self._answer(endpoint, held, scope, others, receive, send)
                    else:
                        self._note_crowd(scope)
                        await PlainTextResponse("Too many requests at once.", 429, NO_STORE)(scope, receive, send)

    async def _answer(
        self, endpoint: Endpoint, held: Held | None, scope: Scope, others: Cookies, receive: Receive, send: Send
    ) -> None:
        async def uploads(scope: Scope, receive: Receive, send: Send) -> None:
            await self._site.tabs.upload(scope, receive, send, held)

        is_upload, settings = endpoint.what is _UPLOADS, self._settings
        app = self._site.own if endpoint.is_own else uploads if is_upload else self._site.app
        is_form = (Headers(scope=scope).get("content-type") or "").startswith("multipart/")
        most = settings.upload_bytes if held and is_form else BODY_BYTES
        with self._bytes.room(self._most_bytes(scope, endpoint, held)) as share:
            app = Body(app, most, settings.upload_parts, share, TICKET_SECONDS if endpoint.is_own else BODY_SECONDS)
            if endpoint.is_own or is_upload:
                await app(scope, receive, send)
            else:
                await self._run(app, held, scope, others, receive, send)

    async def _websocket(self, scope: Scope, others: Cookies, receive: Receive, send: Send) -> None:
        endpoint = self._endpoint(scope)
        asked, held = self._as_who_asks(scope, endpoint), None
        if asked is None:
            await _refuse(_CLOSED, scope, receive, send)
            return
        scope = asked
        if endpoint.what is _SOCKETS:
            await self._site.tabs.connect(scope, receive, send)
            return
        with suppress(StoreUnavailable):
            held = await self._held(scope, endpoint)
        if held is None and not endpoint.is_public:
            audit.record("refused", reason="a websocket that needs a session", address=self._address(scope))
            await _refuse(_CLOSED, scope, receive, send)
            return
        with self._room(scope, endpoint, held) as room:
            if not room.take(1):
                self._note_crowd(scope)
                await _refuse(_CLOSED, scope, receive, send)
                return
            limit = asyncio.timeout(None if held else STRANGER_WEBSOCKET_SECONDS)
            try:
                async with limit:
                    await self._run(Conversation(self._site.app), held, scope, others, receive, send)
            except TimeoutError:
                if not limit.expired():
                    raise
                await send({"type": "websocket.close", "code": 1001})

    async def _run(
        self, app: ASGIApp, held: Held | None, scope: Scope, others: Cookies, receive: Receive, send: Send
    ) -> None:
        """Run an endpoint, which sees who asks, and cookies of others than this app."""
        scope = {**requests.with_cookies(scope, others), WHO: held.session.identity if held else None}
        if held:
            await self._stream(app, scope, receive, send, held)
        else:
            await app(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Endpoint:
        """Return what answers: sign-in itself, a developer's endpoint, or Reflex."""
        if own := endpoints.first(self._site.own.routes, scope):
            return replace(own, is_own=True)
        found = endpoints.find(self._site.api, scope, self._site.reflex)
        if found and not found.methods:
            return found
        return self._of_reflex(scope) or found or endpoints.UNKNOWN

    def _of_reflex(self, scope: Scope) -> Endpoint | None:
        path = scope["path"]
        if _is_below(_EVENTS, path):
            return Endpoint(_SOCKETS, is_public=True)
        if scope["type"] == "websocket":
            return None
        if path.rstrip("/") == _UPLOAD and scope["method"] == "POST":
            return Endpoint(_UPLOADS, is_public=self._site.tabs.takes_anonymous_upload(scope))
        if _is_below(_UPLOAD, path):
            return None  # also where a page takes every path (`[[...splat]]`)
        is_open = path in _HEALTH or (scope["method"] in ("GET", "HEAD") and self._site.is_built(path))
        return Endpoint(_BUILT, is_public=True) if is_open else None

    def _as_who_asks(self, scope: Scope, endpoint: Endpoint) -> Scope | None:
        """Return the scope, without cookies if a page of another origin may have sent them; None to refuse it.

        Such a page gets what anybody may read, and what is open to all origins. A client that is no browser names no
        origin (RFC 6454, 7.3); it needs no session cookie either.
        """
        nobodys = requests.with_cookies(scope, [])
        if endpoint.is_cross_origin:
            return nobodys
        is_unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE
        headers = Headers(scope=scope)
        if self._is_from_elsewhere(scope):
            if endpoint.is_public and not is_unsafe:
                return nobodys
        else:
            cookies = (name for name, _ in pairs(headers.getlist("cookie")))
            is_unnamed = "origin" not in headers and self._sign_in.session_cookie.name in cookies
            if not (is_unsafe and is_unnamed) or endpoint.what is _SOCKETS:
                return scope
        audit.record("suspicious", reason="a request from another origin", address=self._address(scope))
        return None

    def _is_from_elsewhere(self, scope: Scope) -> bool:
        """Tell whether a page of another origin sends this; opening a page by its link does not count."""
        headers = Headers(scope=scope)
        if origins := headers.getlist("origin"):
            return not set(origins) <= self._origins
        asked_by = headers.get("sec-fetch-site", "none")
        return asked_by not in ("same-origin", "none") and not (scope["type"] == "http" and is_navigation(scope))

    async def _held(self, scope: Scope, endpoint: Endpoint) -> Held | None:
        """Return the session that a request comes with.

        Raises:
            StoreUnavailable: When that cannot be told, and the endpoint is not public.
        """
        if endpoint.is_own:  # it asks by itself
            return None
        try:
            return await self._sign_in.session(Headers(scope=scope).getlist("cookie"))
        except StoreUnavailable:
            if endpoint.is_public:
                return None
            raise

    def _room(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Share]:
        """Return the room for one more of what goes on at once, with the limits of whom it is for."""
        owner = self._owner(scope, held)
        if endpoint.is_own:
            return self._crowd.room({("sign-in", owner): REQUESTS_OF_STRANGERS})
        if scope["type"] == "websocket":
            of_session, of_address, of_strangers = WEBSOCKETS_OF_SESSION, WEBSOCKETS_OF_ADDRESS, WEBSOCKETS_OF_STRANGERS
        else:
            of_session, of_address, of_strangers = REQUESTS_OF_SESSION, REQUESTS_OF_ADDRESS, REQUESTS_OF_STRANGERS
        kind = scope["type"]
        most: dict[Hashable, int] = {(kind, owner): of_session if held else of_address}
        if held is None:
            most[kind, "strangers"] = of_strangers
        if endpoint.what is _UPLOADS:
            most["upload", owner] = UPLOADS_OF_OWNER
        return self._crowd.room(most)

    def _most_bytes(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> dict[Hashable, int]:
        """Return how many bytes of bodies there may be at once, with whom they are counted for."""
        if endpoint.is_own:
            return {}  # it reads no more than a ticket
        if held:
            return {self._owner(scope, held): max(self._settings.upload_bytes, BODY_BYTES)}
        return {self._owner(scope, None): BODIES_OF_ADDRESS, "strangers": BODIES_OF_STRANGERS}

    def _owner(self, scope: Scope, held: Held | None) -> Hashable:
        return held.session.reference if held else ("address", self._address(scope))

    def _note_crowd(self, scope: Scope) -> None:
        audit.record("limited", reason="requests at once", address=self._address(scope))

    def _tidying(self, scope: Scope, send: Send) -> Send:
        """Wrap `send`, so that the response deletes flow cookies that are not needed any more."""
        if not (is_navigation(scope) or is_post_of_ours(scope, self._settings.public_url)):
            return send
        cookies = Headers(scope=scope).getlist("cookie")
        presented = self._sign_in.session_cookie.read(cookies)
        return _setting(self._sign_in.flow_cookies.tidied(cookies, presented, time.time()), send)

    async def _built(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page or a file. A browser that opens its first page gets a name, by which it is told from others."""
        cookies = Headers(scope=scope).getlist("cookie")
        if is_navigation(scope) and (name := (await self._sign_in.read_browser(cookies)).new_name):
            send = _setting([self._sign_in.browser_cookie.header(name)], send)
        await self._site.app(requests.with_cookies(scope, []), receive, send)

    async def _stream(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, held: Held) -> None:
        """Answer for a session, and no longer than it, or its cookie value, lasts.

        An answer that begins later is refused. One that says how long it is comes to its end; what does not, such as a
        websocket, is cut.
        """
        has_begun = False
        with self._streams.answering(held) as stream:

            async def send_on(message: Message) -> None:
                nonlocal has_begun
                if message["type"] == "http.response.start":
                    self._look(stream)
                    stream.endless = "content-length" not in Headers(raw=message["headers"])
                if stream.cut:
                    raise OSError("the session is over")
                has_begun = True
                await send(message)

            try:
                if scope["type"] == "websocket":
                    self._look(stream)
                await app(scope, receive, send_on)
                if stream.cut:
                    await asyncio.sleep(0)  # the cancellation may still be on its way
            except (asyncio.CancelledError, OSError):
                if not stream.cut:
                    raise
                stream.task.uncancel()
            if stream.cut and scope["type"] == "websocket":
                with suppress(Exception):  # whatever a server says of one that is closed already
                    await send({"type": "websocket.close", "code": 1008})
            elif stream.cut and not has_begun:
                await PlainTextResponse("Sign in first.", 401, NO_STORE)(scope, receive, send)

    def _look(self, stream: Stream) -> None:
        """Cut what has no end if its session is over."""
        stream.endless = True
        self._streams.stop_if_over(stream)

    def _address(self, scope: Scope) -> str:
        return client_address(scope, self._settings.proxy_hops)

    def _to_sign_in(self, scope: Scope) -> Response:
        """Send who wants to see a page to sign in; a script would get a page for its data, and is refused."""
        if is_navigation(scope) and not is_of_old_browser(scope):
            path, query = quote(scope["path"]), quote(scope["query_string"], safe=_OF_QUERIES)
            page = return_target(f"{path}?{query}" if query else path) or path
            # The empty fragment stops the browser from carrying the page's fragment on to the directory.
            return RedirectResponse(f"/auth/sign-in?{urlencode({'return_to': page})}#", 303, NO_STORE)
        return PlainTextResponse("Sign in first.", 401, NO_STORE)


def _refused_unread(scope: Scope) -> Response | None:
    """Refuse what is too long, or what no file system takes."""
    if len(scope["path"]) > PATH_CHARACTERS:
        return PlainTextResponse("There is no such address.", 414, NO_STORE)
    if "\0" in scope["path"]:
        return PlainTextResponse("There is no such address.", 400, NO_STORE)
    words = requests.too_much(scope)
    return PlainTextResponse(words, 431, NO_STORE) if words else None


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await answer(scope, receive, send)


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


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and {"origin", "access-control-request-method"} <= {*Headers(scope=scope)}


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
