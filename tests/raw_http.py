"""HTTP/1.1 for a client that must weigh little beside the server it measures: kept connections, whole answers."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    location: str
    cookies: tuple[str, ...]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class RawHttp:
    """Asks addresses on this machine, over connections that all share."""

    def __init__(self, trusted: str) -> None:
        """Trust the certificates in the file `trusted`."""
        self.trust = ssl.create_default_context(cafile=trusted)
        self._idle: dict[str, list[_Connection]] = {}

    async def ask(
        self, method: str, url: str, *, cookie: str = "", form: Mapping[str, str] | str | None = None
    ) -> Answer:
        """Send one request and return its answer, redirects included; a form that is a text is a script's body.

        Raises:
            ConnectionError: When the server ends the connection before it answered.
        """
        parts = urlsplit(url)
        assert parts.hostname in ("localhost", "127.0.0.1"), url
        body = (form if isinstance(form, str) else urlencode(form or {})).encode()
        lines = [f"{method} {parts.path or '/'}{'?' if parts.query else ''}{parts.query} HTTP/1.1"]
        lines += [f"Host: {parts.netloc}", *([f"Cookie: {cookie}"] if cookie else [])]
        if method == "GET":
            lines += ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"]
        if form is not None:
            kind = "text/plain" if isinstance(form, str) else "application/x-www-form-urlencoded"
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
            lines += [f"Origin: {parts.scheme}://{parts.netloc}"]
        origin = f"{parts.scheme}://{parts.netloc}"
        reader, writer = await self._connection(origin)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            answer = await _read(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.setdefault(origin, []).append((reader, writer))
        return answer

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in [connection for connections in self._idle.values() for connection in connections]:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connection(self, origin: str) -> _Connection:
        idle = self._idle.get(origin, [])
        while idle:
            reader, writer = idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
        parts = urlsplit(origin)
        tls = {"ssl": self.trust, "server_hostname": parts.hostname} if parts.scheme == "https" else {}
        return await asyncio.open_connection("127.0.0.1", parts.port, **tls)


async def _read(reader: asyncio.StreamReader) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        raise ConnectionError("no answer") from None
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:])]
    headers = dict(fields)
    assert "transfer-encoding" not in headers, "only answers of known length are read"
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    cookies = tuple(value for name, value in fields if name == "set-cookie")
    return Answer(int(head[0].split(" ", 2)[1]), headers.get("location", ""), cookies, body)
