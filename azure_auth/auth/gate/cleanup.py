"""Forgets the states of tabs that have left: with the session, or of an anonymous tab after a while."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from redis.exceptions import RedisError

from azure_auth.auth.gate.closing import REDIS_SECONDS, Closing
from azure_auth.auth.gate.links import LocalLinks
from azure_auth.auth.gate.states import LocalStates, SharedStates
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.bounds import STRANGER_STATE_SECONDS, STRANGERS
from azure_auth.errors import StoreUnavailable


class Cleanup:
    """Deletes states, unless the tab is connected to some worker."""

    def __init__(
        self, sessions: Sessions, tabs: Tabs, links: LocalLinks, states: LocalStates | SharedStates, closing: Closing
    ) -> None:
        """Delete states of these tabs."""
        self._sessions, self._tabs, self._links, self._closing = sessions, tabs, links, closing
        self.forget = states.forget
        self._left: dict[str, asyncio.TimerHandle] = {}

    async def note(self, tab: Tab) -> None:
        """Note a tab of a session, when it comes and when it leaves; forget what the session had too many of."""
        if tab.session:
            try:
                await self.forget_closed(await self._sessions.register_tab(tab.session, tab.state_key))
            except StoreUnavailable as failure:
                tab.store_error = failure

    def keep(self, key: str) -> None:
        """Keep the state of a tab that reconnects."""
        if timer := self._left.pop(key, None):
            timer.cancel()

    async def left(self, tab: Tab) -> None:
        """Forget the state of a tab that is gone: at once if its session has ended, an anonymous one after a while."""
        if tab.session is None:
            self.keep(tab.state_key)
            self._left[tab.state_key] = asyncio.get_running_loop().call_later(
                STRANGER_STATE_SECONDS, lambda: self._closing.soon(self._forget_left(tab.state_key))
            )
            if len(self._left) > STRANGERS:
                await self._forget_left(next(iter(self._left)))
        elif tab.session.ended:
            await self._forget_left(tab.state_key)
        elif not tab.store_error:
            await self.note(tab)

    async def _forget_left(self, key: str) -> None:
        self.keep(key)
        await self.forget_closed([key])

    async def forget_closed(self, keys: Iterable[str]) -> None:
        """Forget the states of tabs, given by their keys, that are connected to no worker."""
        with suppress(RedisError, TimeoutError):  # then they expire by themselves
            async with asyncio.timeout(REDIS_SECONDS):
                if closed := {key for key in keys if not await self._is_connected(key)}:
                    await self.forget(closed)

    async def _is_connected(self, key: str) -> bool:
        return self._tabs.at(key) is not None or await self._links.is_token_connected(key)
