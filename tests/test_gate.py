"""Attacks on the raw socket and over HTTP, each with its control: the same frames succeed for their owner."""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest
import websockets
from conftest import clean_environ
from memory_page import MemoryPage, loading, running_gate
from raw_browser import Browser
from raw_tab import APP_STATE, HYDRATE, ROOT_STATE, RawTab

from azure_auth import audit
from azure_auth.auth.gate.tabs import Tabs
from azure_auth.demo.people import PEOPLE
from azure_auth.errors import TooManyTabs

pytestmark = pytest.mark.anyio
ADA, GRACE = PEOPLE[0].oid, PEOPLE[1].oid
REPORTS = f"{APP_STATE}.azure_auth___pages___reports____reports"
PLAIN = f"{ROOT_STATE}.azure_auth___pages___reports____plain"
GUESTS = f"{ROOT_STATE}.azure_auth___pages___reports____guests"
PAGE = "/reports?tab=2"
CANARY = "salaries-of-everybody"
"""What the page in `tests/site` shows to whoever may see it."""


@pytest.fixture
async def grace(visitor) -> Browser:
    browser = visitor()
    await browser.sign_in(GRACE)
    return browser


@pytest.fixture
def work(production) -> Callable[[], list[str]]:
    """What handlers have done since the last look."""
    seen = 0

    def look() -> list[str]:
        nonlocal seen
        lines = production.work()
        new, seen = lines[seen:], len(lines)
        return new

    look()
    return look


def text(tab: RawTab) -> str:
    """All that a tab was ever sent."""
    return json.dumps(tab.updates)


async def loaded(browser: Browser, path: str = PAGE) -> RawTab:
    tab = await browser.open(path)
    await tab.until(lambda: tab.sees.get("is_hydrated"))
    return tab


async def dealt_with(tab: RawTab, asked_before: int = 0) -> None:
    """Wait until the server is through with all that a tab sent: events of one tab are taken in order."""
    if tab.sees.get("check_auth"):
        mark = str(uuid.uuid4())
        await tab.send(f"{REPORTS}.add", {"row": mark})
        await tab.until(lambda: mark in str(tab.updates[-1]))
    else:
        told = sum("failure_rx_state_" in str(update) for update in tab.updates)
        await tab.send(f"{APP_STATE}.callback")
        await tab.until(lambda: sum("failure_rx_state_" in str(update) for update in tab.updates) > told + asked_before)


async def test_a_page_of_a_developer_who_did_nothing_is_protected(visitor, ada, work):
    """A stranger's page load runs no handler, shows nothing and leads to a sign-in; its owner's works."""
    stranger = await visitor().open(PAGE)
    await stranger.until(lambda: stranger.sees.get("leaving_to"))
    assert "/auth/sign-in?return_to=%2Freports%3Ftab%3D2" in stranger.sees["leaving_to"]
    assert CANARY not in text(stranger)
    assert work() == []
    tab = await loaded(ada)
    assert tab.sees["rows"] == [CANARY]
    assert (tab.sees["owner"], tab.sees["computed"]) == ("Reports for Ada Lovelace", f"{CANARY} computed")
    assert tab.sees["told"] == f"{CANARY} told by a component"
    assert work() == ["load", "open"]


async def test_a_refused_event_names_its_handler_and_page(production, visitor):
    """So a developer who forgot `@public` sees which; the query, which may have a code, is left out."""
    stranger = await loaded(visitor(), "/logout?code=x")
    before = production.console()
    await stranger.send(f"{REPORTS}.add", {"row": "x"})
    end = time.monotonic() + 5
    while production.console() == before and time.monotonic() < end:
        await asyncio.sleep(0.02)
    line = json.loads(production.console().removeprefix(before).splitlines()[0])
    assert (line["event"], line["handler"], line["page"]) == ("refused", f"{REPORTS}.add", "/logout")


async def test_a_page_that_is_a_component_is_protected(production, visitor, ada):
    """A page given as what its function returned leads a stranger to a sign-in too, and its owner sees it."""
    stranger = await visitor().open("/built")
    await stranger.until(lambda: stranger.sees.get("leaving_to"))
    assert "/auth/sign-in?return_to=%2Fbuilt" in stranger.sees["leaving_to"]
    assert "Traceback" not in production.console()
    assert (await loaded(ada, "/built")).sees["check_auth"] is True


async def test_a_fragment_is_no_part_of_a_page(visitor, ada):
    """A public page with one is public; a protected one leads to a sign-in and back, without it."""
    tab = await loaded(visitor(), "/logout#part?x=1")
    assert tab.sees["is_hydrated"]
    assert not tab.sees.get("leaving_to")
    stranger = await visitor().open("/reports?tab=2#part?x=1")
    await stranger.until(lambda: stranger.sees.get("leaving_to"))
    assert "return_to=%2Freports%3Ftab%3D2&" in stranger.sees["leaving_to"]
    assert "part" not in stranger.sees["leaving_to"]
    assert (await loaded(ada, "/reports?tab=2#part")).sees["owner"] == "Reports for Ada Lovelace"
    assert "#part" not in text(ada.tab)


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        ("flow", "This sign-in cannot be finished here"),
        ("azure_auth", "This sign-in cannot be finished here"),
        ("session", "We stopped trying"),
        ("browser", ""),
    ],
)
async def test_a_browser_that_keeps_no_cookies_reads_so(production, visitor, kind, heading):
    """Whichever of ours it does not keep, it ends on a page with words and a way on; without its name it gets in."""
    browser, ways = visitor(), []
    browser.keeps = lambda name: kind not in name
    tab = await browser.see("/", lambda sees: sees.get("leaving_to"))
    while tab.sees.get("leaving_to"):
        ways.append(tab.sees["leaving_to"])
        url = urlsplit((await browser.go(ways[-1])).location)
        if "/oauth2/" in url.path:
            await browser.go(url.geturl())
            url = urlsplit((await browser.go(url.geturl(), {"person": ADA})).location)
        tab = await browser.see(f"{url.path}?{url.query}", lambda sees: sees.get("ticket") or sees.get("failure"))
        if tab.sees.get("ticket"):
            page = urlsplit((await browser.go(f"{production.url}/auth/session", tab.sees["ticket"])).text)
            tab = await browser.see(page.path, lambda sees: sees.get("leaving_to") or sees.get("is_hydrated"))
    assert len(ways) == (3 if kind == "session" else 1)
    assert tab.sees.get("failure", {}).get("heading", "") == heading
    assert bool(tab.sees.get("check_auth")) is (not heading)
    assert heading == "" or "/auth/sign-in" in tab.sees["failure"]["again"]


async def test_a_public_page_shows_a_stranger_nothing_else(visitor):
    """Where strangers may be, the states of other pages do not reach them, computed or not, whatever runs there."""
    tab = await loaded(visitor(), "/logout")
    for handler in ("logout", "callback", "require_auth"):
        await tab.send(f"{APP_STATE}.{handler}")
    await dealt_with(tab, asked_before=1)
    assert CANARY not in text(tab)
    told = {name for update in tab.updates for name in update["delta"] if "___pages___" in name or "tally" in name}
    assert told == {GUESTS}  # which is public


@pytest.mark.parametrize("cookie", ["none", "another person's"])
@pytest.mark.parametrize("stolen", ["client token", "derived key", "new token"])
async def test_no_token_opens_anybodys_state(production, ada, grace, visitor, work, stolen, cookie):
    """Whatever value of a tab is known, without its cookie it opens nothing; with it, it does."""
    tab = await loaded(ada)
    await tab.send(f"{REPORTS}.add", {"row": "only for Ada"})
    await tab.until(lambda: "only for Ada" in tab.sees["rows"])
    token = {"client token": ada.token, "derived key": tab.sees["rx_router_session"]["client_token"]}.get(stolen)
    twin = None
    if token is None:
        twin = await RawTab.open(production.url, PAGE, token=ada.token, cookie=ada.cookie)
        await twin.until(lambda: twin.new_token)
        token = twin.new_token
    thief = grace if cookie != "none" else visitor()
    work()
    for connected in (True, False):
        robbed = await RawTab.open(production.url, PAGE, token=token, cookie=thief.cookie)
        await robbed.until(lambda robbed=robbed: robbed.sees.get("leaving_to") or robbed.sees.get("is_hydrated"))
        await robbed.send(f"{REPORTS}.add", {"row": "stolen"})
        await robbed.send("no.such_handler")
        await dealt_with(robbed)
        assert "only for Ada" not in text(robbed)
        assert "Ada Lovelace" not in text(robbed)
        await robbed.close()
        assert ("add" in work()) is (cookie != "none")  # Grace adds to a page of her own
        if connected:
            await ada.close()
    again = await RawTab.open(production.url, PAGE, token=ada.token, cookie=ada.cookie)
    await again.until(lambda: again.sees.get("is_hydrated"))
    await again.send(f"{REPORTS}.add", {"row": "more"})
    await again.until(lambda: "more" in again.sees["rows"])
    assert "only for Ada" in text(again) or CANARY in text(again)
    for one in filter(None, (again, twin)):
        await one.close()


async def test_a_message_named_connect_links_nobody(production, ada, visitor, work):
    """A socket names no other key later, though Socket.IO hands a message called `connect` to the same method."""
    tab = await loaded(ada)
    key = tab.sees["rx_router_session"]["client_token"]
    await ada.close()
    stranger = await loaded(visitor(), "/logout")
    forged = {"QUERY_STRING": f"token={key}", "asgi.scope": {"headers": [], "client": ["127.0.0.1"]}}
    for frame in (["connect", forged, None], ["connect", forged], ["connect"], ["connect", None], ["disconnect"]):
        liar = await loaded(visitor(), "/logout")
        await liar.send_raw(f"42/_event,{json.dumps(frame)}")
        await asyncio.wait_for(liar.ended.wait(), 5)
    again = await loaded(ada)
    assert again.sees["owner"] == "Reports for Ada Lovelace"
    work()
    stranger._address = PAGE
    await stranger.send(f"{REPORTS}.add", {"row": "stolen"})
    await stranger.until(lambda: stranger.sees.get("leaving_to"))
    assert CANARY not in text(stranger)
    assert work() == []
    assert "Traceback" not in production.console()
    await again.send(f"{REPORTS}.add", {"row": "her own"})
    await again.until(lambda: "her own" in again.sees["rows"])


async def test_a_duplicated_tab_loads_once_more(production, ada):
    """It is told another client token and loads again; the tab that it was made of goes on."""
    tab = await loaded(ada)
    twin = await RawTab.open(production.url, PAGE, token=ada.token, cookie=ada.cookie)
    await twin.until(lambda: twin.sees.get("leaving_to"))
    assert (twin.sees["leaving_to"], bool(twin.new_token)) == (PAGE, True)
    assert CANARY not in text(twin)
    await twin.close()
    again = await RawTab.open(production.url, PAGE, token=twin.new_token, cookie=ada.cookie)
    await again.until(lambda: again.sees.get("is_hydrated"))
    assert again.sees["owner"] == "Reports for Ada Lovelace"
    await again.close()
    await tab.send(f"{REPORTS}.add", {"row": "still here"})
    await tab.until(lambda: "still here" in tab.sees["rows"])


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Whoever is asked for a sign of life has a moment."""
    monkeypatch.setattr("azure_auth.auth.gate.namespace.ANSWER_SECONDS", 0.05)


@pytest.mark.parametrize("earlier", ["answers", "does not answer", "was cut", "was refused"])
async def test_a_tab_takes_the_place_of_a_socket_that_is_gone(impatient, earlier):
    """Beside one that answers it loads again with another token, and nothing is linked; no code comes to Reflex."""
    tabs = Tabs()
    where = "/callback?code=secret&state=s"
    async with (
        running_gate(tabs) as (gate, passed),
        MemoryPage(gate, tabs, answering=earlier != "does not answer") as first,
    ):
        first.tab.refusal = TooManyTabs() if earlier == "was refused" else None
        await first.loads("/callback")
        assert len(passed) == (0 if earlier == "was refused" else 1)
        if earlier == "was cut":
            await gate.closing.cut(first.tab)
        async with MemoryPage(gate, tabs) as second:
            passed.clear()
            await second.loads(where)
            if earlier == "answers":
                assert passed == []
                assert tabs.at("key") is first.tab
                assert [name for name, _ in second.heard] == ["new_token", "event"]
                assert where in str(second.heard[1])
                assert not first.tab.cut.done()
                await second.sends(f'42/_event,["event",{json.dumps(loading(where))}]')
                assert passed == []
                assert [name for name, _ in second.heard] == ["new_token", "event"] * 2
            else:
                assert passed == [(second.tab.socket, "/callback")]
                assert tabs.at("key") is second.tab
                assert second.heard == []
                assert first.tab.cut.done()
        assert tabs.at("key") is (first.tab if earlier == "answers" else None)


@pytest.mark.parametrize("earlier", ["none", "is gone"])
async def test_two_sockets_of_one_tab_at_once_are_one(impatient, earlier):
    """Whatever the order, one of them is linked and the other loads again."""
    tabs = Tabs()
    async with running_gate(tabs) as (gate, passed), AsyncExitStack() as connected:
        if earlier == "is gone":
            await connected.enter_async_context(MemoryPage(gate, tabs, answering=False))
        both = [await connected.enter_async_context(MemoryPage(gate, tabs)) for _ in range(2)]
        await asyncio.gather(*(page.loads("/") for page in both))
        assert len(passed) == 1
        told = [page.tab.socket for page in both if "new_token" in [name for name, _ in page.heard]]
        assert told == [page.tab.socket for page in both if page.tab.socket != passed[0][0]]


async def test_a_message_behind_the_cut_leads_nobody_away():
    """What a page sent while its socket was cut is dropped: the page is neither linked again nor told to load."""
    tabs = Tabs()
    async with running_gate(tabs) as (gate, passed), MemoryPage(gate, tabs) as page:
        await page.loads(PAGE)
        assert len(passed) == 1
        passed.clear()
        await gate.closing.cut(page.tab)
        assert (page.tab.cut.done(), tabs.at("key"), tabs.of(page.tab.session)) == (True, None, [page.tab])
        await gate.namespace.on_event(page.tab.socket, loading(PAGE))
        await gate.namespace.app.event_processor.join(5)
        assert passed == page.heard == []
        assert (tabs.at("key"), gate.namespace.sid_to_token) == (None, {})


async def test_a_frame_that_is_no_packet_ends_its_socket(monkeypatch):
    """Socket.IO cannot read it; the audit trail says so, and nothing is passed on."""
    tabs, told = Tabs(), []
    monkeypatch.setattr(audit, "record", lambda event, **fields: told.append((event, fields["reason"])))
    async with running_gate(tabs) as (gate, passed), MemoryPage(gate, tabs) as page:
        await page.loads(PAGE)
        passed.clear()
        await page.sends('42/_event,["event",{"name":}]')
        assert page.tab.cut.done()
        assert passed == page.heard == []
    ((event, why),) = told
    assert (event, why.partition(":")[0]) == ("suspicious", "a frame that is no packet")


@pytest.mark.parametrize("query", ["", "&token=", "&token=a&token=b", f"&token={'x' * 65}", "&token=%00", "&token=a_b"])
async def test_one_proper_client_token_or_no_socket(production, query):
    """Missing, empty, repeated, overlong and odd tokens are refused at the handshake; a proper one is not."""
    url = f"ws://127.0.0.1:{production.url.rpartition(':')[2]}/_event/?EIO=4&transport=websocket"
    origin = websockets.Origin(production.url)
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url + query, origin=origin)
    assert refused.value.response.status_code == 403
    async with websockets.connect(f"{url}&token=proper", origin=origin) as socket:
        assert (await socket.recv()).startswith("0")


async def test_forged_router_data_makes_nobody_else(production, ada, visitor, work):
    """What a client says of socket, token, headers and cookie counts for nothing."""
    tab = await loaded(ada)
    work()
    stranger = await loaded(visitor(), "/logout")
    forged = {
        "pathname": "/reports",
        "asPath": PAGE,
        "token": tab.sees["rx_router_session"]["client_token"],
        "sid": tab.sees["rx_router_session"]["session_id"],
        "headers": {"cookie": ada.cookie, "origin": production.url},
        "ip": "127.0.0.1",
    }
    event = {"name": f"{REPORTS}.load", "payload": {}, "router_data": forged}
    await stranger.send_raw(f"42/_event,{json.dumps(['event', event])}")
    await stranger.until(lambda: stranger.sees.get("leaving_to"))
    assert CANARY not in text(stranger)
    assert work() == []
    await tab.send_raw(f"42/_event,{json.dumps(['event', event])}")
    await tab.until(lambda: tab.updates[-1]["delta"].get(REPORTS))
    assert work() == ["load"]


def registered(production) -> dict[str, list[str]]:
    """Every handler of the running app with the names of its arguments, as the app itself has them."""
    script = (
        "import inspect, json; from azure_auth.azure_auth import app\n"
        "from reflex_base.registry import RegistrationContext\n"
        "handlers = RegistrationContext.get().event_handlers.items()\n"
        "print(json.dumps({n: list(inspect.signature(r.handler.fn).parameters)[1:] for n, r in handlers}))"
    )
    environ = {**clean_environ(), "REFLEX_ENV_MODE": "dev", "REFLEX_WEB_WORKDIR": str(production.site / "none")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=production.site, env=environ, capture_output=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


async def test_every_handler_is_refused_to_a_stranger(production, ada, visitor, work):
    """Each registered handler, with arguments that fit: nothing runs, nothing comes; for Ada it does."""
    handlers = registered(production)
    assert {f"{REPORTS}.{name}" for name in ("load", "add", "tick", "slow", "receive")} < set(handlers)
    stranger = await loaded(visitor(), "/logout")
    for path in ("/logout", "/reports"):
        stranger._address = path
        for name, arguments in handlers.items():
            await stranger.send(name, dict.fromkeys(arguments, "x"))
    await dealt_with(stranger, asked_before=2)
    assert CANARY not in text(stranger)
    assert work() == []
    tab = await loaded(ada)
    for name in ("load", "add", "tick", "slow"):
        await tab.send(f"{REPORTS}.{name}", {"row": "x"} if name == "add" else {})
    done: list[str] = []
    while not {"load", "add", "tick", "slow begins"} <= set(done):
        done += work()
        await asyncio.sleep(0.01)
    await tab.send(f"{APP_STATE}.logout")
    await tab.until(lambda: tab.sees.get("leaving_to"))


async def test_a_sign_out_reaches_every_tab_and_all_that_runs(production, ada, visitor, work):
    """Every open tab is told to leave and its socket closes; what ran for them writes no more, here or there."""
    tabs = [await loaded(ada)]
    tabs += [await RawTab.open(production.url, PAGE, token=f"tab-{number}", cookie=ada.cookie) for number in range(5)]
    for tab in tabs:
        await tab.until(lambda tab=tab: tab.sees.get("is_hydrated"))
    await tabs[1].send(f"{REPORTS}.tick")
    await tabs[1].until(lambda: tabs[1].sees["ticks"] > 2)
    await tabs[2].send(f"{REPORTS}.slow")
    while "slow begins" not in work():
        await asyncio.sleep(0.01)
    begun = asyncio.get_running_loop().time()
    await tabs[0].send(f"{APP_STATE}.logout")
    await asyncio.gather(*(asyncio.wait_for(tab.ended.wait(), 5) for tab in tabs[1:]))
    assert asyncio.get_running_loop().time() - begun < 1
    for tab in tabs[1:]:
        assert tab.sees["leaving_to"] == "/logout?because=signed_out&return_to=%2Freports%3Ftab%3D2"
    await tabs[0].until(lambda: tabs[0].sees.get("leaving_to"))
    assert "/oauth2/v2.0/logout?" in tabs[0].sees["leaving_to"]
    work()
    await asyncio.sleep(2)  # longer than the slow handler would still have taken
    assert work() == []
    await tabs[0].send(f"{REPORTS}.add", {"row": "x"})
    again = await RawTab.open(production.url, PAGE, token=ada.token, cookie=ada.cookie)
    await again.until(lambda: again.sees.get("leaving_to"))
    assert CANARY not in text(again)
    assert work() == []
    await again.close()


async def test_no_code_leaves_the_callback_page(production, ada):
    """A tab at `/callback` whose session ends is sent away without the code, which would come to a state and a log."""
    tab = await loaded(ada)
    other = await RawTab.open(production.url, "/callback?code=secret&state=s", token="back", cookie=ada.cookie)
    await other.until(lambda: other.redirects)
    await tab.send(f"{APP_STATE}.logout")
    await other.until(lambda: other.sees.get("leaving_to"))
    assert other.sees["leaving_to"] == "/logout?because=signed_out&return_to=%2Fcallback"


async def test_a_sign_out_that_cannot_be_kept_says_so(production, ada):
    """While the store is locked, signing out works here, shows a page with a reference, and stays true afterwards."""
    tab = await loaded(ada)
    busy = sqlite3.connect(production.site / ".data/sessions.sqlite", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    await tab.send(f"{APP_STATE}.logout")
    await tab.until(lambda: tab.sees.get("failure", {}).get("reference"))
    busy.execute("ROLLBACK")
    busy.close()
    assert tab.sees["failure"]["heading"] == "This site cannot remember anybody right now"
    assert not tab.sees.get("leaving_to")
    again = await ada.open(PAGE)
    await again.until(lambda: again.sees.get("leaving_to"))
    assert CANARY not in text(again)
    assert "Traceback" not in production.console()


async def test_a_link_cannot_keep_somebody_signed_in(production, ada):
    """What `/logout` is told by its address counts there alone: on another page "Sign out" signs out."""
    told = await loaded(ada, "/logout?because=idle&return_to=%2Freports")
    await told.until(lambda: told.sees.get("leaving_to"))
    assert told.sees["leaving_to"] == "/reports"
    tab = await loaded(ada, "/?because=idle")
    assert tab.sees["check_auth"] is True
    await tab.send(f"{APP_STATE}.logout")
    await tab.until(lambda: tab.sees.get("leaving_to"))
    assert "/oauth2/v2.0/logout?" in tab.sees["leaving_to"]


async def test_signing_out_everywhere_ends_all_of_ones_own(ada, grace, visitor):
    """Both browsers of Ada are out, and Grace is not."""
    second = visitor()
    await second.sign_in(ADA)
    tabs = [await loaded(browser) for browser in (ada, second, grace)]
    await tabs[0].send(f"{APP_STATE}.logout_everywhere")
    await asyncio.wait_for(tabs[1].ended.wait(), 5)
    assert not tabs[2].ended.is_set()
    for browser, signed_in in ((ada, False), (second, False), (grace, True)):
        tab = await browser.open("/reports")
        await tab.until(lambda tab=tab: tab.sees.get("leaving_to") or tab.sees.get("is_hydrated"))
        assert bool(tab.sees.get("check_auth")) is signed_in


async def test_signing_in_anew_replaces(production, ada):
    """Two people in one browser: the first one's tabs load again, and the first one's cookie is dead."""
    old = await RawTab.open(production.url, PAGE, token="old", cookie=ada.cookie)
    await old.until(lambda: old.sees.get("is_hydrated"))
    cookie = ada.cookie
    await ada.sign_in(GRACE, anew=True)
    await asyncio.wait_for(old.ended.wait(), 5)
    assert old.sees["leaving_to"] == PAGE
    assert (await loaded(ada)).sees["owner"] == "Reports for Grace Hopper"
    dead = await RawTab.open(production.url, PAGE, token="old", cookie=cookie)
    await dead.until(lambda: dead.sees.get("leaving_to"))
    assert CANARY not in text(dead)
    await dead.close()


async def test_a_planted_cookie_is_nobodys(visitor):
    """An id that an attacker chose is not what the person ends up with (fixation)."""
    victim = visitor()
    victim.cookies["azure_auth_session"] = "p" * 43
    await victim.sign_in(ADA)
    assert victim.cookies["azure_auth_session"] != "p" * 43


JUNK = [
    '42/_event,["event",{"name":7}]',
    '42/_event,["event",{},{}]',
    '42/_event,["client_error",{}]',
    '42/_event,["client_error",{"message":1}]',
    '42/_event,["client_error",{"message":"no.such","other":"x"}]',
    '42/_event,["event",{"name":"no.such.handler","payload":{},"router_data":{}}]',
    f'42/_event,["event",{{"name":"{REPORTS}.add","payload":{{"nope":1}}}}]',
    f'42/_event,["event",{{"name":"{REPORTS}.add","payload":[1]}}]',
    f'42/_event,["event",{{"name":"{REPORTS}.load","payload":{{}},"router_data":"x"}}]',
    f'42/_event,["event",{{"name":"{REPORTS}.load","payload":{{}},"router_data":{{"asPath":{{"a":1}}}}}}]',
    f'42/_event,["event",{{"name":"{HYDRATE}","payload":{{"vars":{{"no.such.state":1}}}},"router_data":{{}}}}]',
    f'42/_event,["event",{{"name":"{HYDRATE}","payload":{{"hashes":"x"}},"router_data":{{}}}}]',
    *(
        f'42/_event,["event",{{"name":"{name}","payload":{{}},"router_data":{route}}}]'
        for name in (HYDRATE, f"{REPORTS}.load", f"{APP_STATE}.callback", f"{APP_STATE}.require_auth")
        for route in (
            '{"asPath":"//[x"}',
            '{"asPath":"@["}',
            '{"asPath":"/logout?x=\\ud800"}',
            '{"asPath":"/callback?state=\\ud800"}',
            '{"asPath":"/","pathname":"\\ud800"}',
            '{"asPath":"/","query":"x"}',
            '{"asPath":"/","query":[1]}',
            '{"asPath":"/","query":{"x":"\\ud800"}}',
        )
    ),
    f'42/_event,["event",{{"name":"{REPORTS}.add","payload":{{"row":"\\ud800"}}}}]',
]


@pytest.mark.parametrize("who", ["a stranger", "Ada"])
async def test_junk_hurts_nobody(production, visitor, ada, who):
    """Malformed and unknown messages leave no traceback, and whoever sent them goes on as before."""
    tab = await loaded(ada) if who == "Ada" else await loaded(visitor(), "/logout")
    for frame in JUNK:
        await tab.send_raw(frame)
    await dealt_with(tab)
    assert not tab.ended.is_set()
    assert "Traceback" not in production.console()
    assert "no.such" not in production.console()


async def test_the_session_route_takes_no_more_than_a_ticket(production, directory, visitor):
    """Only a POST, from our own pages, with the ticket, by its browser, once."""
    browser = visitor()
    ticket = await browser.ticket(ADA)
    url, own = f"{production.url}/auth/session", {"Origin": production.url, "Cookie": browser.cookie}
    async with httpx.AsyncClient() as http:
        assert (await http.get(url, headers=own)).status_code == 405
        for origin in ("http://evil.example", "null", f"{production.url}.evil.example", None):
            headers = {"Cookie": browser.cookie} | ({"Origin": origin} if origin else {})
            assert (await http.post(url, content=ticket, headers=headers)).status_code == 403
        for content, cookie in (
            (ticket, f"azure_auth_flow_{ticket[:12]}={'x' * 150}"),
            (ticket, ""),
            ("t" * 43, browser.cookie),
            (ticket + "x", browser.cookie),
            ("x" * 5_000_000, browser.cookie),
            (b"\xff\x00", browser.cookie),
        ):
            try:
                refused = await http.post(url, content=content, headers={**own, "Cookie": cookie})
            except httpx.TransportError:  # closed before five megabytes were read
                assert len(content) > 1_000_000
                continue
            assert refused.status_code == 200
            assert all("_flow_" in cookie for cookie in refused.headers.get_list("set-cookie"))  # tells of the failure
            assert refused.text.startswith(f"{production.url}/callback")
        taken = await http.post(url, content=ticket, headers=own)
        assert taken.text == f"{production.url}/"
        (session,) = [cookie for cookie in taken.headers.get_list("set-cookie") if "session" in cookie]
        assert re.fullmatch(r"azure_auth_session=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax", session)
        again = await http.post(url, content=ticket, headers=own)
        assert not any("session" in cookie for cookie in again.headers.get_list("set-cookie"))


async def test_http_is_closed_to_strangers(production, ada):
    """A developer's route, uploads and unknown paths need a session; pages, assets and health do not."""
    owner = {"Cookie": ada.cookie}
    async with httpx.AsyncClient(base_url=production.url) as http:
        for path, status in (("/api/figures", 200), ("/nowhere", 404), ("/_upload/x", 404), ("/_event", 404)):
            refused = await http.get(path)
            assert refused.status_code == (404 if path == "/_event" else 401), path
            assert CANARY not in refused.text
            assert (await http.get(path, headers=owner)).status_code == status, path
        for path in ("/%00", f"/{'x' * 300}", f"/{'x/' * 900}"):
            assert (await http.get(path)).status_code == (400 if path == "/%00" else 401)
        for path in ("/", "/reports", "/callback?code=x", "/favicon.ico", "/ping", "/_health"):
            assert (await http.get(path)).status_code == 200, path
        for cookie in ("x" * 43, "x" * 4000, ada.cookie.partition("session=")[2][:43][::-1], "é"):
            headers = {"Cookie": f"azure_auth_session={cookie}".encode()}
            assert (await http.get("/api/figures", headers=headers)).status_code == 401
        twice = f"{ada.cookie}; azure_auth_session={'x' * 43}"
        assert (await http.get("/api/figures", headers={"Cookie": twice})).status_code == 401
        led = await http.get("/api/figures", headers={"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})
        assert (led.status_code, led.headers["location"]) == (303, "/auth/sign-in?return_to=%2Fapi%2Ffigures#")
        for other in ("iframe", "empty"):
            headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": other}
            assert (await http.get("/api/figures", headers=headers)).status_code == 401


async def test_an_upload_is_its_owners(production, ada, grace, work):
    """A stranger's upload is refused before it is read, another person's goes to their own page, and Ada's works."""
    tab = await loaded(ada)
    await loaded(grace)
    work()
    headers = {"Reflex-Client-Token": ada.token, "Reflex-Event-Handler": f"{REPORTS}.receive"}
    derived = {**headers, "Reflex-Client-Token": tab.sees["rx_router_session"]["client_token"]}

    async def upload(headers: dict[str, str], cookie: str = "") -> httpx.Response:
        async with httpx.AsyncClient() as http:
            files = {"files": ("a.txt", b"uploaded text")}
            sent = {**headers, "Cookie": cookie, "Origin": production.url}
            return await http.post(f"{production.url}/_upload", files=files, headers=sent)

    for stolen in (headers, derived):
        with suppress(httpx.ReadError):  # the connection may be closed before the body is sent
            assert (await upload(stolen)).status_code == 401
    assert work() == []
    for stolen in (headers, derived):
        assert "Ada" not in (await upload(stolen, grace.cookie)).text
    assert work() == ["receive", "receive"]
    await tab.send(f"{REPORTS}.add", {"row": "seen"})
    await tab.until(lambda: "seen" in tab.sees["rows"])
    assert "uploaded text" not in text(tab)
    assert "uploaded text" in (await upload(headers, ada.cookie)).text


async def test_a_sign_out_during_an_upload_ends_at_the_directory(production, ada):
    """The tab that signs out leads there, and not to the page for those whose session another tab has ended."""
    tab = await loaded(ada)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(production.url.rpartition(":")[2]))
    lines = ["POST /_upload HTTP/1.1", "Host: localhost", f"Cookie: {ada.cookie}", "Content-Length: 1000"]
    lines += ["Content-Type: multipart/form-data; boundary=b", f"Reflex-Client-Token: {ada.token}"]
    lines += [f"Reflex-Event-Handler: {REPORTS}.receive", "", "--b"]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    await asyncio.sleep(0.3)
    await tab.send(f"{APP_STATE}.logout")
    await tab.until(lambda: tab.sees.get("leaving_to"))
    assert "/oauth2/v2.0/logout?" in tab.sees["leaving_to"]
    assert "because=signed_out" not in text(tab)
    writer.close()
    with suppress(ConnectionError):
        await reader.read()
    assert "Traceback" not in production.console()


async def test_nothing_of_the_person_lies_anywhere(production, directory, visitor):
    """After a sign-in no byte of store, site, build or log has a name, cookie, code or ticket."""
    browser = visitor()
    await browser.sign_in(ADA)
    await loaded(browser)
    (production.site / ".data/canary").write_text("canary-at-rest")
    folders = [production.site, production.log.parent / "web/build", production.log.parent / "web/.states"]
    files = [production.log, *(file for folder in folders for file in folder.rglob("*") if file.is_file())]
    rest = b"\n".join(file.read_bytes() for file in files if "azure_auth/demo" not in str(file))
    assert b"canary-at-rest" in rest
    assert ADA.encode() in rest  # in the audit trail, and nowhere else
    rest = b"\n".join(line for line in rest.splitlines() if b'"event": "' not in line)
    secrets = [*browser.cookies.values(), *browser.secrets, "Lovelace", "ada@contoso.example", ADA]
    assert len(secrets) >= 7
    for secret in secrets:
        assert secret.encode() not in rest, secret


async def test_nothing_secret_is_on_the_wire(production, ada):
    """A tab is sent the fields that its page shows: no id, cookie, hint or code."""
    tab = await loaded(ada)
    wire = text(tab)
    assert "Ada Lovelace" in wire
    for secret in (*ada.cookies.values(), *ada.secrets, ADA, "login_hint", "O."):
        assert secret not in wire, secret
