"""Two replicas behind a proxy that ends TLS: nobody needs the same one twice, and either may go."""

import asyncio
import http.client
import os
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis as client
import websockets
from browsing import browser_profile
from conftest import trust
from playwright.async_api import expect
from raw_browser import visitors
from raw_socket import RawSocket
from raw_tab import APP_STATE, RawTab
from replicas import running_replicas

from azure_auth.auth.sessions.sealing import STRANGER, SessionKeys, handle_of
from azure_auth.auth.sessions.session import opened as opened_keys
from azure_auth.demo.people import PEOPLE

pytestmark = pytest.mark.anyio
ADA, GRACE = PEOPLE[0].oid, PEOPLE[1].oid
REPORTS = f"{APP_STATE}.azure_auth___pages___reports____reports"
BUSY = 30
"""Seconds that a step may take while two replicas start on a machine of two cores."""
FLOW, SESSION = "__Host-azure_auth_flow_", "__Host-azure_auth_session"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_replicas(tmp_path_factory.mktemp("replicas")) as replicas:
        yield replicas


@pytest.fixture
async def visitor(site):
    async with visitors(site.url) as visit:
        yield visit


@pytest.fixture
def server(site):
    with client.Redis.from_url(site.redis.url) as server:
        yield server


async def opened(site, replica, browser, token, path="/reports"):
    """Open a tab at one replica, past the proxy; a key that another socket still has is given up first."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        tab = await RawTab.open(replica.url, path, token=token, cookie=browser.cookie, origin=site.url)
        await tab.until(lambda tab=tab: tab.sees.get("is_hydrated") or tab.new_token, 10)
        if not tab.new_token:
            return tab
        await tab.close()
        await asyncio.sleep(0.05)
    pytest.fail("the key stayed another socket's")


async def eventually(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert condition()


async def test_what_the_browser_is_told_is_of_the_public_address(site, visitor):
    """Redirect URI, origin and cookies are those of https outside, though the app itself is asked over http."""
    ada = visitor()
    start = await ada.go(f"{site.url}/auth/sign-in")
    assert parse_qs(urlsplit(start.location).query)["redirect_uri"] == [f"{site.url}/callback"]
    set_flow = next(cookie for cookie in start.cookies if cookie.startswith(FLOW))
    ticket = await ada.ticket()
    answer = await ada.go(f"{site.url}/auth/session", ticket)
    assert answer.text == f"{site.url}/"
    set_session = next(cookie for cookie in answer.cookies if cookie.startswith(SESSION))
    for cookie in (set_flow, set_session):
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= set(cookie.lower().split("; "))
        assert "domain" not in cookie.lower()
    tab = await ada.open("/")
    await tab.until(lambda: tab.sees.get("is_hydrated"))
    assert tab.sees["token"]["name"] == "Ada Lovelace"


PARTS = {
    "nothing": b"",
    "half a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
    "a request, then nothing": b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a body": b"POST /api/hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
}


@asynccontextmanager
async def holding(port: int, part: bytes, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    """Hold 1,100 connections of another address than that of everybody else here; they send no more than that."""
    held: list[asyncio.StreamWriter] = []
    try:
        for _ in range(22):
            opening = (
                asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=("127.0.0.2", 0)) for _ in range(50)
            )
            held += [writer for _, writer in await asyncio.gather(*opening)]
        for writer in held:
            writer.write(part)
        await asyncio.sleep(0.5)
        yield
    finally:
        for writer in held:
            writer.transport.abort()


async def answers(url: str) -> bool:
    """Whether one more connection gets an answer within three seconds."""
    async with httpx.AsyncClient(verify=trust(os.environ["SSL_CERT_FILE"]), timeout=3) as http:
        with suppress(httpx.TimeoutException):
            return (await http.get(f"{url}/ping")).status_code == 200
    return False


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
async def test_who_holds_connections_stops_nobody_behind_the_proxy(site, visitor, part):
    """With README's lines of nginx Ada signs in meanwhile; without, what the app cannot count stops the site."""
    proxy, replica = (urlsplit(url).port for url in (site.url, site.both[0].url))
    tls = trust(os.environ["SSL_CERT_FILE"]) if part != "nothing" else None
    async with holding(proxy, PARTS[part], tls):
        assert await answers(site.url)
        await visitor().sign_in(ADA)
    async with holding(replica, PARTS[part], None):
        assert await answers(site.both[0].url) is (part == "half a body")
    assert await answers(site.both[0].url)


def test_a_page_of_one_finds_its_files_at_the_other(site):
    """Each has built for itself, at a port of its own, and the files have the same names."""
    one, two = ({file.name for file in replica.build().rglob("*.*")} for replica in site.both)
    assert len(one) > 20
    assert one == two


async def test_a_real_browser_signs_in_through_the_proxy(site):
    """Over TLS, in two tabs and out again, with nothing to complain of in its console."""
    async with browser_profile() as profile:
        one, two = await profile.new_page(), await profile.new_page()
        await one.goto(site.url)
        await one.get_by_role("button", name="Ada Lovelace").click()
        for page in (one, two):
            if page is two:
                await two.goto(site.url)
            await expect(page.get_by_role("heading", name="Hello Ada Lovelace")).to_be_visible(timeout=20_000)
            assert page.url == f"{site.url}/"
        (cookie,) = [cookie for cookie in await profile.cookies(site.url) if cookie["name"] == SESSION]
        assert cookie["secure"]
        assert cookie["httpOnly"]
        await one.get_by_role("button", name="Sign out").click()
        for page in (one, two):
            await expect(page.get_by_role("heading", name="You are signed out")).to_be_visible(timeout=20_000)


async def test_only_the_public_origin_connects(site):
    """Through the proxy as past it: neither another site nor the replica's own inner address may open a socket."""
    trusted = trust(os.environ["SSL_CERT_FILE"])
    for origin in ("https://evil.example", site.both[0].url, site.url.replace("https", "http"), f"{site.url}.evil"):
        for address in (site.url, site.both[0].url):
            with pytest.raises(websockets.InvalidStatus):
                await RawTab.open(address, "/", token="t", origin=origin, trust=trusted)


def test_the_client_address_is_the_one_that_the_proxy_saw(site):
    """One hop counts: what the client itself puts into X-Forwarded-For does not."""
    trusted = trust(os.environ["SSL_CERT_FILE"])
    port = urlsplit(site.url).port
    connection = http.client.HTTPSConnection("localhost", port, context=trusted, source_address=("127.0.0.7", 0))
    connection.request("GET", "/auth/sign-in", headers={"X-Forwarded-For": "203.0.113.9"})
    assert connection.getresponse().status == 303
    connection.close()
    end = time.monotonic() + 5
    while "127.0.0.7" not in site.console() and time.monotonic() < end:
        time.sleep(0.05)
    assert "127.0.0.7" in site.console()
    assert "203.0.113.9" not in site.console()


@pytest.mark.parametrize("way", ["sign out", "everywhere", "replaced", "directory"])
async def test_an_end_reaches_all_tabs_on_both(site, visitor, way):
    """However a session ends, its tabs at either replica are told at once where to go, and an event there is denied."""
    ada, again = visitor(), visitor()
    await ada.sign_in(ADA)
    tabs = [await opened(site, site.both[n % 2], ada, f"{way.replace(' ', '')}{n}") for n in range(6)]
    begun = time.monotonic()
    if way == "sign out":
        await tabs[0].send(f"{APP_STATE}.logout")
    elif way == "everywhere":
        await again.sign_in(ADA)
        begun = time.monotonic()
        await again.tab.send(f"{APP_STATE}.logout_everywhere")
    elif way == "replaced":
        await ada.sign_in(GRACE, anew=True)
    else:
        frame = await _front_channel(site, ada)
        begun = time.monotonic()
        await again.go(frame)
    await asyncio.gather(*(tab.until(lambda tab=tab: tab.sees.get("leaving_to"), 10) for tab in tabs))
    assert time.monotonic() - begun < (5 if way == "replaced" else 1)


async def _front_channel(site, browser):
    """The address in the frame of the directory's sign-out page."""
    url = f"{site.environ['AZURE_AUTHORITY_HOST']}/{site.environ['AZURE_TENANT_ID']}/oauth2/v2.0/logout"
    page = await browser._http.ask("GET", url, cookie=browser.cookie)
    return re.search(rf"{site.url}/auth/frontchannel-logout\?sid=[0-9a-f-]+", page.text)[0]


def keys_of(server, browser) -> SessionKeys:
    """The keys of the session that a browser has, opened with its cookie."""
    value = browser.cookies[SESSION]
    handle = server.hgetall(f"azure_auth:handle:{handle_of(value).name}")
    return opened_keys(handle[b"session"].decode(), value, handle[b"sealed"])


async def test_an_event_is_denied_though_no_message_came(site, visitor, server):
    """A message that is lost grants nothing: the gate asks the store itself."""
    ada = visitor()
    await ada.sign_in(ADA)
    tab = await opened(site, site.both[1], ada, "lost")
    reference = keys_of(server, ada).reference
    server.delete(f"azure_auth:session:{reference}")  # as if ended elsewhere, and nobody said so
    await tab.send(f"{REPORTS}.add", {"row": "too late"})
    await tab.until(lambda: tab.sees.get("leaving_to"), 5)
    assert "too late" not in str(tab.updates)


async def test_a_background_handler_follows_its_tab_to_the_other_replica(site, visitor, server):
    """It goes on reaching the tab through Reflex's own messages and our filter, and stops at sign-out."""
    ada = visitor()
    await ada.sign_in(ADA)
    one, two = site.both
    tab = await opened(site, one, ada, "wanderer")
    await tab.send(f"{REPORTS}.tick")
    await tab.until(lambda: tab.sees.get("ticks", 0) > 1)
    await tab.close()
    tab = await opened(site, two, ada, "wanderer")
    before = tab.sees["ticks"]
    await tab.until(lambda: tab.sees["ticks"] > before + 3, 5)
    await tab.send(f"{APP_STATE}.logout")
    await tab.until(lambda: tab.sees.get("leaving_to"), 5)
    told = len(tab.updates)
    await asyncio.sleep(0.5)
    work = one.work()
    await asyncio.sleep(0.5)
    assert one.work() == work
    assert not any("ticks" in str(update) for update in tab.updates[told:])


async def test_states_go_with_their_session(site, visitor, server):
    """At its end the states of a session's tabs, at both replicas, open or closed, are gone from Redis."""
    ada = visitor()
    await ada.sign_in(ADA)
    keys = keys_of(server, ada)
    closed, left, right = [
        await opened(site, site.both[n % 2], ada, token) for n, token in enumerate(("closed", "left", "right"))
    ]
    await closed.close()

    def kept():
        names = [keys.tab_key(token) for token in ("closed", "left", "right")]
        return [key for key in server.scan_iter(count=1000) if any(name.encode() in key for name in names)]

    assert len(kept()) > 3
    await left.send(f"{APP_STATE}.logout")
    await asyncio.gather(*(tab.until(lambda tab=tab: tab.sees.get("leaving_to"), 5) for tab in (left, right)))
    await left.close()
    await right.close()
    await eventually(lambda: not kept())


async def test_a_strangers_state_does_not_come_to_redis(site, visitor, server):
    """A page works for strangers without a byte of their state in Redis; that of somebody signed in is there."""
    ada = visitor()
    await ada.sign_in(ADA)
    owner = await opened(site, site.both[0], ada, "stranger")
    tab = await RawTab.open(site.both[0].url, "/logout", token="stranger", origin=site.url)
    await tab.until(lambda: tab.sees.get("is_hydrated"))

    def kept(key):
        return [name for name in server.scan_iter(count=1000) if key.encode() in name]

    before = set(server.scan_iter(count=1000))
    for frame in ("41/_event,", '42/_event,["connect",{}]'):
        again = await RawTab.open(site.both[0].url, "/logout", token="stranger", origin=site.url)
        await again.until(lambda again=again: again.sees.get("leaving_to") or again.sees.get("is_hydrated"))
        await again.send_raw(frame)
        await asyncio.wait_for(again.ended.wait(), 5)
    assert not [name for name in set(server.scan_iter(count=1000)) - before if not name.startswith(b"azure_auth:")]
    assert kept(keys_of(server, ada).tab_key("stranger"))
    assert not kept(STRANGER)
    await owner.close()
    await tab.close()


@pytest.mark.parametrize("client", ["answers", "is gone"])
async def test_a_tab_that_comes_to_another_worker_keeps_its_state(site, visitor, client):
    """A laptop that changed networks keeps what was there; beside a socket that answers, the page loads once more."""
    ada = visitor()
    await ada.sign_in(ADA)
    one, two = site.both
    token = f"moves{len(client)}"
    tab = await opened(site, one, ada, token)
    await tab.send(f"{REPORTS}.add", {"row": "from before"})
    await tab.until(lambda: "from before" in tab.sees["rows"])
    if client == "is gone":
        await tab.close()
        silent = await RawSocket.open(one.url, token=token, cookie=ada.cookie, origin=site.url)
        await silent.load("/built")
        assert not await silent.ends(0.5)
    begun = asyncio.get_running_loop().time()
    again = await RawTab.open(two.url, "/built", token=token, cookie=ada.cookie, origin=site.url)
    await again.until(lambda: again.sees.get("leaving_to") or again.sees.get("is_hydrated"), 10)
    assert asyncio.get_running_loop().time() - begun < (0.5 if client == "answers" else 4)
    if client == "answers":
        assert (again.sees["leaving_to"], bool(again.new_token)) == ("/built", True)
        await tab.send(f"{REPORTS}.add", {"row": "more"})
        await tab.until(lambda: "more" in tab.sees["rows"])
    else:
        assert "from before" in again.sees["rows"]
        assert await silent.ends(2)
        silent.close()
    await again.close()


@pytest.mark.parametrize("where", ["one worker", "two workers"])
async def test_two_who_come_at_once_for_a_tab_that_is_gone(site, visitor, where):
    """Whichever gets it works on, and the other is told to load once more: none is left without a word."""
    ada = visitor()
    await ada.sign_in(ADA)
    one, two = site.both
    token = f"gone{len(where)}"
    silent = await RawSocket.open(one.url, token=token, cookie=ada.cookie, origin=site.url)
    await silent.load("/reports")
    assert not await silent.ends(0.5)
    urls = [two.url, two.url if where == "one worker" else one.url]
    tabs = [await RawTab.open(url, "/reports", token=token, cookie=ada.cookie, origin=site.url) for url in urls]

    async def served(tab):
        await tab.until(lambda: tab.sees.get("leaving_to") or tab.sees.get("is_hydrated"), 12)
        if tab.sees.get("leaving_to"):
            assert tab.new_token
            return False
        await tab.send(f"{REPORTS}.add", {"row": "a click"})
        await tab.until(lambda: "a click" in tab.sees["rows"], 5)
        return True

    assert (await asyncio.gather(*map(served, tabs))).count(True) <= 1
    silent.close()
    for tab in tabs:
        await tab.close()


async def _nobody_acts(site, tab, within):
    """A signed-in tab's event does nothing; the page is told, in a sentence with a reference, what is wrong."""
    tab.sees.pop("failure", None)
    tab.sees.pop("broken", None)
    before = sum(replica.work() for replica in site.both)
    await tab.send(f"{REPORTS}.add", {"row": "while it cannot be asked"})
    await tab.until(lambda: tab.sees.get("failure") or tab.sees.get("broken"), within)
    told = tab.sees.get("failure") or tab.sees["broken"]
    assert told["heading"] == "This site cannot remember anybody right now"
    assert re.fullmatch(r"[0-9a-f]{10}", told["reference"])
    assert sum(replica.work() for replica in site.both) == before


async def _a_page_says_so(site, browser, within):
    """A page that is opened with a session, and a sign-in that is begun, end on a page that says what is wrong."""
    tab = await RawTab.open(site.both[1].url, "/", token="arrives", cookie=browser.cookie, origin=site.url)
    await tab.until(lambda: tab.sees.get("failure"), within)
    assert tab.sees["failure"]["reference"]
    assert not tab.sees.get("check_auth")
    start = await browser._http.ask("GET", f"{site.url}/auth/sign-in")
    address, reference = start.location.removeprefix(site.url).split("&reference=")
    assert address == "/callback?problem=store_unavailable"
    tab = await RawTab.open(site.both[0].url, f"{address}&reference={reference}", token="begins", origin=site.url)
    await tab.until(lambda: tab.sees.get("failure"), within)
    assert tab.sees["failure"]["reference"] == reference
    assert site.console().count(f'"reference": "{reference}"') == 1


@pytest.mark.parametrize("fault", ["gone", pytest.param("hangs", marks=pytest.mark.slow)])
async def test_while_redis_cannot_be_asked_nobody_is_let_in(site, visitor, fault):
    """The gate denies, pages say why, and once Redis is back the signed-in go on and others sign in."""
    ada = visitor()
    await ada.sign_in(ADA)
    tab = await opened(site, site.both[0], ada, f"fault{fault}")
    site.redis.stop(keep=True) if fault == "gone" else site.redis.pause(on=True)
    try:
        await _nobody_acts(site, tab, 12)
        await _a_page_says_so(site, ada, 12)
    finally:
        site.redis.start() if fault == "gone" else site.redis.pause(on=False)
    await _healed(visitor(), GRACE)
    tab = await opened(site, site.both[0], ada, f"back{fault}")
    assert tab.sees["owner"] == "Reports for Ada Lovelace"
    await tab.send(f"{REPORTS}.add", {"row": "again"})
    await tab.until(lambda: "again" in tab.sees["rows"], 10)


async def test_while_redis_is_slow_everybody_waits_and_goes_on(site, visitor):
    """An answer that takes more than a second is waited for: events arrive, sign-ins succeed, nobody is denied."""
    ada, grace = visitor(), visitor()
    await ada.sign_in(ADA)
    tab = await opened(site, site.both[0], ada, "patient")
    for row in ("first", "second"):
        site.redis.pause(on=True)
        try:
            await tab.send(f"{REPORTS}.add", {"row": row})
            arriving = asyncio.create_task(grace.go(f"{site.url}/auth/sign-in"))
            await asyncio.sleep(1.2)
            assert row not in tab.sees["rows"]
        finally:
            site.redis.pause(on=False)
        await tab.until(lambda row=row: row in tab.sees["rows"], 10)
        assert "/oauth2/" in (await arriving).location
    assert not tab.sees.get("failure")
    assert not tab.sees.get("broken")
    await grace.sign_in(GRACE)


async def _healed(browser, person):
    """Somebody signs in, within the time that connections take to be made anew, trying again as people do."""
    end = time.monotonic() + 30
    while True:
        try:
            async with asyncio.timeout(BUSY):
                await browser.sign_in(person)
            return
        except (AssertionError, TimeoutError, ConnectionError):
            assert time.monotonic() < end


async def test_redis_that_comes_back_empty_asks_everybody_to_sign_in(site, visitor):
    """Nobody is let in by what a replica remembers: tabs are sent to sign in, which works."""
    ada = visitor()
    await ada.sign_in(ADA)
    tab = await opened(site, site.both[0], ada, "emptied")
    site.redis.stop()
    site.redis.start()
    await tab.until(lambda: tab.sees.get("leaving_to"), 10)  # whoever listens anew looks at all it has open
    await _healed(visitor(), GRACE)
    await _healed(ada, ADA)


class Crowd:
    """A few people who sign in again and again through the proxy, and one who stays signed in and comes back."""

    def __init__(self, site, visitor):
        self.site, self.visitor = site, visitor
        self.signed_in, self.retried, self.refused = 0, [], []
        self.over = asyncio.Event()

    async def newcomer(self):
        while not self.over.is_set():
            for _ in range(10):
                browser = self.visitor()
                try:
                    async with asyncio.timeout(BUSY):
                        await browser.sign_in(GRACE)
                    self.signed_in += 1
                    break
                except (AssertionError, TimeoutError, OSError, EOFError, websockets.WebSocketException) as why:
                    self.retried.append(f"{type(why).__name__}: {why}")
                    await asyncio.sleep(0.3)
                finally:
                    await browser.close()
            else:
                self.refused.append("a newcomer")
            await asyncio.sleep(0.2)

    async def returning(self, browser):
        while not self.over.is_set():
            try:
                async with asyncio.timeout(BUSY):
                    tab = await browser.see("/", lambda sees: sees.get("is_hydrated") or sees.get("leaving_to"))
                if not tab.sees.get("check_auth"):
                    self.refused.append("somebody who is signed in")
            except (AssertionError, TimeoutError, OSError, EOFError, websockets.WebSocketException) as why:
                self.retried.append(f"page: {type(why).__name__}: {why}")
            await browser.close()
            await asyncio.sleep(0.2)

    async def during(self, ada, what):
        people = [asyncio.create_task(self.newcomer()) for _ in range(3)] + [asyncio.create_task(self.returning(ada))]
        await asyncio.sleep(1)
        for step in what:
            await asyncio.to_thread(step)
        await asyncio.sleep(1)
        self.over.set()
        await asyncio.gather(*people)


@pytest.mark.slow
async def test_a_replica_that_is_killed_costs_a_retry_at_most(site, visitor):
    """Killed in the middle of sign-ins, the other goes on: whoever tries again gets in, and returning tabs are in."""
    ada, one = visitor(), site.both[0]
    await ada.sign_in(ADA)
    tab = await opened(site, one, ada, "bereaved")
    crowd = Crowd(site, visitor)
    await crowd.during(ada, [one.kill, lambda: time.sleep(2)])
    assert crowd.refused == []
    assert crowd.signed_in > 5
    assert tab.ended.is_set()
    tab = await RawTab.open(site.both[1].url, "/reports", token="bereaved", cookie=ada.cookie, origin=site.url)
    # Redis still has the key as the dead socket's, for which nobody answers.
    await tab.until(lambda: tab.sees.get("is_hydrated"), 10)
    assert (tab.sees["owner"], tab.new_token) == ("Reports for Ada Lovelace", "")
    await asyncio.to_thread(one.start)


@pytest.mark.slow
async def test_a_rolling_restart_signs_nobody_out_and_loses_no_sign_in(site, visitor):
    """One after the other is stopped and started under load: no sign-in needs another try, and nobody is out."""
    ada = visitor()
    await ada.sign_in(ADA)
    tab = await opened(site, site.both[0], ada, "moving")
    crowd = Crowd(site, visitor)
    await crowd.during(ada, [step for replica in site.both for step in (replica.stop, replica.start)])
    assert crowd.refused == crowd.retried == []
    assert crowd.signed_in > 10
    assert tab.ended.is_set()
    tab = await opened(site, site.both[1], ada, "moving")
    assert tab.sees["owner"] == "Reports for Ada Lovelace"


def test_the_console_has_no_traceback(site):
    """Whatever happened to Redis and the replicas, the operator reads sentences."""
    console = site.console()
    assert "Traceback" not in console, console[console.index("Traceback") - 500 :][:5000]
