"""What an HTTP request may cost: its headers, its body, and how many are answered at once."""

import asyncio
import time
from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Mapping
from contextlib import contextmanager, suppress

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from azure_auth.auth.cookies import pairs
from azure_auth.bounds import BODY_SECONDS, COOKIE_BYTES, HEADER_BYTES, OTHER_COOKIE_BYTES, SLOWEST_BYTES

NO_STORE = {"Cache-Control": "no-store"}


def too_much(scope: Scope) -> str:
    """Return what to tell a client whose headers are too long (431, RFC 6585, section 5); empty if they are not."""
    cookies = sum(len(value) for name, value in scope["headers"] if name == b"cookie")
    if cookies > COOKIE_BYTES:
        return "Your browser sends too many cookies to this site. Delete those of this site and of its whole domain."
    if sum(len(name) + len(value) for name, value in scope["headers"]) - cookies > HEADER_BYTES:
        return "The headers of this request are too long."
    return ""


def split_cookies(scope: Scope, prefix: str) -> tuple[list[bytes], list[bytes]]:
    """Return the request's cookies whose names begin with `prefix`, and all others, each as one header's value or none.

    Of the others there are none if they are longer than any site of ours would need: a sibling site can fill the jar.
    """
    found = list(pairs(Headers(scope=scope).getlist("cookie")))
    ours = "; ".join(f"{name}={value}" for name, value in found if name.startswith(prefix))
    others = "; ".join(f"{name}={value}" if value else name for name, value in found if not name.startswith(prefix))
    kept = [others.encode("latin-1")] if 0 < len(others) <= OTHER_COOKIE_BYTES else []
    return [ours.encode("latin-1")] if ours else [], kept


def with_cookies(scope: Scope, cookies: Iterable[bytes]) -> Scope:
    """Return the scope with these Cookie headers in place of its own."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": headers + [(b"cookie", value) for value in cookies]}


class Crowd:
    """Counts what is being answered, by whom it is for."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._now: Counter[Hashable] = Counter()

    @contextmanager
    def room(self, most: Mapping[Hashable, int]) -> Generator[bool]:
        """Count something under each of these names while it lasts; tell whether none is above its limit."""
        for name in most:
            self._now[name] += 1
        try:
            yield all(self._now[name] <= limit for name, limit in most.items())
        finally:
            for name in most:
                self._now[name] -= 1
                if not self._now[name]:
                    del self._now[name]


class Body:
    """Lets an app read the body of a request within limits; beyond them, refuses in the app's place."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_parts: int) -> None:
        """Stand before `app`.

        Args:
            app: What answers.
            most_bytes: Maximum length of the body.
            most_parts: Maximum number of files and fields of a form (`multipart/form-data`); each may take memory.
        """
        self._app, self._most_bytes, self._most_parts = app, most_bytes, most_parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: with 413 or 408 if its body is too long, or too slow, and no answer has begun yet."""
        reading = _Reading(scope, receive, send, self._most_bytes, self._most_parts)
        with suppress(ClientDisconnect):  # a client that leaves is no error of an endpoint, and fills no log
            await self._app(scope, reading.receive, reading.send)


class _Reading:
    """The body of one request, as it comes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most_bytes: int, most_parts: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._most_bytes, self._most_parts = most_bytes, most_parts
        kind, options = parse_options_header(Headers(scope=scope).get("content-type"))
        self._delimiter = b"\r\n--" + options.get(b"boundary", b"") if kind.startswith(b"multipart/") else b""
        self._tail, self._parts, self._length, self._began = b"\r\n", 0, 0, time.monotonic()
        self._is_whole, self._is_answered, self._is_refused = False, False, False
        declared = Headers(scope=scope).get("content-length", "")
        self._declared = int(declared) if declared.isdecimal() and len(declared) < 20 else 0

    async def receive(self) -> Message:
        if self._is_whole or self._is_refused:
            return {"type": "http.disconnect"} if self._is_refused else await self._receive()
        if self._declared > self._most_bytes:
            return await self._refuse_length()
        try:
            async with asyncio.timeout(self._began + BODY_SECONDS + self._length / SLOWEST_BYTES - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(408, "This request took too long to arrive.")
        body = message.get("body", b"")
        self._length += len(body)
        self._is_whole = not message.get("more_body")
        if self._length > self._most_bytes:
            return await self._refuse_length()
        if self._count_parts(body) > self._most_parts:
            return await self._refuse(413, f"A form may have {self._most_parts} files and fields at most.")
        return message

    async def send(self, message: Message) -> None:
        if not self._is_refused:
            self._is_answered = True
            await self._send(message)

    def _count_parts(self, body: bytes) -> int:
        """Return how many parts there are so far; the last delimiter, which ends the form, is not counted."""
        if self._delimiter:
            seen = self._tail + body
            self._parts += seen.count(self._delimiter)
            self._tail = seen[-len(self._delimiter) + 1 :]
        return self._parts - 1

    async def _refuse_length(self) -> Message:
        return await self._refuse(413, f"A request may have {self._most_bytes / 1_000_000:g} MB at most.")

    async def _refuse(self, status: int, words: str) -> Message:
        self._is_refused = True
        if not self._is_answered:
            await PlainTextResponse(words, status, NO_STORE | {"Connection": "close"})(
                self._scope, self._receive, self._send
            )
        return {"type": "http.disconnect"}
