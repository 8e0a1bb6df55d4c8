"""What requests may cost: the path, headers and body of each, and how many there may be at once, and of whom."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth import bounds
from azure_auth.auth.sessions.session import Held
from azure_auth.auth.web.client_address import client_address
from azure_auth.auth.web.endpoints import Endpoint, Part
from azure_auth.auth.web.refusals import refusal
from azure_auth.settings import Settings

_MOST = {
    "http": (bounds.REQUESTS_OF_SESSION, bounds.REQUESTS_OF_ADDRESS, bounds.REQUESTS_OF_STRANGERS),
    "websocket": (bounds.WEBSOCKETS_OF_SESSION, bounds.WEBSOCKETS_OF_ADDRESS, bounds.WEBSOCKETS_OF_STRANGERS),
}
"""Connections at once, by type: of a session, of anonymous clients at one address, of all anonymous clients."""
Take = Callable[[int], bool]
"""Takes so much more of the room; tells whether all owners are within their maximum."""


def refused_unread(scope: Scope) -> Response | None:
    """Refuse a path that is too long or that no file system takes, and headers that are too long (RFC 6585, 5)."""
    if len(scope["path"]) > bounds.PATH_CHARACTERS:
        return refusal(414, "There is no such address.")
    if "\0" in scope["path"]:
        return refusal(400, "There is no such address.")
    cookies = sum(len(value) for name, value in scope["headers"] if name == b"cookie")
    if cookies > bounds.COOKIE_BYTES:
        return refusal(
            431, "Your browser sends too many cookies to this site. Delete those of this site and of its whole domain."
        )
    if sum(len(name) + len(value) for name, value in scope["headers"]) - cookies > bounds.HEADER_BYTES:
        return refusal(431, "The headers of this request are too long.")
    return None


class Body:
    """Lets an app read the body of one request within limits; beyond them, refuses the request in the app's place."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_parts: int, take: Take, seconds: float) -> None:
        """Wrap `app`.

        Args:
            app: The app that answers the request.
            most_bytes: Maximum length of the body.
            most_parts: Maximum number of files and fields of a form (`multipart/form-data`); each may take memory.
            take: Takes room for the bytes that are read.
            seconds: Timeout for the whole body; each `SLOWEST_BYTES` that arrive add a second.
        """
        self._app, self._most_bytes, self._most_parts = app, most_bytes, most_parts
        self._take, self._seconds = take, seconds
        self._boundary, self._is_declared_longer, self._is_whole = b"", False, False
        self._length, self._waited = 0, 0.0
        self._delimiters, self._tail = 0, b"\r\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, with 400, 408, 413 or 429 if its body goes beyond the limits.

        If the app's answer has already begun, it only ends.
        """
        headers, is_answered, is_refused = Headers(scope=scope), False, False
        kind, options = parse_options_header(headers.get("content-type"))
        self._boundary = options.get(b"boundary", b"") if kind.startswith(b"multipart/") else b""
        declared = headers.get("content-length", "")
        self._is_declared_longer = declared.isdecimal() and len(declared) < 20 and int(declared) > self._most_bytes

        async def read() -> Message:
            nonlocal is_refused
            if not is_refused:
                message = await self._read(receive)
                if not isinstance(message, tuple):
                    return message
                is_refused = True
                if not is_answered:
                    await refusal(*message, Connection="close")(scope, receive, send)
            return {"type": "http.disconnect"}

        async def send_on(message: Message) -> None:
            nonlocal is_answered
            if not is_refused:
                is_answered = True
                await send(message)

        with suppress(ClientDisconnect):  # a client that leaves is no error of an endpoint, and fills no log
            await self._app(scope, read, send_on)

    async def _read(self, receive: Receive) -> Message | tuple[int, str]:
        """Return the next message, or the status and text with which the request is refused."""
        if self._is_whole:
            return await receive()  # the client's disconnect
        too_long = 413, f"A request may have {self._most_bytes / 1_000_000:g} MB at most."
        if self._is_declared_longer:
            return too_long
        if len(self._boundary) > bounds.BOUNDARY_BYTES:
            return 400, "The boundary of this form is too long."
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds + self._length / bounds.SLOWEST_BYTES - self._waited):
                message = await receive()
        except TimeoutError:
            return 408, "This request took too long to arrive."
        self._waited += time.monotonic() - began
        body = message.get("body", b"")
        self._length += len(body)
        self._is_whole = not message.get("more_body")
        if self._length > self._most_bytes:
            return too_long
        if self._parts(body) > self._most_parts:
            return 413, f"A form may have {self._most_parts} files and fields at most."
        return message if self._take(len(body)) else (429, "Too many long requests at once.")

    def _parts(self, body: bytes) -> int:
        """Return how many parts of a form have come, these bytes included; its last delimiter begins no part."""
        if self._boundary:
            delimiter, seen = b"\r\n--" + self._boundary, self._tail + body
            self._delimiters += seen.count(delimiter)
            self._tail = seen[-len(delimiter) + 1 :]
        return self._delimiters - 1


class Crowd:
    """Counts what goes on at once, by owner."""

    def __init__(self) -> None:
        self._now: Counter[Hashable] = Counter()

    @contextmanager
    def room(self, most: Mapping[Hashable, int]) -> Generator[Take]:
        """Let one thing take room of each of these owners, up to their maximum, and give it all back at the end."""
        size = 0

        def take(more: int) -> bool:
            nonlocal size
            size += more
            for owner in most:
                self._now[owner] += more
                if not self._now[owner]:
                    del self._now[owner]
            return all(self._now[owner] <= maximum for owner, maximum in most.items())

        try:
            yield take
        finally:
            take(-size)


class Room:
    """The room that this process has for connections and bodies, for each owner: a session, or an address."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._crowd = settings, Crowd()

    def for_connection(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Take]:
        """Return the room for one more request or websocket."""
        owner, kind = self._owner(scope, held), scope["type"]
        if endpoint.what is Part.SIGN_IN:
            return self._crowd.room({("sign-in", owner): bounds.REQUESTS_OF_STRANGERS})
        of_session, of_address, of_strangers = _MOST[kind]
        most: dict[Hashable, int] = {(kind, owner): of_session if held else of_address}
        if held is None:
            most[kind, "strangers"] = of_strangers
        if endpoint.what is Part.UPLOADS:
            most["upload", owner] = bounds.UPLOADS_OF_OWNER
        return self._crowd.room(most)

    def for_body(self, scope: Scope, endpoint: Endpoint, held: Held | None) -> AbstractContextManager[Take]:
        """Return the room for the bytes of one more body."""
        owner = "bytes", self._owner(scope, held)
        most: dict[Hashable, int] = {}
        if held:
            most[owner] = max(self._settings.upload_bytes, bounds.BODY_BYTES)
        elif endpoint.what is not Part.SIGN_IN:  # sign-in reads no more than a ticket
            most = {owner: bounds.BODIES_OF_ADDRESS, ("bytes", "strangers"): bounds.BODIES_OF_STRANGERS}
        return self._crowd.room(most)

    def _owner(self, scope: Scope, held: Held | None) -> Hashable:
        return held.session.reference if held else ("address", client_address(scope, self._settings.proxy_hops))
