"""How many connections of tabs there may be, how long they last, and how long their states last after them."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from itertools import repeat
from typing import Any

import reflex as rx
from redis.exceptions import RedisError

from azure_auth import audit, bounds
from azure_auth.auth.gate.reflex_internals import path_of, server
from azure_auth.auth.gate.states import LocalStates, SharedStates
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.gate.token_managers import LocalTokens
from azure_auth.auth.gate.updates import Updates
from azure_auth.auth.sessions.background import Background, Timers, attempt
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.errors import StoreUnavailable, TooManyTabs

REDIS_SECONDS = 8.0
"""Timeout for Reflex's Redis; Reflex itself sets none."""


class Closing(Background):
    """Ends connections: told to leave, closed for good, or cut so that the page reconnects."""

    def __init__(self, app: rx.App, tabs: Tabs, tokens: LocalTokens, updates: Updates) -> None:
        super().__init__()
        self._server, self._namespace = server(app), path_of(app)
        self._tabs, self._tokens, self.updates = tabs, tokens, updates

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in a task of its own; what it raises is logged."""
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
    """Deletes states of tabs that are connected to no worker: with the session, or an anonymous one after a while."""

    def __init__(
        self, sessions: Sessions, tabs: Tabs, tokens: LocalTokens, states: LocalStates | SharedStates, closing: Closing
    ) -> None:
        self._sessions, self._tabs, self._tokens = sessions, tabs, tokens
        self.forget = states.forget  # also of tabs that are connected
        self._left = Timers[str](closing, lambda key: self.forget_closed([key]))

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


class Admission:
    """Lets sockets in, and closes those that do not answer or have had their time."""

    def __init__(self, tabs: Tabs, closing: Closing) -> None:
        self._tabs, self._closing = tabs, closing

    def admit(self, tab: Tab) -> bool:
        """Tell whether there is room for a socket.

        A session's newest tab is the one that is refused. Among anonymous tabs the oldest one goes, at the latest after
        `STRANGER_SECONDS`: a public page needs no socket once it is loaded, because its links are plain ones.
        """
        return self._has_room(tab, tab.session) if tab.session else self._makes_room(tab)

    def _has_room(self, tab: Tab, session: Session) -> bool:
        sockets = [other for other in self._tabs.of(session) if other.frames]
        others = {other.state_key for other in sockets} - {tab.state_key}
        loop = asyncio.get_running_loop()
        if len(others) < bounds.SESSION_TABS and len(sockets) < bounds.SESSION_SOCKETS:
            tab.timer = loop.create_task(self._attend(tab, bounds.TAB_ANSWER_SECONDS))
            return True
        audit.record("limited", person=session.identity.key, reason="sockets of a session", address=tab.address)
        if len(sockets) >= bounds.SESSION_SOCKETS:
            return False
        tab.refusal = TooManyTabs()
        tab.timer = loop.call_later(bounds.GONE_SECONDS, lambda: self._closing.soon(self._closing.dismiss(tab)))
        return True

    def _makes_room(self, tab: Tab) -> bool:
        anonymous = self._tabs.anonymous()
        of_browser = [other for other in anonymous if tab.browser and other.browser == tab.browser]
        of_address = [other for other in anonymous if other.address == tab.address]
        crowds = (
            (of_browser, bounds.STRANGERS_OF_BROWSER),
            (of_address, bounds.STRANGERS_OF_ADDRESS),
            (anonymous, bounds.STRANGERS),
        )
        if crowd := next((crowd for crowd, most in crowds if len(crowd) >= most), None):
            self._dismiss_oldest([other for other in crowd if not other.leaving])
        if len(anonymous) >= 1.1 * bounds.STRANGERS:  # those that leave still count
            return False
        seconds = bounds.STRANGER_ANSWER_SECONDS
        rounds = round(bounds.STRANGER_SECONDS / seconds)
        tab.timer = asyncio.get_running_loop().create_task(self._attend(tab, seconds, rounds))
        return True

    def _dismiss_oldest(self, crowd: list[Tab]) -> None:
        """Dismiss the oldest tab of the address that has most."""
        for heaviest, _ in Counter(tab.address for tab in crowd).most_common(1):
            audit.record("limited", reason="sockets of strangers", address=heaviest)
            of_heaviest = [tab for tab in crowd if tab.address == heaviest]
            oldest = min(of_heaviest, key=lambda tab: bool(tab.browser))  # a browser that was here has a name
            oldest.leaving = True  # so that the next one in a burst sends away another
            self._closing.soon(self._closing.dismiss(oldest))

    async def _attend(self, tab: Tab, seconds: float, rounds: int | None = None) -> None:
        """Ping a socket every so many seconds. Cut it when it does not answer; dismiss it after the last round.

        The server buffers up to 64 MB of an unfinished message. A client that sends one cannot answer.
        """
        for _ in range(rounds) if rounds else repeat(None):
            await asyncio.sleep(seconds)
            if tab.frames and not await tab.frames.answers(seconds) and not tab.frames.is_sending:
                tab.end()
                return
        await self._closing.dismiss(tab)
