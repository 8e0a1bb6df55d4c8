"""What the gate costs an event, and a session its store and memory: in process, with no socket in between."""

import asyncio
import gc
import random
import sqlite3
import time
import tracemalloc
from contextlib import ExitStack, closing
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import reflex as rx
from conftest import KEYS
from reflex.state import StateUpdate
from reflex_base.event import Event
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext

from azure_auth.auth.core import State
from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.reflex_internals import EventNamespace
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import Start, Started
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.settings import Settings

OPENED = 1_000
"""How many sessions have a tab open, if there are as many; events come from these at random."""
_BATCH = 100
_INSERT = "INSERT INTO sessions (reference, version, ends, person, sid, browser, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)"
_HANDLE = "INSERT INTO handles (name, reference, sealed, until) VALUES (?, ?, ?, ?)"
_HANDLER = f"{State.get_full_name()}.logout"
_UPDATE = StateUpdate(delta={State.get_full_name(): {"check_auth_rx_state_": True}})
_WHERE = {"pathname": "/", "asPath": "/"}


class Crowd:
    """Sessions in a store of their own, some of them with a tab open, and a gate before those.

    Attributes:
        size: How many sessions there are.
        file_bytes: What one of them takes of the store's file.
        memory_bytes: What one with its tab open takes of this process's memory.
        events: Seconds that each event waited for the gate, on its way in and on its way out.
        writing: The same of events that the store hears of, as it does once a minute.
        handshakes: Seconds until the session of a cookie was found that nobody had open.
    """

    def __init__(self, size: int, path: Path, settings: Settings) -> None:
        """Let there be `size` sessions in the file `path`, once `gather` has run."""
        self.size = size
        self.file_bytes = self.memory_bytes = 0.0
        self.events: list[float] = []
        self.writing: list[float] = []
        self.handshakes: list[float] = []
        self._path = path
        self._settings = settings
        self._store = EmbeddedStore(path)
        self._sessions = Sessions(self._store, self._settings, KEYS)
        self._tabs = Tabs()
        self._open: list[Tab] = []
        self._connections = ExitStack()
        RegistrationContext.set(RegistrationContext.ensure_context().fork())  # one app in each, says Reflex
        self._app = rx.App()
        EventNamespace.on_event = EventNamespace.emit_update = _nothing  # what Reflex does behind it is not measured
        self._app._event_processor = SimpleNamespace(_futures={})
        self._gate = Gate(self._app, self._sessions, self._tabs, State, lambda *_: "/")

    async def gather(self) -> None:
        """Start all sessions, those that nobody will open in one transaction; open a tab of each of the others."""
        opened = min(self.size, OPENED)
        self._cookies = [await self._sessions.start(somebody(n), f"browser {n}", None) for n in range(opened)]
        gathering = _Gathering(self._path)
        absent = Sessions(gathering, self._settings, KEYS)
        for number in range(opened, self.size):
            await absent.start(somebody(number), f"browser {number}", None)
        with closing(sqlite3.connect(self._path)) as db:
            with db:
                db.executemany(_INSERT, [astuple(start.record) for start in gathering.starts])
                handles = [
                    (s.handle.name, s.record.reference, s.handle.sealed, s.record.ends) for s in gathering.starts
                ]
                db.executemany(_HANDLE, handles)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.file_bytes = self._path.stat().st_size / self.size
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await self._connect()
        gc.collect()
        self.memory_bytes = (tracemalloc.get_traced_memory()[0] - before) / opened
        tracemalloc.stop()

    async def measure(self, count: int) -> None:
        """Let people send `count` events, some of them after a minute in which they sent none, and others come in."""
        visitors = Sessions(self._store, self._settings, KEYS)  # of a process where nobody has a session open
        for number in range(count):
            tab = random.choice(self._open)
            self.events.append(await asyncio.create_task(self._event(tab)))
            if number % 10 == 0:
                tab.session.last_saved = 0.0
                self.writing.append(await asyncio.create_task(self._event(tab)))
                cookie = random.choice(self._cookies)
                start = time.perf_counter()
                session = await visitors.find(cookie)
                self.handshakes.append(time.perf_counter() - start)
                assert session

    async def close(self) -> None:
        """Let go of tabs and store."""
        self._connections.close()
        await self._store.close()

    async def _connect(self) -> None:
        for number, cookie in enumerate(self._cookies):
            tab = Tab.of(f"tab-{number}", await self._sessions.find(cookie))
            self._connections.enter_context(self._tabs.connected(tab))
            self._app.event_namespace.sid_to_token[tab.stable_id] = tab.state_key
            self._tabs.bind(tab, tab.stable_id)
            self._open.append(tab)

    async def _event(self, tab: Tab) -> float:
        """Pass one event and its update, in a task of its own, as each has one in Reflex; return the seconds."""
        message = {"name": _HANDLER, "payload": {}, "router_data": _WHERE}
        router_data = {**_WHERE, "sid": tab.stable_id}
        EventContext.set(
            EventContext(token=tab.state_key, state_manager=None, enqueue_impl=None, router_data=router_data)
        )
        event = Event(name=_HANDLER)
        start = time.perf_counter()
        await self._gate.namespace.on_event(tab.stable_id, message)
        answer = await self._gate.events.preprocess(self._app, None, event)
        await self._gate.namespace.emit_update(_UPDATE, tab.state_key)
        seconds = time.perf_counter() - start
        assert answer is None, answer
        return seconds


async def crowds(folder: Path, sizes: tuple[int, ...], events: int, settings: Settings) -> list[Crowd]:
    """Measure crowds of these sizes, in turns: what changes meanwhile, on the machine too, meets all."""
    measured = [Crowd(size, folder / f"{size}.sqlite", settings) for size in sizes]
    for crowd in measured:
        await crowd.gather()
    gc.collect()
    gc.freeze()  # as the app does at its start
    for _ in range(events // _BATCH):
        for crowd in measured:
            await crowd.measure(_BATCH)
    for crowd in measured:
        await crowd.close()
    gc.unfreeze()
    return measured


class _Gathering(EmbeddedStore):
    """Takes records, sealed as they are, to be written all at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.starts: list[Start] = []

    async def start(self, start: Start) -> Started:
        """Take a session."""
        self.starts.append(start)
        return Started()


def somebody(number: int) -> Identity:
    """Return a person whose fields are as long as Entra's."""
    tenant, oid = "c0ffee00-0000-4000-8000-00000000cafe", f"ada00000-0000-4000-8000-{number:012}"
    return Identity(
        tenant, oid, f"Ada Lovelace {number}", f"ada.lovelace.{number}@contoso.example", "O." + "h" * 150, oid
    )


async def _nothing(*_: object) -> None:
    pass
