"""The same person signs in again: their open tabs follow the new cookie, and the old one dies; raw and in Chromium."""

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from browsing import ADA as ADAS_NAME
from browsing import choose, greeted
from playwright.sync_api import expect
from raw_browser import Browser, visitors
from raw_tab import APP_STATE, RawTab
from redis_server import running_redis
from running import RunningApp, app_and_directory, cloned

from azure_auth.demo.people import PEOPLE

pytestmark = pytest.mark.anyio
ADA = PEOPLE[0].oid
REPORTS = f"{APP_STATE}.azure_auth___pages___reports____reports"
PAGE = "/reports?tab=2"
SESSION = "azure_auth_session"
TABS = 6
GRACE, WRITE, FLOW = 5.0, 8.0, 15


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextlib.contextmanager
def hasty(folder: Path, **environ: str) -> Iterator[RunningApp]:
    """Run a production build in which what takes half a minute, or a minute, takes seconds."""
    site = cloned(folder)
    for name, said, now in (
        ("store/contract", "GRACE_SECONDS = 30.0", f"GRACE_SECONDS = {GRACE}"),
        ("flows", "FLOW_SECONDS = 600", f"FLOW_SECONDS = {FLOW}"),
        ("active", "_WRITE_SECONDS = 60.0", f"_WRITE_SECONDS = {WRITE}"),
    ):
        module = site / f"azure_auth/auth/sessions/{name}.py"
        assert said in module.read_text()
        module.write_text(module.read_text().replace(said, now))
    with app_and_directory(folder, site=site, **environ) as (app, _):
        yield app


@pytest.fixture(scope="module")
def workers(server, tmp_path_factory):
    """Two workers."""
    with hasty(tmp_path_factory.mktemp("workers"), REFLEX_REDIS_URL=server.url, GRANIAN_WORKERS="2") as app:
        yield app


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with hasty(tmp_path_factory.mktemp("process")) as app:
        yield app


@pytest.fixture(params=["process", "workers"])
def site(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
async def visitor(site):
    async with visitors(site.url) as visit:
        yield visit


async def opened(site, token: str, cookie: str) -> RawTab:
    tab = await RawTab.open(site.url, PAGE, token=token, cookie=cookie)
    await tab.until(lambda: tab.sees.get("is_hydrated") or tab.sees.get("leaving_to") or tab.new_token)
    return tab


async def add(tab: RawTab) -> None:
    row = str(uuid.uuid4())
    await tab.send(f"{REPORTS}.add", {"row": row})
    await tab.until(lambda: row in tab.sees["rows"])


async def lines_of(site, cookie: str, path: str, lines: list[float]) -> None:
    """Read an answer until it ends, however it does."""
    with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
        async with (
            httpx.AsyncClient(base_url=site.url, timeout=60) as http,
            http.stream("GET", path, headers={"Cookie": cookie}) as answer,
        ):
            assert answer.status_code == 200
            async for _ in answer.aiter_lines():
                lines.append(asyncio.get_running_loop().time())


async def test_open_tabs_follow_a_sign_in_again_and_a_thief_does_not(site, visitor):
    """All that was opened with the old value is cut without a word; only the new value connects again."""
    ada = visitor()
    await ada.sign_in(ADA)
    old = ada.cookie
    await asyncio.sleep(GRACE)  # there is one new value within it
    tabs = {token: await opened(site, token, old) for token in (f"tab-{uuid.uuid4()}" for _ in range(TABS))}
    await asyncio.gather(*map(add, tabs.values()))
    stale: list[float] = []
    streaming = asyncio.create_task(lines_of(site, old, "/api/stream", stale))
    await ada.sign_in(ADA, anew=True)
    begun = asyncio.get_running_loop().time()
    assert ada.cookies[SESSION] not in old
    fresh: list[float] = []
    followed = asyncio.create_task(lines_of(site, ada.cookie, "/api/stream", fresh))
    for tab in tabs.values():
        await add(tab)  # they go on, as if nothing had happened
        assert not tab.sees.get("leaving_to")
    await asyncio.wait_for(asyncio.gather(*(tab.ended.wait() for tab in tabs.values())), GRACE + 5)
    await asyncio.wait_for(streaming, 5)
    assert GRACE - 2 < asyncio.get_running_loop().time() - begun < GRACE + 5
    assert not any(tab.dismissed for tab in tabs.values())
    assert stale[-1] - begun < GRACE + 2
    for token, tab in tabs.items():
        again = await opened(site, token, ada.cookie)
        assert again.new_token == ""
        assert again.sees["rx_router_session"]["client_token"] == tab.sees["rx_router_session"]["client_token"]
        assert again.sees["opened"] == 2  # a state that no load begins anew has what it had
        await again.close()
        thief = await opened(site, token, old)
        assert "/auth/sign-in" in thief.sees["leaving_to"]
        assert "rows" not in thief.sees
        await thief.close()
    async with httpx.AsyncClient(base_url=site.url) as http:
        statuses = [(await http.get("/api/figures", headers={"Cookie": c})).status_code for c in (old, ada.cookie)]
    assert statuses == [401, 200]
    assert not followed.done()
    ended = await opened(site, "last", ada.cookie)
    await ended.send(f"{APP_STATE}.logout")
    await asyncio.wait_for(followed, 5)
    assert "Traceback" not in site.console()


async def test_a_download_that_is_under_way_at_a_sign_out_goes_on(site, visitor):
    """An answer whose length is known comes whole; one that may never end stops at once."""
    ada = visitor()
    await ada.sign_in(ADA)
    whole: list[float] = []
    endless: list[float] = []
    reading = [
        asyncio.create_task(lines_of(site, ada.cookie, path, lines))
        for path, lines in (("/api/download", whole), ("/api/stream", endless))
    ]
    tab = await opened(site, "t", ada.cookie)
    while not (whole and endless):
        await asyncio.sleep(0.02)
    await tab.send(f"{APP_STATE}.logout")
    await asyncio.wait_for(asyncio.gather(*reading), 10)
    assert len(whole) == 20
    assert len(endless) < 20


async def test_a_front_channel_sign_out_is_told_once(site, visitor):
    """With tabs at all workers, and with none: one audit line, with the person or with a hash."""
    for open_tabs in (TABS, 0):
        ada = visitor()
        await ada.sign_in(ADA)
        tabs = [await opened(site, f"t{number}", ada.cookie) for number in range(open_tabs)]
        await ada.close()
        await asyncio.sleep(0.5)  # no socket is open any more
        before = len(told(site))
        page = await ada._http.ask("GET", await sign_out_page(ada), cookie=ada.cookie)
        await ada._http.ask("GET", re.search(r"http\S+/auth/frontchannel-logout\?sid=[0-9a-f-]+", page.text)[0])
        for tab in tabs:
            await tab.until(lambda tab=tab: "because=directory" in tab.sees.get("leaving_to", ""), 10)
        async with asyncio.timeout(5):
            while len(told(site)) == before:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        (line,) = told(site)[before:]
        assert line["reason"] == "directory"
        # The worker that was asked knows the person by name if it has a tab of theirs.
        assert ("person" in line) is not ("person_hash" in line)
        assert open_tabs or "person_hash" in line


def told(site) -> list[dict[str, object]]:
    """What the audit trail says of ends."""
    lines = [line for line in site.console().splitlines() if '"event": "signed_out"' in line]
    return [json.loads(line[line.index("{") :]) for line in lines]


async def sign_out_page(browser: Browser) -> str:
    """The directory's own page for signing out, as its sign-in page is found."""
    authorize = (await browser._http.ask("GET", f"{browser._app}/auth/sign-in")).location
    return authorize.partition("/oauth2/")[0] + "/oauth2/v2.0/logout"


@pytest.mark.slow
async def test_a_slow_person_reads_that_it_took_too_long(site, visitor):
    """After the time of a flow, on both stores: the same words, and the way on leads to the page asked for."""
    slow, quick = visitor(), visitor()
    starts = [await browser.go(f"{site.url}/auth/sign-in?return_to=/reports?tab=2") for browser in (slow, quick)]
    answers = []
    for browser, start in zip((slow, quick), starts, strict=True):
        await browser.go(start.location)
        answers.append(urlsplit((await browser.go(start.location, {"person": ADA})).location))
    paths = [f"{answer.path}?{answer.query}" for answer in answers]
    tab = await quick.see(paths[1], lambda sees: sees.get("ticket") or sees.get("failure"))
    assert tab.sees.get("ticket")  # the control
    await asyncio.sleep(FLOW)
    tab = await slow.see(paths[0], lambda sees: sees.get("ticket") or sees.get("failure"))
    assert tab.sees["failure"]["heading"] == "This took too long"
    assert "return_to=%2Freports%3Ftab%3D2" in tab.sees["failure"]["again"]


async def test_ten_tabs_that_come_back_together_are_all_signed_in(workers):
    """Six browsers that were closed for so long that the next act is written open ten tabs each: nobody is refused."""
    async with visitors(workers.url) as visit:
        browsers = [visit() for _ in range(6)]
        for number, browser in enumerate(browsers):
            await browser.sign_in(PEOPLE[number % 2].oid)
            await add(await browser.see(PAGE, lambda sees: sees.get("is_hydrated")))
            await browser.close()
        before = len(told(workers))
        await asyncio.sleep(WRITE + 1)  # the next act of each is written

        async def come_back(browser: Browser, number: int) -> None:
            tab = await opened(workers, f"{browser.token}-{number}", browser.cookie)
            assert not tab.sees.get("leaving_to")
            await add(tab)
            assert not tab.sees.get("leaving_to")

        await asyncio.gather(*(come_back(browser, number) for browser in browsers for number in range(10)))
        assert told(workers)[before:] == []


async def test_a_tab_whose_state_is_of_another_release_loads_anew(workers, server):
    """Its next event is not run on a state that lost everything: the page loads once more, and then all works."""
    async with visitors(workers.url) as visit:
        ada = visit()
        await ada.sign_in(ADA)
        tab = await opened(workers, "t", ada.cookie)
        key = tab.sees["rx_router_session"]["client_token"]
        with redis.Redis.from_url(server.url) as client:
            names = [name for name in client.scan_iter(count=1000) if name.startswith(key.encode())]
            assert len(names) > 2
            for name in names:
                if client.type(name) == b"string":
                    client.set(name, b"a pickle of another release", ex=60)
        await tab.send(f"{REPORTS}.add", {"row": "x"})
        await tab.until(lambda: tab.sees.get("leaving_to"))
        assert tab.sees["leaving_to"] == PAGE
        await tab.close()
        again = await ada.see(PAGE, lambda sees: sees.get("is_hydrated"))
        assert not again.sees.get("leaving_to")
        await add(again)
        assert not again.sees.get("leaving_to")
    assert "Traceback" not in workers.console()


@pytest.mark.slow
def test_what_was_typed_stays_while_another_tab_signs_in_again(process, page):
    """The page connects again by itself with the new cookie: same document, same text, and the next click works."""
    page.goto(process.url)
    choose(page, ADAS_NAME)
    greeted(page, ADAS_NAME)
    page.goto(f"{process.url}/reports")
    page.get_by_text(f"Reports for {ADAS_NAME}").wait_for()
    page.get_by_label("Draft").fill("half a sentence")
    page.evaluate("window.same = true")
    page.wait_for_timeout(GRACE * 1000)  # there is one new value within it
    other = page.context.new_page()
    other.goto(f"{process.url}/auth/sign-in?prompt=select_account")
    choose(other, ADAS_NAME)
    greeted(other, ADAS_NAME)
    with page.expect_websocket(timeout=(GRACE + 10) * 1000):
        pass
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("one more")).to_be_visible()
    assert page.get_by_label("Draft").input_value() == "half a sentence"
    assert page.evaluate("window.same") is True
    assert page.get_by_role("alert").count() == 0
