"""A gate of a real app, and pages at the other end of its real socket server; only the network is missing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import reflex as rx
from raw_tab import HYDRATE
from reflex.app import EngineIOApp
from reflex.state import StateUpdate
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext

from azure_auth.auth.core import State
from azure_auth.auth.gate.frames import Frames
from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.pacing import Pace, Paces
from azure_auth.auth.gate.tabs import SCOPE_KEY, Tab, Tabs
from azure_auth.bounds import OWNER


class Alive:
    """The frames of a socket whose client answers, or does not."""

    is_sending = False

    def __init__(self, *, answering: bool = True) -> None:
        self.answering, self.held, self.outgoing = answering, [], None

    async def answers(self, _: float) -> bool:
        return self.answering

    def hold(self, work: object) -> None:
        self.held.append(work)


class Standing(SimpleNamespace):
    """A session."""

    __hash__ = object.__hash__


class Noting:
    """Sessions that note which tabs they are told of."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.on_end, self.on_outdated = [], []

    async def register_tab(self, _: object, key: str) -> list[str]:
        self.noted.append(key)
        return []

    def is_over(self, _: str) -> bool:
        return False

    async def is_active(self, *_: object) -> bool:
        return True

    async def touch(self, _: object) -> None:
        pass


class Handlers(rx.Middleware):
    """Asked after the gate: notes which events came to their handlers, by socket and page, and answers for them."""

    def __init__(self) -> None:
        self.passed: list[tuple[str, str]] = []

    async def preprocess(self, **_: object) -> StateUpdate:
        where = EventContext.get().router_data
        self.passed.append((where["sid"], where["asPath"]))
        return StateUpdate()


def gate_of(tabs: Tabs, sessions: object = None) -> Gate:
    """A gate of an app of its own."""
    before = RegistrationContext.set(RegistrationContext.ensure_context().fork())  # one app in each, says Reflex
    try:
        app = rx.App()
        app._enable_state()
        return Gate(app, sessions or Noting(), tabs, State, lambda *_: "/")
    finally:
        RegistrationContext.reset(before)


@asynccontextmanager
async def running_gate(tabs: Tabs) -> AsyncIterator[tuple[Gate, list[tuple[str, str]]]]:
    """A gate whose app takes events while the block lasts, and which of them came to their handlers."""
    gate, handlers = gate_of(tabs), Handlers()
    app = gate.namespace.app
    app.add_middleware(handlers, index=1)
    async with app._setup_event_processor():
        yield gate, handlers.passed
    await app.state_manager.close()


def of_ada(key: str, *, answering: bool = True) -> Tab:
    """A tab of a session that stands."""
    session = Standing(reference="ada", ended=None, identity=SimpleNamespace(key=("tid", "oid")))
    cut = asyncio.get_running_loop().create_future()
    return Tab(key, "id", session, cut=cut, frames=Alive(answering=answering))


def loading(path: str) -> dict[str, Any]:
    """The event that loads a page."""
    return {"name": HYDRATE, "payload": {}, "router_data": {"pathname": path, "asPath": path}}


class MemoryPage:
    """A page of Ada's, connected while the block lasts.

    Attributes:
        tab: As the server knows it.
        heard: What it was sent, as the name and the data of each message.
    """

    def __init__(self, gate: Gate, tabs: Tabs, key: str = "key", *, answering: bool = True) -> None:
        self.tab = of_ada(key)
        self.heard: list[tuple[str, Any]] = []
        self._gate, self._answering = gate, answering
        self._connected = tabs.connected(self.tab)
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._idle = asyncio.Event()
        paces = Paces(Pace(OWNER), Pace(OWNER))
        self.tab.frames = Frames(self._receive, self._send, self.tab.cut, paces, self._idle.set)
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "MemoryPage":
        self._connected.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        if self._serving:
            await asyncio.wait_for(self._serving, 5)
        self._connected.__exit__(None, None, None)
        await self._gate.left(self.tab)

    async def loads(self, path: str) -> None:
        """Connect, and load the page at a path."""
        await self.connects(json.dumps({"event": loading(path)}))

    async def connects(self, auth: str) -> None:
        """Shake hands, and send Socket.IO's first packet with this in it."""
        query = f"EIO=4&transport=websocket&token={self.tab.state_key}".encode()
        headers = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": query,
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }
        app = EngineIOApp(self._gate.namespace.app.sio, socketio_path="")
        frames = self.tab.frames
        self._incoming.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.create_task(app({**scope, SCOPE_KEY: self.tab}, self._first(frames), frames.send))
        await self.sends(f"40/_event,{auth}")

    async def sends(self, frame: str) -> None:
        """Send a frame, and wait until the server is through with it: it waits for the next, or has ended."""
        self._idle.clear()
        self._incoming.put_nowait({"type": "websocket.receive", "text": frame})
        idle = asyncio.create_task(self._idle.wait())
        await asyncio.wait({idle, self._serving}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        await self._gate.namespace.app.event_processor.join(5)
        idle.cancel()
        with suppress(asyncio.CancelledError):
            await idle

    def _first(self, frames: Frames) -> Any:
        """Give the server the handshake as it is, and all that follows through the frames."""
        shaken = False

        async def receive() -> dict[str, Any]:
            nonlocal shaken
            if shaken:
                return await frames.receive()
            shaken = True
            return await self._incoming.get()

        return receive

    async def _receive(self) -> dict[str, Any]:
        if self._incoming.empty():
            self._idle.set()
        return await self._incoming.get()

    async def _send(self, message: dict[str, Any]) -> None:
        text = message.get("text") or ""
        if text == "2" and self._answering:
            self._incoming.put_nowait({"type": "websocket.receive", "text": "3"})
        if text.startswith("42/_event,"):
            name, data = json.loads(text.removeprefix("42/_event,"))
            self.heard.append((name, data))
