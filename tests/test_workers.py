"""Several workers on one Redis: what one begins another ends, and what ends anywhere ends everywhere."""

import asyncio
import os
import signal
import time
from contextlib import suppress

import pytest
import redis as client
import websockets
from raw_browser import visitors
from raw_tab import APP_STATE, RawTab
from redis_server import running_redis
from running import app_and_directory, children, is_running

from azure_auth.demo.people import PEOPLE

pytestmark = pytest.mark.anyio
ADA, GRACE = PEOPLE[0].oid, PEOPLE[1].oid
REPORTS = f"{APP_STATE}.azure_auth___pages___reports____reports"
PAGE = "/reports?tab=2"


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def app(redis, tmp_path_factory):
    """A production build with two workers, under a supervisor."""
    folder, environ = tmp_path_factory.mktemp("workers"), {"REFLEX_REDIS_URL": redis.url, "GRANIAN_WORKERS": "2"}
    with app_and_directory(folder, supervised=True, **environ) as (app, _):
        yield app


@pytest.fixture
async def visitor(app):
    async with visitors(app.url) as visit:
        yield visit


def test_there_are_two(app, redis):
    """What follows is shown on more than one worker: each of them listens for what the other ends."""
    with client.Redis.from_url(redis.url) as server:
        end = time.monotonic() + 10
        while server.pubsub_numsub("azure_auth:ended")[0][1] < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert server.pubsub_numsub("azure_auth:ended")[0][1] == 2


async def test_everybody_gets_in(visitor):
    """Twenty people at once, whose requests go to whichever worker: all sign in, each as themselves."""

    async def come_in(person):
        browser = visitor()
        await browser.sign_in(person.oid)
        return browser.tab.sees["token"]["name"], person.name or person.username

    local = [person for person in PEOPLE if person.home is None]
    names = await asyncio.gather(*(come_in(person) for person in local * 4))
    assert all(seen == name for seen, name in names)


async def test_a_sign_out_reaches_tabs_on_all_workers(app, visitor):
    """Twenty tabs, whichever worker has them, are told at once (a benchmark holds 250 ms), and what ran stops."""
    ada = visitor()
    await ada.sign_in(ADA)
    tabs = [await RawTab.open(app.url, PAGE, token=f"t{n}", cookie=ada.cookie) for n in range(20)]
    for tab in tabs:
        await tab.until(lambda tab=tab: tab.sees.get("is_hydrated"))
        assert tab.sees["owner"] == "Reports for Ada Lovelace"
    await tabs[3].send(f"{REPORTS}.tick")
    await tabs[3].until(lambda: tabs[3].sees["ticks"] > 1)
    begun = time.monotonic()
    await tabs[0].send(f"{APP_STATE}.logout")
    await asyncio.gather(*(tab.until(lambda tab=tab: tab.sees.get("leaving_to"), 10) for tab in tabs))
    took = time.monotonic() - begun
    assert took < 2.5, took
    await asyncio.sleep(0.5)
    work = app.site / ".data/work"
    before = len(work.read_text().splitlines())
    await asyncio.sleep(0.5)
    assert len(work.read_text().splitlines()) == before


async def test_nothing_of_a_person_lies_in_redis(app, redis, visitor):
    """No name, cookie, code or id in any byte of Redis; what a developer keeps in a state is there, as README says."""
    ada = visitor()
    await ada.sign_in(ADA)
    tab = await RawTab.open(app.url, PAGE, token="t", cookie=ada.cookie)
    await tab.until(lambda: tab.sees.get("is_hydrated"))
    await tab.send(f"{REPORTS}.add", {"row": "a developer's own"})
    await tab.until(lambda: "a developer's own" in tab.sees["rows"])
    await asyncio.sleep(0.2)
    with client.Redis.from_url(redis.url) as server:
        keys = list(server.scan_iter(count=1000))
        rest = b"\n".join([*keys, *(server.dump(key) or b"" for key in keys)])
        kept = [server.get(key) for key in keys if server.type(key) == b"string"]
    rest += b"\n".join(value or b"" for value in kept)
    assert b"a developer's own" in rest
    for secret in (*ada.cookies.values(), *ada.secrets, "Lovelace", "ada@contoso.example", ADA):
        assert secret.encode() not in rest, secret


async def test_a_killed_worker_ends_the_run_and_a_supervisor_brings_it_back(app, visitor):
    """Within seconds the whole run is over, as a failure, and started again; who was signed in still is."""
    ada = visitor()
    await ada.sign_in(ADA)
    (run,) = children(app.pid)
    workers = children(run)
    assert len(workers) == 2
    assert "the run ended" not in app.console()
    os.kill(workers[0], signal.SIGKILL)
    async with asyncio.timeout(15):
        while "the run ended" not in app.console() or any(map(is_running, (run, *workers))):
            await asyncio.sleep(0.05)
    tab = None
    async with asyncio.timeout(120):
        while not tab:
            with suppress(OSError, EOFError, websockets.WebSocketException):
                tab = await RawTab.open(app.url, PAGE, token="afterwards", cookie=ada.cookie)
            await asyncio.sleep(0.1)
    await tab.until(lambda: tab.sees.get("is_hydrated"))
    assert tab.sees["owner"] == "Reports for Ada Lovelace"
    assert app.console().count("the run ended") == app.console().count("the run ended with 1") == 1


def test_the_console_is_clean(app):
    """Neither Reflex nor Granian warns of anything."""
    console = app.console()
    assert "Traceback" not in console
    assert "arning" not in console, console
