"""What people wait for in a real browser: from a click at the directory to the greeting, and in a second tab."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from browsing import ADA, choose, chromium, weigh
from playwright.sync_api import Browser, BrowserContext, Page

_LONGEST_SECONDS = 30.0
_WATCH = """(() => {
  if (!location.protocol.startsWith("http")) return;
  const now = () => performance.timeOrigin + performance.now();
  mark("opened", performance.timeOrigin);
  addEventListener("click", () => mark("clicked", now()), true);
  const look = () => {
    const heading = document.querySelector("h1");
    const text = heading && heading.checkVisibility() ? heading.textContent : "";
    if (text === "Pick an account") mark("asked", now());
    if (text === "Hello Ada Lovelace") mark("greeted", now());
    else requestAnimationFrame(look);
  };
  look();
})();"""
"""Notes in the page itself when something happened: what drives the browser looks only now and then."""


@dataclass(slots=True)
class Waits:
    """What people waited for at one app.

    Attributes:
        greeting: Seconds from the click on a person to the greeting.
        sign_in: Seconds from opening the app to the greeting, without the time that the person took for the click.
        second_tab: Seconds from opening the app in another tab of the same browser to the greeting.
    """

    greeting: list[float] = field(default_factory=list)
    sign_in: list[float] = field(default_factory=list)
    second_tab: list[float] = field(default_factory=list)


class Person:
    """Somebody at an app, in a browser profile that has been there before, so that files come from its cache."""

    def __init__(self, browser: Browser, app: str) -> None:
        """Use `browser` for the app at the address `app`."""
        self.waits = Waits()
        self._app = app
        self._marks: dict[str, float] = {}
        self._context: BrowserContext = browser.new_context(ignore_https_errors=True)
        self._context.expose_function("mark", lambda name, at: self._marks.setdefault(name, at / 1000))
        self._context.add_init_script(_WATCH)

    def measure(self, *, second_tab: bool) -> None:
        """Sign in as if for the first time, then perhaps open a second tab."""
        self._context.clear_cookies()
        page = self._opened()
        choose(page, ADA)
        marks = self._greeted(page)
        self.waits.greeting.append(marks["greeted"] - marks["clicked"])
        self.waits.sign_in.append(marks["asked"] - marks["opened"] + marks["greeted"] - marks["clicked"])
        if second_tab:
            marks = self._greeted(self._opened())
            self.waits.second_tab.append(marks["greeted"] - marks["opened"])
        for page in self._context.pages:
            page.close()

    def first_page(self, browser: Browser) -> dict[str, tuple[int, int]]:
        """Weigh `/` in a profile that has the person's cookies, and no files."""
        context = browser.new_context(storage_state=self._context.storage_state())
        return weigh(context.new_page(), f"{self._app}/", f"Hello {ADA}")

    def _opened(self) -> Page:
        self._marks.clear()
        page = self._context.new_page()
        page.goto(f"{self._app}/")
        return page

    def _greeted(self, page: Page) -> dict[str, float]:
        end = time.monotonic() + _LONGEST_SECONDS
        while "greeted" not in self._marks:
            assert time.monotonic() < end, f"no greeting at {page.url}"
            page.wait_for_timeout(20)
        return self._marks.copy()


def clicks(apps: Sequence[str], rounds: int, before: str | None = None) -> list[Waits]:
    """Measure apps, and one from before there were sessions, where there is one, in one browser and in turns.

    The first round is not counted. In the app from before no second tab is opened, for it would greet nobody.
    """
    addresses = [*apps, before] if before else apps
    with chromium() as browser:
        people = [Person(browser, address) for address in addresses]
        for number in range(rounds + 1):
            for person, address in zip(people, addresses, strict=True):
                person.measure(second_tab=address != before)
                person.waits = person.waits if number else Waits()
    return [person.waits for person in people]


def first_page(app: str) -> list[tuple[int, int]]:
    """Weigh the files of `/` for somebody signed in whose browser has none of them: on the network and unpacked."""
    with chromium() as browser:
        person = Person(browser, app)
        person.measure(second_tab=False)
        return list(person.first_page(browser).values())
