"""A browser tab on the raw socket: what a page's script sends and receives, and whatever else one cares to send.

It renders nothing, follows nothing by itself and checks nothing, so an attacker's tab is made of it as well.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import websockets
from websockets.asyncio.client import ClientConnection

ROOT_STATE = "reflex___state____state"
APP_STATE = f"{ROOT_STATE}.azure_auth___auth___core____state"
HYDRATE = f"{ROOT_STATE}.hydrate_and_load"
ON_LOAD = f"{ROOT_STATE}.reflex___state____on_load_internal_state.on_load_internal"
_SUFFIX = "_rx_state_"
_open: "set[RawTab]" = set()
_closing: set[asyncio.Task[None]] = set()  # asyncio itself holds tasks only weakly


async def close_all() -> None:
    """Close every tab that is still open, and wait for all to be gone."""
    for tab in list(_open):
        await tab.close()
    await asyncio.gather(*_closing)


class RawTab:
    """One socket of one page.

    Attributes:
        sees: The state's variables by their bare names, as the deltas so far have left them.
        redirects: Where the server told the page to go, oldest first.
        updates: Every update as it came.
        new_token: What Reflex told the tab to call itself from now on.
        dismissed: Whether the server said goodbye first, so that a page's script would not connect again.
        ended: Set when the server closed the socket or the namespace, or the tab was closed.
    """

    def __init__(self, socket: ClientConnection, address: str) -> None:
        """Use `open`."""
        self.sees: dict[str, Any] = {}
        self.redirects: list[str] = []
        self.updates: list[dict[str, Any]] = []
        self.new_token = ""
        self.dismissed = False
        self.ended = asyncio.Event()
        self._socket = socket
        self._address = address
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls,
        app: str,
        address: str,
        *,
        token: str,
        cookie: str = "",
        origin: str | None = None,
        boot: bool = True,
        trust: ssl.SSLContext | None = None,
    ) -> "RawTab":
        """Open a page's socket, the way a page does once its script runs.

        Args:
            app: Where the app is, such as `http://localhost:3000`; on this machine.
            address: The page's path with its query.
            token: Reflex's client token.
            cookie: The Cookie header of the handshake.
            origin: The Origin header; the app's own when left out, none when empty.
            boot: Whether the event that loads the page goes with the handshake.
            trust: Whom to trust where the app is on https.

        Raises:
            websockets.InvalidStatus: When the server refuses the handshake.
        """
        scheme, port = urlsplit(app).scheme.replace("http", "ws", 1), urlsplit(app).port
        socket = await websockets.connect(
            f"{scheme}://localhost:{port}/_event/?EIO=4&transport=websocket&token={quote(token)}",
            host="127.0.0.1",  # loopback only, and no look-up
            port=port,
            origin=websockets.Origin(app if origin is None else origin) if origin != "" else None,
            additional_headers={"Cookie": cookie} if cookie else None,
            ssl=trust if scheme == "wss" else None,
            compression=None,
            proxy=None,
            ping_interval=None,  # Engine.IO has pings of its own
            max_size=None,
        )
        tab = cls(socket, address)
        _open.add(tab)
        # The browser also sends hashes of the defaults that it holds; without them the state comes whole.
        auth = {"event": tab._event(HYDRATE, {})} if boot else {}
        with suppress(websockets.ConnectionClosed):  # who waits for something hears of it, as of any later end
            await socket.send(f"40/_event,{json.dumps(auth)}")
        return tab

    async def send(self, name: str, payload: Mapping[str, Any] | None = None) -> None:
        """Send an event by the full name of its handler, with the address that the page is at."""
        await self.send_raw(f"42/_event,{json.dumps(['event', self._event(name, payload or {})])}")

    async def send_raw(self, text: str) -> None:
        """Send any text frame."""
        await self._socket.send(text)

    async def navigate(self, address: str) -> None:
        """Go to another page the way the client-side router does: on the same socket."""
        self._address = address
        self.sees["is_hydrated"] = False
        await self.send(ON_LOAD)

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until a condition holds; it is asked now and after each update.

        Raises:
            TimeoutError: When it does not hold in time.
            ConnectionError: When the socket ended first.
        """
        async with asyncio.timeout(seconds):
            while not condition():
                if self.ended.is_set():
                    raise ConnectionError("the socket ended")
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        """Leave the page; like a browser, without waiting for the server to agree."""
        _open.discard(self)
        if not self.ended.is_set():
            with suppress(websockets.ConnectionClosed):
                await self._socket.send("41/_event,")
        task = asyncio.create_task(self._socket.close())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    def _event(self, name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        parts = urlsplit(self._address)
        router: dict[str, Any] = {"pathname": parts.path, "asPath": self._address}
        if query := dict(parse_qsl(parts.query)):
            router["query"] = query
        return {"name": name, "payload": payload, "router_data": router}

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                if frame == "2":
                    await self._socket.send("3")
                elif frame.startswith("42/_event,"):
                    self._take(json.loads(frame[10:]))
                elif frame.startswith(("41", "44")):
                    self.dismissed = True
                    break
        except websockets.ConnectionClosed:
            pass
        self.ended.set()
        self._news.set()

    def _take(self, message: list[Any]) -> None:
        if message[0] == "new_token":
            self.new_token = message[1]
            self._news.set()
        if message[0] != "event":
            return
        self.updates.append(message[1])
        for variables in message[1].get("delta", {}).values():
            self.sees.update({name.removesuffix(_SUFFIX): value for name, value in variables.items()})
        for event in message[1].get("events", []):
            if event["name"] == "_redirect":
                self.redirects.append(event["payload"]["path"])
        self._news.set()
