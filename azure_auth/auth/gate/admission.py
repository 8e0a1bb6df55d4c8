"""How many sockets there may be, how often they are pinged, and how long an anonymous one lasts."""

import asyncio
from collections import Counter
from itertools import repeat

from azure_auth import audit, bounds
from azure_auth.auth.gate.closing import Closing
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.sessions.session import Session
from azure_auth.errors import TooManyTabs


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
