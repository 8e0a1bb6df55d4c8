"""Several tabs of one browser sign in at the same moment, near and far, on both stores; each ends on its own page."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browsing import ADA, browser_profile
from conftest import free_port, running_directory, wait_for
from playwright.async_api import expect
from redis_server import running_redis
from running import reflex_run

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["embedded", pytest.param("Redis, two workers", marks=pytest.mark.slow)])
def place(request, tmp_path_factory):
    """A production build behind a port that leads to it, and that port."""
    folder, inner, outer = tmp_path_factory.mktemp("tabs"), free_port(), free_port()
    with running_directory(f"http://localhost:{outer}") as directory:
        environ = {**directory.environ, "REFLEX_DEPLOY_URL": f"http://localhost:{outer}"}
        if request.param == "embedded":
            with reflex_run(folder, environ, frontend=inner) as app:
                yield app, inner, outer
        else:
            with running_redis(folder) as redis:
                environ |= {"REFLEX_REDIS_URL": redis.url, "GRANIAN_WORKERS": "2"}
                with reflex_run(folder, environ, frontend=inner) as app:
                    yield app, inner, outer


@contextmanager
def delayed(there: int, here: int, round_trip: float) -> Iterator[None]:
    """Lead from one port of this machine to another; a round trip takes so many seconds more."""
    proxy = Path(__file__).with_name("delay.py")
    process = subprocess.Popen([sys.executable, proxy, str(there), str(here), str(round_trip)])
    try:
        wait_for(f"http://localhost:{here}/ping", process)
        yield
    finally:
        process.kill()
        process.wait(10)


SIGNED_IN_AT_MICROSOFT = f"""document.addEventListener("DOMContentLoaded", () => {{
  const ask = location.pathname.endsWith("/authorize") && [...document.querySelectorAll("button")];
  if (ask) ask.find((button) => button.textContent.includes("{ADA}")).click();
}});"""
"""The directory knows the person already, and asks nothing."""


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("round_trip", "numbers"),
    [(0.16, [12]), pytest.param(0.16, [3, 4, 6], marks=SLOW), pytest.param(0.0, [3, 4, 6, 12], marks=SLOW)],
)
async def test_all_tabs_of_a_fresh_browser_sign_in_at_once(place, round_trip, numbers):
    """Nobody reads of an ended sign-in, and each tab shows what it was opened for."""
    app, inner, outer = place
    url = f"http://localhost:{outer}"
    with delayed(inner, outer, round_trip):
        for number in numbers:
            async with browser_profile() as profile:
                await profile.add_init_script(SIGNED_IN_AT_MICROSOFT)
                tabs = [await profile.new_page() for _ in range(number)]
                await asyncio.gather(*(tab.goto(f"{url}/reports?tab={n}") for n, tab in enumerate(tabs)))
                for n, tab in enumerate(tabs):
                    await expect(tab.locator("#owner")).to_have_text(f"Reports for {ADA}", timeout=30_000)
                    assert tab.url == f"{url}/reports?tab={n}"
                await tabs[0].reload()
                await expect(tabs[0].locator("#owner")).to_have_text(f"Reports for {ADA}")
                left = [cookie["name"] for cookie in await profile.cookies(url) if "_flow_" in cookie["name"]]
                assert left == []
    assert "Traceback" not in app.console()
