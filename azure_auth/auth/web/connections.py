"""The outermost ASGI callable: admits each connection, or refuses it before anything of it is read.

Everything from outside comes through here first. What is not public needs a session.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth import audit, bounds
from azure_auth.auth.cookies.cookie import cookie_name, pairs
from azure_auth.auth.policy import WHO
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.endpoints import HEALTH, Endpoint, Part, Site
from azure_auth.auth.web.origin import OriginCheck, is_navigation, is_post_of_ours, with_cookies
from azure_auth.auth.web.public_address import PublicAddress
from azure_auth.auth.web.refusals import OTHER_ORIGIN, TOO_MANY, refusal, refuse, sign_in_first, unavailable
from azure_auth.auth.web.requests import Body, Room, refused_unread
from azure_auth.auth.web.streams import Conversation, Streams
from azure_auth.errors import StoreUnavailable

Cookies = Sequence[bytes]


class Connections:
    """Decides about each request and websocket by its endpoint, its origin, its session and the room that there is."""

    def __init__(self, site: Site, sign_in: SignIn) -> None:
        self._site, self._sign_in, self._settings = site, sign_in, sign_in.settings
        self._prefix = cookie_name("azure_auth_", sign_in.settings.public_url)  # of all the app's own cookies
        self._origin = OriginCheck(sign_in.settings, sign_in.session_cookie.name)
        self._streams = Streams(sign_in.sessions)
        self._room = Room(sign_in.settings)
        self._public_address = PublicAddress(sign_in.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._site.app(scope, receive, send)
        elif answer := refused_unread(scope):
            await refuse(answer, scope, receive, send)
        else:
            ours, others = split_cookies(scope, self._prefix)
            await self._decide(with_cookies(scope, ours), others, receive, send)

    async def _decide(self, scope: Scope, others: Cookies, receive: Receive, send: Send) -> None:
        endpoint = self._site.endpoint(scope)
        admitted = self._origin.admitted(scope, endpoint)
        if admitted is None:
            audit.record(
                "suspicious",
                reason="a request from another origin",
                detail=self._origin.compared(scope),
                address=self._address(scope),
            )
        scope = admitted or with_cookies(scope, [])
        send = self._tidying(scope, send)
        if _is_preflight(scope):  # Reflex answers it (CORS)
            await self._site.app(with_cookies(scope, []), receive, send)
        elif admitted is None:
            await refuse(OTHER_ORIGIN, scope, receive, send)
        elif endpoint.what is Part.SOCKETS:
            is_websocket = scope["type"] == "websocket"
            answer = self._site.tabs.connect if is_websocket else refusal(404, "For websockets.")
            await answer(scope, receive, send)
        elif endpoint.what is Part.BUILT:
            await self._built(scope, receive, send)
        else:
            await self._by_session(endpoint, scope, others, receive, send)

    async def _by_session(
        self, endpoint: Endpoint, scope: Scope, others: Cookies, receive: Receive, send: Send
    ) -> None:
        """Answer an endpoint's request if its session, or the lack of one, and the room allow that."""
        is_websocket, held = scope["type"] == "websocket", None
        if endpoint.what is not Part.SIGN_IN:  # sign-in looks for a session itself
            try:
                held = await self._sign_in.session(Headers(scope=scope).getlist("cookie"))
            except StoreUnavailable as failure:
                if not (endpoint.is_public or is_websocket):
                    await unavailable(failure)(scope, receive, send)
                    return
        if held is None and not endpoint.is_public:
            why = "a websocket that needs a session" if is_websocket else "an HTTP path that needs a session"
            handler = "" if is_websocket else getattr(endpoint.what, "__qualname__", "")
            audit.record("refused", reason=why, address=self._address(scope), handler=handler)
            await refuse(self._public_address.redirect(scope) or sign_in_first(scope), scope, receive, send)
        elif endpoint.methods:
            allow = ", ".join(endpoint.methods)
            await refuse(refusal(405, "This address takes no such method.", Allow=allow), scope, receive, send)
        else:
            with self._room.for_connection(scope, endpoint, held) as take:
                if not take(1):
                    audit.record("limited", reason="requests at once", address=self._address(scope))
                    await refuse(TOO_MANY, scope, receive, send)
                elif is_websocket:
                    await self._websocket(held, scope, others, receive, send)
                else:
                    await self._http(endpoint, held, scope, others, receive, send)

    async def _http(
        self, endpoint: Endpoint, held: Held | None, scope: Scope, others: Cookies, receive: Receive, send: Send
    ) -> None:
        is_form = Headers(scope=scope).get("content-type", "").startswith("multipart/")
        most = self._settings.upload_bytes if held and is_form else bounds.BODY_BYTES
        parts = self._settings.upload_parts
        with self._room.for_body(scope, endpoint, held) as take:
            body = partial(Body, most_bytes=most, most_parts=parts, take=take, seconds=bounds.BODY_SECONDS)
            if endpoint.what is Part.SIGN_IN:
                await body(self._site.own, seconds=bounds.TICKET_BODY_SECONDS)(scope, receive, send)
            elif endpoint.what is Part.UPLOADS:
                await body(partial(self._site.tabs.upload, held=held))(scope, receive, send)
            else:
                await self._run(body(self._site.app), held, scope, others, receive, send)

    async def _websocket(self, held: Held | None, scope: Scope, others: Cookies, receive: Receive, send: Send) -> None:
        limit = asyncio.timeout(None if held else bounds.STRANGER_WEBSOCKET_SECONDS)
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
        """Run an endpoint. It sees who asks, and the cookies of others than this app."""
        scope = {**with_cookies(scope, others), WHO: held.session.identity if held else None}
        if held:
            await self._streams.answer(app, held, scope, receive, send)
        else:
            await app(scope, receive, send)

    async def _built(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page or a file. The first page that a browser opens gives the browser its name."""
        if scope["path"] not in HEALTH and (elsewhere := self._public_address.redirect(scope)):
            await elsewhere(scope, receive, send)
            return
        cookies = Headers(scope=scope).getlist("cookie")
        if is_navigation(scope) and (name := (await self._sign_in.read_browser(cookies)).new_name):
            send = _setting_cookies([self._sign_in.browser_cookie.header(name)], send)
        await self._site.app(with_cookies(scope, []), receive, send)

    def _tidying(self, scope: Scope, send: Send) -> Send:
        """Wrap `send`, so that the answer to a page deletes the flow cookies that are not needed any more."""
        if not (is_navigation(scope) or is_post_of_ours(scope, self._settings.public_url)):
            return send
        cookies = Headers(scope=scope).getlist("cookie")
        presented = self._sign_in.session_cookie.read(cookies)
        return _setting_cookies(self._sign_in.flow_cookies.tidied(cookies, presented, self._sign_in.clock()), send)

    def _address(self, scope: Scope) -> str:
        return client_address(scope, self._settings.proxy_hops)


def _is_preflight(scope: Scope) -> bool:
    asked = {"origin", "access-control-request-method"}
    return scope.get("method") == "OPTIONS" and asked <= {*Headers(scope=scope)}


def split_cookies(scope: Scope, prefix: str) -> tuple[list[bytes], list[bytes]]:
    """Return the cookies whose names begin with `prefix`, and all others, each as the value of one header or none.

    The others are dropped if they are longer than any site of ours needs: a sibling site can fill the jar.
    """
    found = list(pairs(Headers(scope=scope).getlist("cookie")))
    ours = "; ".join(f"{name}={value}" for name, value in found if name.startswith(prefix))
    others = "; ".join(f"{name}={value}" if value else name for name, value in found if not name.startswith(prefix))
    kept = [others.encode("latin-1")] if 0 < len(others) <= bounds.OTHER_COOKIE_BYTES else []
    return [ours.encode("latin-1")] if ours else [], kept


def _setting_cookies(cookies: Sequence[str], send: Send) -> Send:
    """Wrap `send`, so that the answer sets these cookies, except those that it sets itself."""

    async def send_with_cookies(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            own = {cookie.partition("=")[0] for cookie in headers.getlist("set-cookie")}
            for cookie in cookies:
                if cookie.partition("=")[0] not in own:
                    headers.append("set-cookie", cookie)
        await send(message)

    return send_with_cookies
