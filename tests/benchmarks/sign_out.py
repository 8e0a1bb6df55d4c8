"""How long a sign-out takes to reach every open tab of its session, over the raw socket."""

import asyncio
import time
from dataclasses import dataclass, field

from raw_browser import Browser
from raw_http import RawHttp
from raw_tab import APP_STATE, RawTab

TABS = 50
_PAGE = "/reports"


@dataclass(slots=True)
class SignOuts:
    """What was measured, each time from sending the event.

    Attributes:
        told: Seconds until the last tab was told where to go.
        ended: Seconds until the last socket ended, of all tabs but the one that signed out: that one leaves by itself.
    """

    told: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    async def measure(self, app: str, http: RawHttp, rounds: int) -> None:
        """Sign in, open tabs, and sign out in one of them; again and again."""
        for _ in range(rounds):
            browser = Browser(http, app)
            await browser.sign_in()
            tabs = [await _opened(app, f"tab-{number}", browser.cookie) for number in range(TABS)]
            start = time.monotonic()
            await tabs[0].send(f"{APP_STATE}.logout")
            await asyncio.gather(*(tab.until(lambda tab=tab: tab.sees.get("leaving_to")) for tab in tabs))
            self.told.append(time.monotonic() - start)
            await asyncio.gather(*(tab.ended.wait() for tab in tabs[1:]))
            self.ended.append(time.monotonic() - start)
            await asyncio.gather(*(tab.close() for tab in tabs), browser.close())


async def sign_outs(app: str, trusted: str, rounds: int) -> SignOuts:
    """Measure a number of sign-outs, after one that is not counted."""
    http = RawHttp(trusted)
    await SignOuts().measure(app, http, 1)
    measured = SignOuts()
    await measured.measure(app, http, rounds)
    await http.close()
    return measured


async def _opened(app: str, token: str, cookie: str) -> RawTab:
    tab = await RawTab.open(app, _PAGE, token=token, cookie=cookie)
    await tab.until(lambda: tab.sees.get("is_hydrated"))
    return tab
