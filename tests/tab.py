"""A browser tab as Reflex sees it, without a browser."""

import json
from urllib.parse import parse_qs, urlencode, urlsplit

import reflex as rx
from conftest import APP, RunningDirectory
from reflex_base.registry import RegistrationContext

from azure_auth.auth.core import State

BROWSER = "b" * 43


class Tab:
    """A browser tab as Reflex sees it: a state tree, and router data that say where it is."""

    def __init__(self, root: rx.State, state: State):
        self.root, self.state = root, state

    def opens(self, address: str, cookie: str = f"azure_auth_flow={BROWSER}", token: str = "tab") -> State:
        parts = urlsplit(address)
        data = {
            "pathname": parts.path,
            "asPath": address,
            "query": {name: values[-1] for name, values in parse_qs(parts.query).items()},
            "headers": {"origin": APP, "cookie": cookie},
            "ip": "127.0.0.1",
            "token": token,
            "sid": "socket",
        }
        self.root.router_data = data
        self.root._update_router_vars(data, {})
        return self.state

    def wire(self) -> str:
        """All that the browser could be sent."""
        return json.dumps(self.root.dict(), default=str)


async def sign_in_as(tab: Tab, directory: RunningDirectory, person: str, page: str = "/") -> rx.event.EventSpec | None:
    """Go through a sign-in up to and including the callback."""
    uri = await State.sign_in.begin(BROWSER, page)
    answer = directory.answer(uri, person)
    return await tab.opens(f"/callback?{urlencode(answer)}").callback()


async def open_tab() -> Tab:
    """A fresh tab; `State.sign_in` must be set."""
    RegistrationContext.ensure_context()
    root = rx.State()
    return Tab(root, await root.get_state(State))
