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
from azure_auth.auth.web.room import Share
from azure_auth.bounds import BOUNDARY_BYTES, COOKIE_BYTES, HEADER_BYTES, PATH_CHARACTERS, SLOWEST_BYTES


def refused_unread(scope: Scope) -> Response | None:
    """Refuse a path or headers that are too long (431: RFC 6585, section 5), or a path that no file system takes."""
    if len(scope["path"]) > PATH_CHARACTERS:
        return refusal(414, "There is no such address.")
    if "\0" in scope["path"]:
        return refusal(400, "There is no such address.")
    words = too_much(scope)
    return refusal(431, words) if words else None


def too_much(scope: Scope) -> str:
    """Return what to tell a client whose headers are too long; empty if they are not."""
    cookies = sum(len(value) for name, value in scope["headers"] if name == b"cookie")
    if cookies > COOKIE_BYTES:
        return "Your browser sends too many cookies to this site. Delete those of this site and of its whole domain."
    if sum(len(name) + len(value) for name, value in scope["headers"]) - cookies > HEADER_BYTES:
        return "The headers of this request are too long."
    return ""


class Body:
    """Lets an app read the body of a request within limits; beyond them, refuses in the app's place."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_parts: int, share: Share, seconds: float) -> None:
        """Stand before `app`.

        Args:
            app: What answers.
            most_bytes: Maximum length of the body.
            most_parts: Maximum number of files and fields of a form (`multipart/form-data`); each may take memory.
            share: What the bodies of its sender take at once.
            seconds: How long the body may be waited for, and a second more for each `SLOWEST_BYTES`.
        """
        self._app, self._most_bytes, self._most_parts = app, most_bytes, most_parts
        self._share, self._seconds = share, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; by 413, 408 or 429 if its body is too long, too slow or one too many.

        An answer that has begun only ends.
        """
        reading = _Reading(receive, send, Headers(scope=scope), self._most_bytes)

        async def read() -> Message:
            if reading.is_over:
                return {"type": "http.disconnect"}
            if refusal := await self._refused(reading):
                return await reading.refuse(*refusal, scope)
            return reading.message

        with suppress(ClientDisconnect):  # a client that leaves is no error of an endpoint, and fills no log
            await self._app(scope, read, reading.send)

    async def _refused(self, reading: "_Reading") -> tuple[int, str] | None:
        """Read on; return why the request is refused."""
        too_long = 413, f"A request may have {self._most_bytes / 1_000_000:g} MB at most."
        if reading.is_declared_longer:
            return too_long
        if len(reading.boundary) > BOUNDARY_BYTES:
            return 400, "The boundary of this form is too long."
        try:
            more = await reading.read(self._seconds + reading.length / SLOWEST_BYTES)
        except TimeoutError:
            return 408, "This request took too long to arrive."
        if reading.length > self._most_bytes:
            return too_long
        if reading.parts > self._most_parts:
            return 413, f"A form may have {self._most_parts} files and fields at most."
        return None if self._share.take(more) else (429, "Too many long requests at once.")


class _Reading:
    """The body of one request, as it comes."""

    def __init__(self, receive: Receive, send: Send, headers: Headers, most_bytes: int) -> None:
        self._receive, self._send = receive, send
        kind, options = parse_options_header(headers.get("content-type"))
        self.boundary = options.get(b"boundary", b"") if kind.startswith(b"multipart/") else b""
        declared = headers.get("content-length", "")
        self.is_declared_longer = declared.isdecimal() and len(declared) < 20 and int(declared) > most_bytes
        self.message: Message = {}
        self.length, self._delimiters, self._tail = 0, 0, b"\r\n"
        self._waited = 0.0
        self._is_whole, self._is_answered, self.is_over = False, False, False

    @property
    def parts(self) -> int:
        """How many parts of a form have come; the last delimiter, which ends it, begins none."""
        return self._delimiters - 1

    async def read(self, most_seconds: float) -> int:
        """Take the next message; return how many bytes it has.

        Raises:
            TimeoutError: When so many seconds have been waited for the body in all.
        """
        if self._is_whole:
            self.message = await self._receive()  # which tells when the client leaves
            return 0
        began = time.monotonic()
        async with asyncio.timeout(most_seconds - self._waited):
            self.message = await self._receive()
        self._waited += time.monotonic() - began
        body = self.message.get("body", b"")
        self.length += len(body)
        self._is_whole = not self.message.get("more_body")
        if self.boundary:
            delimiter, seen = b"\r\n--" + self.boundary, self._tail + body
            self._delimiters += seen.count(delimiter)
            self._tail = seen[-len(delimiter) + 1 :]
        return len(body)

    async def send(self, message: Message) -> None:
        """Pass the app's answer on, unless it was refused in its place."""
        if not self.is_over:
            self._is_answered = True
            await self._send(message)

    async def refuse(self, status: int, words: str, scope: Scope) -> Message:
        """Answer in the app's place, and tell it that the client is gone."""
        self.is_over = True
        if not self._is_answered:
            await refusal(status, words, Connection="close")(scope, self._receive, self._send)
        return {"type": "http.disconnect"}
