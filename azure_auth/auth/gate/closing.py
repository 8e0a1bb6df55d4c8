"""Ends connections of tabs, and forgets the states of tabs that have left."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

import reflex as rx
from redis.exceptions import RedisError

from azure_auth import bounds
from azure_auth.auth.gate.reflex_internals import path_of, server
from azure_auth.auth.gate.states import LocalStates, SharedStates
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.gate.token_managers import LocalTokens
from azure_auth.auth.gate.updates import Updates
from azure_auth.auth.sessions.background import Background, Timers, attempt
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.errors import StoreUnavailable

REDIS_SECONDS = 8.0
"""Timeout for Reflex's Redis; Reflex itself sets none."""


class Closing(Background):
    """Ends connections: told to leave, closed for good, or cut so that the page reconnects.

    Attributes:
        updates: What tabs are told.
    """

    def __init__(self, app: rx.App, tabs: Tabs, tokens: LocalTokens, updates: Updates) -> None:
        super().__init__()
        self._server, self._namespace = server(app), path_of(app)
        self._tabs, self._tokens, self.updates = tabs, tokens, updates

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in a task of its own."""
        self.start(attempt(work))

    async def send_away(self, tab: Tab, address: str) -> None:
        """Tell a tab to leave by a full navigation, then close its socket."""
        await self.updates.send(tab, self.updates.of(leaving_to=address))
        await self.dismiss(tab)

    async def dismiss(self, tab: Tab) -> None:
        """Close a tab's socket: tell the page not to reconnect, then cut the connection in case it does not obey."""
        if tab.socket:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._server.disconnect(tab.socket, namespace=self._namespace)
        tab.end()

    async def cut(self, tab: Tab) -> None:
        """Cut a tab's socket without telling the page, so that it reconnects at once, with its current cookie."""
        tab.end()
        self._tabs.let_go(tab)
        if key := self._tokens.sid_to_token.get(tab.socket):  # its page may be faster than the end of its socket
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(REDIS_SECONDS):
                    await self._tokens.disconnect_token(key, tab.socket)


class Cleanup:
    """Deletes the states of tabs that are connected to no worker: with the session, or an anonymous one after a while.

    Attributes:
        forget: Deletes the states under the keys of tabs, connected or not.
    """

    def __init__(
        self, sessions: Sessions, tabs: Tabs, tokens: LocalTokens, states: LocalStates | SharedStates, closing: Closing
    ) -> None:
        self._sessions, self._tabs, self._tokens = sessions, tabs, tokens
        self.forget = states.forget
        self._left = Timers[str](lambda key: closing.soon(self.forget_closed([key])))

    async def note(self, tab: Tab) -> None:
        """Note a tab of a session, when it comes and when it leaves; forget what the session had too many of."""
        if tab.session:
            try:
                await self.forget_closed(await self._sessions.register_tab(tab.session, tab.state_key))
            except StoreUnavailable as failure:
                tab.refusal = failure

    def keep(self, key: str) -> None:
        """Keep the state of a tab that reconnects."""
        self._left.cancel(key)

    async def left(self, tab: Tab) -> None:
        """Forget the state of a tab that is gone: at once if its session has ended, an anonymous one after a while."""
        if tab.session is None:
            self._left.set(tab.state_key, bounds.STRANGER_STATE_SECONDS)
            if len(self._left) > bounds.STRANGERS:
                self._left.cancel(oldest := next(iter(self._left)))
                await self.forget_closed([oldest])
        elif tab.session.ended:
            await self.forget_closed([tab.state_key])
        elif not tab.refusal:
            await self.note(tab)

    async def forget_closed(self, keys: Iterable[str]) -> None:
        """Forget the states of tabs, given by their keys, that are connected to no worker."""
        with suppress(RedisError, TimeoutError):  # then they expire by themselves
            async with asyncio.timeout(REDIS_SECONDS):
                if closed := {key for key in keys if not await self._is_connected(key)}:
                    await self.forget(closed)

    async def _is_connected(self, key: str) -> bool:
        return self._tabs.at(key) is not None or await self._tokens.is_token_connected(key)
