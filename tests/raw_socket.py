"""A websocket by hand: any frame may be sent, and nothing is answered or read unless one says so (RFC 6455)."""

import asyncio
import os
from contextlib import suppress
from urllib.parse import quote

from raw_tab import HYDRATE

TEXT, BINARY = 1, 2


class RawSocket:
    """A connection to the app's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int) -> None:
        """Use `open`."""
        self.status = status
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, app: str, *, token: str, cookie: str = "", origin: str | None = None) -> "RawSocket":
        """Shake hands.

        Args:
            app: Where the app is; on this machine.
            token: Reflex's client token.
            cookie: The Cookie header.
            origin: The Origin header; the app's own when left out.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", int(app.rpartition(":")[2]))
        lines = [f"GET /_event/?EIO=4&transport=websocket&token={quote(token)} HTTP/1.1", "Host: localhost"]
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: {app if origin is None else origin}"]
        lines += [f"Cookie: {cookie}"] if cookie else []
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = int((await reader.readline())[9:12] or 0)
        while (await reader.readline()).strip():
            pass
        return cls(reader, writer, status)

    async def load(self, page: str) -> None:
        """Connect as a page does."""
        route = f'{{"pathname":"{page}","asPath":"{page}"}}'
        await self.send(f'40/_event,{{"event":{{"name":"{HYDRATE}","payload":{{}},"router_data":{route}}}}}')

    async def send(self, data: str | bytes) -> None:
        """Send one frame."""
        kind, body = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
        size = len(body)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 65_536 else b""
        self._writer.write(bytes([0x80 | kind]) + (length or b"\xff" + size.to_bytes(8)) + bytes(4) + body)
        await self._writer.drain()

    async def ends(self, seconds: float) -> bool:
        """Read whatever comes; tell whether the server ended the connection in time."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(seconds):
                while await self._reader.read(65_536):
                    pass
                return True
        return self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        """Be gone, without a word."""
        self._writer.transport.abort()


def new_token() -> str:
    """A client token that nobody has."""
    return os.urandom(8).hex()
