"""Ends connections of tabs: told to leave, closed for good, or cut so that the page reconnects."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import reflex as rx
from redis.exceptions import RedisError

from azure_auth.auth.gate.links import LocalLinks
from azure_auth.auth.gate.reflex_internals import path_of, server
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.gate.updates import Updates

REDIS_SECONDS = 8.0
"""How long is waited for Reflex's Redis, for which Reflex itself sets no limit."""


class Closing:
    """Ends connections, also in tasks of their own."""

    def __init__(self, app: rx.App, tabs: Tabs, links: LocalLinks, updates: Updates) -> None:
        """End connections of these tabs."""
        self._server, self._namespace = server(app), path_of(app)
        self._tabs, self._links, self._updates = tabs, links, updates
        self.tasks: set[asyncio.Task[None]] = set()

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def send_away(self, tab: Tab, address: str) -> None:
        """Tell a tab to leave by a full navigation, then close its socket."""
        await self._updates.send(tab, self._updates.of(leaving_to=address))
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
        if key := self._links.sid_to_token.get(tab.socket):  # its page may be faster than the end of its socket
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(REDIS_SECONDS):
                    await self._links.disconnect_token(key, tab.socket)
