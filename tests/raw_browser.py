"""A browser that renders nothing: a cookie jar, one tab, and the steps of a sign-in, which stand here alone."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import websockets
from raw_http import Answer, RawHttp
from raw_tab import RawTab, close_all

from azure_auth.demo.people import PEOPLE

ADA = PEOPLE[0].oid


@asynccontextmanager
async def visitors(app: str) -> AsyncIterator[Callable[[], "Browser"]]:
    """Give out browsers that have not been to the app at the address `app`; close all that they opened."""
    http = RawHttp(os.environ["SSL_CERT_FILE"])
    yield lambda: Browser(http, app)
    await close_all()
    await http.close()


class Browser:
    """A profile that has not been here before, with one tab.

    Attributes:
        cookies: By name.
        token: What the tab calls itself.
        secrets: Codes, states and tickets that it has seen.
        tab: The page that is open.
        keeps: Tells by its name whether a cookie is kept.
    """

    def __init__(self, http: RawHttp, app: str) -> None:
        """Browse the app at the address `app`, over connections of `http`."""
        self.cookies: dict[str, str] = {}
        self.token = str(uuid.uuid4())
        self.secrets: list[str] = []
        self.tab: RawTab | None = None
        self.keeps: Callable[[str], bool] = lambda _: True
        self._http = http
        self._app = app

    @property
    def cookie(self) -> str:
        """The Cookie header for the app."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    async def open(self, path: str) -> RawTab:
        """Load a page in full: its document, then its socket, with the cookies of this moment."""
        answer = await self.go(f"{self._app}{path}")
        assert answer.status == 200, f"{answer.status} at {urlsplit(path).path}"
        self.tab = await RawTab.open(self._app, path, token=self.token, cookie=self.cookie, trust=self._http.trust)
        return self.tab

    async def see(self, path: str, condition: Callable[[dict[str, Any]], object]) -> RawTab:
        """Load a page and wait for what it sees; a socket that is lost is connected again, as a page's script does."""
        tab = await self.open(path)
        while True:
            try:
                await tab.until(lambda tab=tab: condition(tab.sees) or tab.new_token)
            except ConnectionError:
                await asyncio.sleep(0.1)
                with suppress(OSError, EOFError, websockets.InvalidStatus, websockets.InvalidMessage):
                    tab = self.tab = await RawTab.open(
                        self._app, path, token=self.token, cookie=self.cookie, trust=self._http.trust
                    )
                continue
            if not tab.new_token:
                return tab
            self.token = tab.new_token  # Reflex took it for a duplicate: it is told to load once more
            await self.close()
            tab = await self.open(path)

    async def go(self, url: str, form: Mapping[str, str] | str | None = None) -> Answer:
        """Leave the page for an address, by a POST where there is a form, and keep the cookies that it sets."""
        await self.close()
        method = "GET" if form is None else "POST"
        ours = url.startswith(self._app)
        answer = await self._http.ask(method, url, cookie=self.cookie if ours else "", form=form)
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "max-age=0" in cookie.lower() or not self.keeps(name):
                del self.cookies[name]
        return answer

    async def close(self) -> None:
        """Close the tab."""
        if self.tab:
            await self.tab.close()
            self.tab = None

    async def sign_in(self, person: str = ADA, *, anew: bool = False) -> float:
        """Sign a person in, from `/` until `/` greets them; return the seconds spent at the directory's pages.

        Args:
            person: Who is clicked on.
            anew: Whether somebody is signed in already; then it begins at the route for it, and not at `/`.
        """
        start = f"{self._app}/auth/sign-in?prompt=select_account"
        if not anew:
            start = (await self.see("/", lambda sees: sees.get("leaving_to"))).sees["leaving_to"]
        ticket, at_directory = await self._answered(start, person)
        exchanged = await self.go(f"{self._app}/auth/session", ticket)
        assert exchanged.status == 200, f"{exchanged.status} for a ticket"
        page = urlsplit(exchanged.text)
        tab = await self.see(page.path, lambda sees: sees.get("is_hydrated"))
        assert tab.sees["check_auth"] is True
        return at_directory

    async def ticket(self, person: str = ADA) -> str:
        """Go through a sign-in up to the ticket for the session cookie."""
        return (await self._answered(f"{self._app}/auth/sign-in", person))[0]

    async def _answered(self, start: str, person: str) -> tuple[str, float]:
        authorize = (await self.go(start)).location
        left = time.monotonic()
        await self.go(authorize)
        back = urlsplit((await self.go(authorize, {"person": person})).location)
        at_directory = time.monotonic() - left
        tab = await self.see(f"{back.path}?{back.query}", lambda sees: sees.get("ticket") or sees.get("failure"))
        assert tab.sees.get("ticket"), tab.sees["failure"]
        self.secrets += [*dict(parse_qsl(back.query)).values(), tab.sees["ticket"]]
        return tab.sees["ticket"], at_directory
