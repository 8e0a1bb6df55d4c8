"""A browser tab as Reflex sees it, without a browser: cookies, a state, and what it was told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import reflex as rx
from conftest import APP, RunningDirectory
from jar import Jar
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext

from azure_auth.auth.core import Services, State, register, services
from azure_auth.auth.gate.tabs import Tab as Connection
from azure_auth.auth.gate.tabs import Tabs
from azure_auth.auth.sign_in import SignIn


class Tab:
    """A browser tab.

    Attributes:
        jar: The cookies of its browser.
        told: What the server last set in the browser alone.
        connection: As the server knows it.
    """

    def __init__(self):
        self.jar = Jar()
        self.told: dict[str, str] = {}
        self.connection: Connection | None = None
        self._trees: dict[str, rx.State] = {}
        self._connected: Any = None

    async def opens(self, address: str, handler: str = "", cookie: str | None = None) -> Any:
        """Load a page, and run one of its handlers."""
        if self._connected:
            self._connected.__exit__(None, None, None)
        headers = [cookie] if cookie is not None else self.jar.headers
        held, flows = await services().sign_in.session(headers), services().sign_in.flow_cookies.read(headers)
        self.connection = Connection.of("tab", held, flows, services().sign_in.browser(headers))
        parts = urlsplit(address)
        self.connection.answer = dict(parse_qsl(parts.query))
        self._connected = services().tabs.connected(self.connection)
        self._connected.__enter__()
        data = {
            "pathname": parts.path,
            "asPath": address,
            "query": {name: values[-1] for name, values in parse_qs(parts.query).items()},
            "headers": {"origin": APP},
            "ip": "127.0.0.1",
            "token": self.connection.state_key,
            "sid": "socket",
        }
        self.root.router_data = data
        self.root._update_router_vars(data, {})
        return await self.runs(handler) if handler else None

    async def runs(self, handler: str) -> Any:
        """Run a handler of the state, as after a click."""
        state = await self.root.get_state(State)
        self.told = {}
        with self._event():
            return await getattr(state, handler)()

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of its browser, by name."""
        return self.jar.cookies

    @property
    def root(self) -> rx.State:
        """The state tree under the key that the tab has now."""
        return self._trees.setdefault(self.connection.state_key, rx.State())

    @property
    def state(self) -> State:
        return self.root.get_substate(State.get_full_name().split("."))

    def wire(self) -> str:
        """All that the browser could be sent."""
        return json.dumps(self.root.dict(), default=str)

    @contextmanager
    def _event(self) -> Iterator[None]:
        async def emit(_: str, delta: dict[str, dict[str, str]]) -> None:
            for values in delta.values():
                self.told |= {name.removesuffix("_rx_state_"): value for name, value in values.items()}

        context = EventContext(
            token=self.connection.state_key,
            state_manager=None,
            enqueue_impl=None,
            emit_delta_impl=emit,
            parent_txid="load",
        )
        before = EventContext.set(context)
        try:
            yield
        finally:
            EventContext.reset(before)


async def sign_in_as(tab: Tab, directory: RunningDirectory, person: str, page: str = "/") -> str | None:
    """Go through a sign-in; return where it led, or None when it did not succeed."""
    uri = await tab.jar.begin(services().sign_in, page)
    answer = directory.answer(uri, person)
    return await finishes(tab, f"/callback?{urlencode(answer)}")


async def finishes(tab: Tab, address: str) -> str | None:
    """Open the callback, and fetch the session with the ticket that it gives, as the page does."""
    await tab.opens(address, "callback")
    if "ticket" not in tab.told:
        return None
    exchanged = await tab.jar.exchange(services().sign_in, tab.told["ticket"])
    assert exchanged.session_cookie
    led_to = exchanged.address
    await tab.opens(led_to.removeprefix(APP))
    return led_to.removeprefix(APP)


def open_tab() -> Tab:
    """A fresh tab; the services must be registered."""
    RegistrationContext.ensure_context()
    return Tab()


def registered(sign_in: SignIn) -> None:
    """Let states find this, as `install` does."""
    register(Services(sign_in, Tabs()))
