"""The connections of Reflex's own client: the sockets of tabs, and their uploads.

No client token from outside reaches Reflex unchanged, and no cookie does at all.
"""

import asyncio
import re
from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from urllib.parse import parse_qsl, urlencode
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from azure_auth import audit
from azure_auth.auth.gate.frames import Frames
from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.messages import takes_files
from azure_auth.auth.gate.pacing import Pace, Paces
from azure_auth.auth.gate.reflex_internals import NAMED_HEADERS, registered
from azure_auth.auth.gate.tabs import SCOPE_KEY, Tab, Tabs
from azure_auth.auth.policy import is_public
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.refusals import refusal, unavailable
from azure_auth.bounds import OWNER, QUERY_BYTES, SOCKET_HEADER_BYTES
from azure_auth.errors import StoreUnavailable, whereabouts

_CLIENT_TOKEN = re.compile(r"[0-9A-Za-z-]{1,64}")
_VERSION = re.compile(r"[\w.+-]{1,32}")
_TOKEN_HEADER, _HANDLER_HEADER = b"reflex-client-token", b"reflex-event-handler"
_KEPT_HEADERS = {"x-forwarded-for", "sec-websocket-protocol", *NAMED_HEADERS} - {"cookie"}
"""The headers of a socket that reach Reflex."""


class Sockets:
    """Lets tabs in, each with the session of its cookie."""

    def __init__(self, app: ASGIApp, sign_in: SignIn, gate: Gate, tabs: Tabs) -> None:
        self._app, self._sign_in, self._gate, self._tabs = app, sign_in, gate, tabs
        self._paces: WeakValueDictionary[Hashable, Pace] = WeakValueDictionary()

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a socket, from its handshake to its end."""
        tokens = _client_tokens(scope["query_string"])
        headers = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") in _KEPT_HEADERS]
        if why := _fault(scope, tokens, headers):
            audit.record("suspicious", reason=why, address=client_address(scope, self._sign_in.settings.proxy_hops))
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            tab = self._tab(scope, tokens[0], await self._sign_in.session(Headers(scope=scope).getlist("cookie")))
        except StoreUnavailable as failure:
            tab = self._tab(scope, tokens[0], None)
            tab.refusal = failure
        others = [(n, v) for n, v in parse_qsl(scope["query_string"].decode("latin-1")) if n != "token"]
        query = urlencode([*others, ("token", tab.state_key)]).encode()
        tab.cut = asyncio.get_running_loop().create_future()
        suspect = partial(audit.record, "suspicious", reason="a frame that no page sends", address=tab.address)
        tab.frames = Frames(receive, send, tab.cut, self._paces_of(tab), suspect)
        if not self._gate.welcome(tab):
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            with self._tabs.connected(tab):
                if not tab.refusal:
                    await self._gate.cleanup.note(tab)
                inner = {**scope, "query_string": query, "headers": headers, SCOPE_KEY: tab}
                await self._app(inner, tab.frames.receive, tab.frames.send)
        finally:
            await asyncio.shield(self._gate.left(tab))
            # Engine.IO leaves a reference cycle with the tab and, from Python 3.12 on, this frame in it. Neither may
            # keep the session, or its data key would stay in memory until the next garbage collection.
            tab.session = tab.frames = None

    def takes_anonymous_upload(self, scope: Scope) -> bool:
        """Tell whether an upload is for a handler that is public."""
        with suppress(KeyError, UnicodeDecodeError):
            handler = _only(scope, _HANDLER_HEADER)
            return takes_files(handler) and is_public(registered(handler).handler.fn)
        return False

    async def upload(self, scope: Scope, receive: Receive, send: Send, held: Held | None) -> None:
        """Serve an upload, for the state of the tab that sends it."""
        token, handler = _only(scope, _TOKEN_HEADER), _only(scope, _HANDLER_HEADER)
        form = (Headers(scope=scope).get("content-type") or "").lower().startswith("multipart/form-data")
        if not (_CLIENT_TOKEN.fullmatch(token) and takes_files(handler) and form):
            await refusal(400, "This is no upload.")(scope, receive, send)
            return
        tab = self._tab(scope, token, held)
        await self._gate.cleanup.note(tab)
        if isinstance(tab.refusal, StoreUnavailable):
            await unavailable(tab.refusal)(scope, receive, send)
            return
        others = [(name, value) for name, value in scope["headers"] if name not in (_TOKEN_HEADER, b"cookie")]
        try:
            with self._tabs.connected(tab, upload=True):
                inner = {**scope, "headers": [*others, (_TOKEN_HEADER, tab.state_key.encode())]}
                await self._app(inner, receive, send)
        except Exception as broken:  # Reflex has answered; it raises for any form that it did not expect
            audit.record("suspicious", reason=f"an upload that failed: {whereabouts(broken)}", address=tab.address)
        finally:
            if held is None:
                await self._gate.left(tab)

    def _tab(self, scope: Scope, client_token: str, held: Held | None) -> Tab:
        cookies = Headers(scope=scope).getlist("cookie")
        tab = Tab.of(client_token, held, self._sign_in.flow_cookies.read(cookies), self._sign_in.browser(cookies))
        tab.address = client_address(scope, self._sign_in.settings.proxy_hops)
        return tab

    def _paces_of(self, tab: Tab) -> Paces:
        owner = tab.session.identity.key if tab.session else tab.address
        shared: list[Pace] = []
        for length in ("short", "long"):
            if (pace := self._paces.get((length, owner))) is None:
                pace = self._paces[length, owner] = Pace(OWNER)
            shared.append(pace)
        return Paces(*shared)


def _fault(scope: Scope, tokens: list[str], headers: list[tuple[bytes, bytes]]) -> str:
    """Return why a handshake is refused; empty if it is not."""
    if len(tokens) != 1 or not _CLIENT_TOKEN.fullmatch(tokens[0]):
        return "a socket without a proper client token"
    if sum(len(value) for _, value in headers) > SOCKET_HEADER_BYTES:
        return "a socket with too long headers"
    if not all(map(_VERSION.fullmatch, scope.get("subprotocols", ()))):
        return "a socket with another protocol"
    return ""


def _client_tokens(query: bytes) -> list[str]:
    if len(query) > QUERY_BYTES:
        return []
    return [value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name == "token"]


def _only(scope: Scope, name: bytes) -> str:
    """Return the value of a header; empty if it is missing or repeated."""
    values = Headers(scope=scope).getlist(name.decode())
    return values[0] if len(values) == 1 else ""
