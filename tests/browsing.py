"""A browser, the app in development and as a production build, and people who click: fixtures for every test file."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from conftest import APP, free_port
from playwright.async_api import BrowserContext as BrowserContextOfALoop
from playwright.async_api import async_playwright
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from raw_browser import Browser as RawBrowser
from raw_browser import visitors
from running import RunningApp, reflex_run

ADA, GRACE = "Ada Lovelace", "Grace Hopper"
FIX = "no Chromium found: install one (Debian: apt-get install chromium) or run 'playwright install chromium'"


ARGUMENTS = ["--no-sandbox", "--disable-quic"]
expect.set_options(timeout=20_000)  # a claim that something shows says nothing of how fast a busy machine is


def system_chromium(own: str) -> str | None:
    """Return the system's Chromium, None when there is only Playwright's `own`; without one, skip or fail in CI."""
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not system and not Path(own).exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(FIX)
    return system


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the system's Chromium, else Playwright's own."""
    with sync_playwright() as playwright:
        system = system_chromium(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for no longer than one module, for its event loop is in others' way."""
    with chromium() as browser:
        yield browser


@asynccontextmanager
async def browser_profile() -> AsyncIterator[BrowserContextOfALoop]:
    """A browser profile for a test that has an event loop of its own; it may see no error in its console either."""
    errors: list[str] = []
    async with async_playwright() as playwright:
        system = system_chromium(playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        profile = await browser.new_context(ignore_https_errors=True)
        profile.set_default_timeout(20_000)
        profile.on("console", lambda message: message.type == "error" and errors.append(message.text))
        profile.on("weberror", lambda error: errors.append(str(error.error)))
        yield profile
        await browser.close()
    assert errors == []


@pytest.fixture(scope="session")
def development(tmp_path_factory) -> Iterator[RunningApp]:
    with reflex_run(tmp_path_factory.mktemp("dev"), {}, frontend=free_port(), backend=free_port()) as app:
        yield app


@pytest.fixture(scope="session")
def production(directory, tmp_path_factory) -> Iterator[RunningApp]:
    port = int(APP.rpartition(":")[2])
    with reflex_run(tmp_path_factory.mktemp("prod"), directory.environ, frontend=port) as app:
        yield app


@pytest.fixture
async def visitor(production) -> AsyncIterator[Callable[[], RawBrowser]]:
    """Browsers without a screen that have not been at the production build before."""
    async with visitors(production.url) as visit:
        yield visit


@pytest.fixture
async def ada(visitor) -> RawBrowser:
    """Ada, signed in."""
    browser = visitor()
    await browser.sign_in()
    return browser


@pytest.fixture(params=["development", "production"])
def app(browser, request) -> RunningApp:
    return request.getfixturevalue(request.param)


@pytest.fixture
def people(browser) -> Iterator:
    """Opens one separate browser profile after the other; none may see an error in its console."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(**options: object) -> Page:
        contexts.append(browser.new_context(ignore_https_errors=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on(
            "console", lambda message: message.type == "error" and errors.append(f"{message.text} {message.location}")
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(people) -> Page:
    return people()


def choose(page: Page, person: str) -> None:
    page.get_by_role("button", name=person).click()


def greeted(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=f"Hello {name}")).to_be_visible(timeout=20_000)


def weigh(page: Page, address: str, heading: str) -> dict[str, tuple[int, int]]:
    """Load a page until it shows a heading and rests; return the bytes of each file, on the network and unpacked."""
    loaded: list[Request] = []
    page.on("requestfinished", lambda request: loaded.append(request))
    page.goto(address)
    page.get_by_role("heading", name=heading).wait_for()
    page.wait_for_load_state("networkidle")
    weights: dict[str, tuple[int, int]] = {}
    for request in loaded:
        sizes = request.sizes()
        body = request.response().body()
        weights[request.url] = sizes["responseHeadersSize"] + sizes["responseBodySize"], len(body)
    return weights
