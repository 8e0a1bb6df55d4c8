"""A browser tab as Reflex sees it, without a browser: cookies, a state, and what it was told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import reflex as rx
from conftest import APP, RunningDirectory
from reflex_base.event.context import EventContext
from reflex_base.registry import RegistrationContext

from azure_auth.auth.core import State
from azure_auth.auth.tabs import Tab as Connection

BROWSER = "b" * 43


class Tab:
    """A browser tab, with the cookies of its browser.

    Attributes:
        cookies: By name.
        told: What the server last set in the browser alone.
        connection: As the server knows it.
    """

    def __init__(self):
        self.cookies = {"azure_auth_flow": BROWSER}
        self.told: dict[str, str] = {}
        self.connection: Connection | None = None
        self._trees: dict[str, rx.State] = {}
        self._connected: Any = None

    async def opens(self, address: str, handler: str = "", cookie: str | None = None) -> Any:
        """Load a page, and run one of its handlers."""
        if self._connected:
            self._connected.__exit__(None, None, None)
        headers = [cookie if cookie is not None else "; ".join(f"{n}={v}" for n, v in self.cookies.items())]
        held, flow_cookie = await State.sign_in.session(headers), State.sign_in.flow_cookie.read(headers)
        self.connection = Connection.of("tab", held, flow_cookie, State.sign_in.browser(headers))
        parts = urlsplit(address)
        self.connection.answer = dict(parse_qsl(parts.query))
        self._connected = State.tabs.connected(self.connection)
        self._connected.__enter__()
        data = {
            "pathname": parts.path,
            "asPath": address,
            "query": {name: values[-1] for name, values in parse_qs(parts.query).items()},
            "headers": {"origin": APP},
            "ip": "127.0.0.1",
            "token": self.connection.key,
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
    def root(self) -> rx.State:
        """The state tree under the key that the tab has now."""
        return self._trees.setdefault(self.connection.key, rx.State())

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
            token=self.connection.key, state_manager=None, enqueue_impl=None, emit_delta_impl=emit, parent_txid="load"
        )
        before = EventContext.set(context)
        try:
            yield
        finally:
            EventContext.reset(before)


async def sign_in_as(tab: Tab, directory: RunningDirectory, person: str, page: str = "/") -> str | None:
    """Go through a sign-in; return where it led, or None when it did not succeed."""
    uri = await State.sign_in.begin(BROWSER, page)
    answer = directory.answer(uri, person)
    return await finishes(tab, f"/callback?{urlencode(answer)}")


async def finishes(tab: Tab, address: str) -> str | None:
    """Open the callback, and fetch the session with the ticket that it gives, as the page does."""
    await tab.opens(address, "callback")
    if "ticket" not in tab.told:
        return None
    headers = ["; ".join(f"{name}={value}" for name, value in tab.cookies.items())]
    exchanged = await State.sign_in.start_session(tab.told["ticket"], headers)
    assert exchanged.cookie
    tab.cookies["azure_auth_session"], led_to = exchanged.cookie, exchanged.address
    tab.cookies |= {"azure_auth_browser": exchanged.browser} if exchanged.browser else {}
    await tab.opens(led_to.removeprefix(APP))
    return led_to.removeprefix(APP)


def open_tab() -> Tab:
    """A fresh tab; `State.sign_in` and `State.tabs` must be set."""
    RegistrationContext.ensure_context()
    return Tab()
