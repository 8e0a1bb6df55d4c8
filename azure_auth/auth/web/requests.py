"""What an HTTP request may cost: its path, its headers, its body."""

import asyncio
import time
from contextlib import suppress

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth.auth.web.refusals import refusal
from azure_auth.auth.web.room import Take
from azure_auth.bounds import BOUNDARY_BYTES, COOKIE_BYTES, HEADER_BYTES, PATH_CHARACTERS, SLOWEST_BYTES


def refused_unread(scope: Scope) -> Response | None:
    """Refuse a path that is too long or that no file system takes, and headers that are too long (RFC 6585, 5)."""
    if len(scope["path"]) > PATH_CHARACTERS:
        return refusal(414, "There is no such address.")
    if "\0" in scope["path"]:
        return refusal(400, "There is no such address.")
    cookies = sum(len(value) for name, value in scope["headers"] if name == b"cookie")
    if cookies > COOKIE_BYTES:
        return refusal(
            431, "Your browser sends too many cookies to this site. Delete those of this site and of its whole domain."
        )
    if sum(len(name) + len(value) for name, value in scope["headers"]) - cookies > HEADER_BYTES:
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
        if len(self._boundary) > BOUNDARY_BYTES:
            return 400, "The boundary of this form is too long."
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds + self._length / SLOWEST_BYTES - self._waited):
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
