"""How often something may happen, and how much of it there may be at once."""

import asyncio
import io
import json
import tracemalloc
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest
import reflex as rx
from conftest import KEYS, Clock
from jar import Jar
from memory_page import Alive
from reflex.istate.manager.token import BaseStateToken
from reflex_base.registry import RegistrationContext
from tab import State

from azure_auth import audit, bounds
from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.messages import is_event, is_too_long
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.sessions.limits import Limit
from azure_auth.auth.sessions.store.contract import OneTimeEntry
from azure_auth.auth.sessions.store.one_time import OneTimeEntries
from azure_auth.auth.web.client_address import client_address
from azure_auth.errors import FlowUnknown, TooManyRequests


def test_three_starts_within_a_minute_are_enough():
    """The fourth is refused, until a minute after the first has passed; other tabs are not touched."""
    clock = Clock()
    starts = Limit(3, 60, clock)
    for clock.now in (0, 10, 20):
        assert starts.admit("tab")
    assert not starts.admit("tab")
    assert starts.admit("another")
    clock.now = 59.9
    assert not starts.admit("tab")
    clock.now = 60
    assert starts.admit("tab")
    assert not starts.admit("tab")


def test_success_starts_afresh():
    """Whoever is signed in has used up nothing."""
    starts = Limit(3, 60, Clock())
    for _ in range(10):
        assert starts.admit("tab")
        starts.forget("tab")


def test_quiet_tabs_are_forgotten():
    """What is kept does not grow with the tabs that ever were."""
    clock = Clock()
    starts = Limit(3, 60, clock)
    for number in range(1000):
        clock.now += 1
        starts.admit(str(number))
    assert len(starts._passed) <= 61


def test_nobody_can_fill_it():
    """However many keys come at once, only so many are kept, and the newest among them."""
    starts = Limit(3, 60, Clock())
    for number in range(20_000):
        starts.admit(str(number))
    assert len(starts._passed) <= 5_000
    assert "19999" in starts._passed


def put(things: OneTimeEntries, number: int, address: str) -> str:
    name = f"{address} {number}"
    things.put(name, OneTimeEntry("browser", address, name.encode()), 600)
    return name


def waits(things: OneTimeEntries, name: str) -> bool:
    try:
        return things.consume(name, "browser")[0] == name.encode()
    except FlowUnknown:
        return False


def test_when_it_is_full_the_heaviest_address_loses_first():
    """However many an attacker begins, it is the attacker's own oldest that go, and nobody else's."""
    things = OneTimeEntries(most=100)
    office = [put(things, number, "192.0.2.7") for number in range(30)]
    attack = [put(things, number, "198.51.100.1") for number in range(10_000)]
    assert all(waits(things, name) for name in office)
    assert [name for name in attack if waits(things, name)] == attack[-70:]


def test_what_is_given_out_ends_with_its_time():
    """Nothing is taken after its time, and what nobody took is not kept."""
    clock = Clock()
    things = OneTimeEntries(clock=clock)
    first, second = put(things, 1, "a"), put(things, 2, "a")
    clock.now = 599.9
    assert waits(things, first)
    clock.now = 600
    assert not waits(things, second)
    put(things, 3, "a")
    clock.now = 1200
    put(things, 4, "a")
    assert len(things._entries) == 1
    assert things._of == {"a": ({}, {"a 4": None}, {})}


def scope(peer: str | None, *forwarded: str) -> dict:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    others = [(b"forwarded", b"for=203.0.113.9"), (b"x-real-ip", b"203.0.113.9"), (b"x-client-ip", b"203.0.113.9")]
    return {"type": "http", "client": (peer, 5) if peer else None, "headers": [*headers, *others]}


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, (), "192.0.2.1"),
        (0, ("203.0.113.9",), "192.0.2.1"),
        (1, ("198.51.100.7",), "198.51.100.7"),
        (1, ("203.0.113.9, 198.51.100.7",), "198.51.100.7"),
        (1, ("203.0.113.9", "198.51.100.7"), "198.51.100.7"),
        (2, ("203.0.113.9, 198.51.100.7, 192.0.2.2",), "198.51.100.7"),
        (2, ("198.51.100.7",), "192.0.2.1"),
        (1, (), "192.0.2.1"),
        (1, ("198.51.100.7:51234",), "198.51.100.7"),
        (1, ("[2001:db8:1:2:3::4]:443",), "2001:db8:1:2::/64"),
        (1, ("2001:db8:1:2:ffff::1",), "2001:db8:1:2::/64"),
        (1, ("::ffff:198.51.100.7",), "198.51.100.7"),
        (1, ("x" * 5000,), "x" * 64),
    ],
)
def test_the_address_is_what_our_own_proxies_say(hops, forwarded, address):
    """So many entries as there are proxies of ours count, from the end; no other header does."""
    assert client_address(scope("192.0.2.1", *forwarded), hops) == address


def test_a_peer_without_an_address_is_one():
    """On a socket of this machine alone there is none; ::1 stays itself."""
    assert client_address(scope(None), 0) == ""
    assert client_address(scope("::1"), 0) == "::1"


@pytest.fixture
def trail():
    """What the audit trail has, once it is closed."""
    stream = io.StringIO()
    writing = audit.writing(stream)
    writing.__enter__()

    def lines() -> list[dict[str, str]]:
        writing.__exit__(None, None, None)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return lines


@pytest.fixture
async def gate(sign_in, monkeypatch) -> AsyncIterator[Gate]:
    """A gate that has few strangers, for a moment, and notes whom it sends away in `dismissed`."""
    monkeypatch.setattr(bounds, "STRANGERS", 5)
    monkeypatch.setattr(bounds, "STRANGER_SECONDS", 0.2)
    monkeypatch.setattr(bounds, "STRANGER_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(bounds, "STRANGER_STATE_SECONDS", 0.2)
    context = RegistrationContext.set(RegistrationContext.ensure_context().fork())  # one app for each
    app = rx.App()
    app._enable_state()
    made = Gate(app, sign_in.sessions, Tabs(), State, sign_in.start_url)
    made.dismissed = []

    async def dismiss(tab: Tab) -> None:
        made.dismissed.append(tab)

    monkeypatch.setattr(made.closing, "dismiss", dismiss)
    yield made
    await app.state_manager.close()
    RegistrationContext.reset(context)


def stranger(number: int, address: str) -> Tab:
    tab = Tab.of(f"tab-{address}-{number}", None)
    tab.address, tab.frames = address, Alive()
    return tab


@pytest.mark.anyio
async def test_of_too_many_strangers_the_heaviest_loses_its_oldest(gate, trail):
    """Each socket above the number costs one of whoever has most, also when they come in one burst."""
    tabs = [stranger(0, "office"), *(stranger(number, "attacker") for number in range(10))]
    connected = [gate._tabs.connected(tab) for tab in tabs]
    for tab, connection in zip(tabs, connected, strict=True):
        gate.welcome(tab)
        connection.__enter__()
    await asyncio.sleep(0.05)
    assert gate.dismissed == tabs[1:7]
    assert ("limited", "attacker") in [(line["event"], line["address"]) for line in trail()]
    for connection in connected:
        connection.__exit__(None, None, None)


@pytest.mark.anyio
async def test_a_stranger_stays_for_a_while_only(gate):
    """After its time the socket is closed."""
    tab = stranger(0, "office")
    with gate._tabs.connected(tab):
        gate.welcome(tab)
        await asyncio.sleep(0.1)
        assert gate.dismissed == []
        await asyncio.sleep(0.2)
        assert gate.dismissed == [tab]


@pytest.mark.anyio
async def test_a_strangers_state_is_forgotten(gate):
    """After two minutes (here: a moment), and the oldest at once when there are too many; no lock stays."""
    manager = gate.namespace.app.state_manager
    tabs = [stranger(number, "office") for number in range(8)]
    for tab in tabs:
        token = BaseStateToken(ident=tab.state_key, cls=rx.State)
        async with manager.modify_state(token):
            pass
        await gate.left(tab)
    kept = {tab.state_key for tab in tabs[3:]}
    assert set(manager.states) == set(manager._states_locks) == kept
    with gate._tabs.connected(tabs[7]):  # it came back
        await asyncio.sleep(0.3)
        assert set(manager.states) == {tabs[7].state_key}
    await gate.left(tabs[7])
    await asyncio.sleep(0.3)
    assert manager.states == manager._states_locks == manager._token_expires_at == {}


def event(**route: object) -> dict[str, object]:
    return {"name": f"{State.get_full_name()}.require_auth", "payload": {}, "router_data": route}


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        (event(pathname="/", asPath="/"), True),
        (event(pathname="/callback", asPath=f"/callback?code={'x' * 4000}"), True),
        (event(pathname="/", asPath="/" + "x" * 20_000), False),
        (event(pathname="/" + "x" * 20_000, asPath="/"), False),
        (event(pathname="/", asPath="/", query={"a": "x" * 20_000}), False),
        (event(pathname="/", asPath="/", other=["x" * 20_000]), False),
    ],
)
def test_a_message_says_little_of_its_page(tab, message, taken):
    """A code of Entra's has room; what a state would have to keep of 20,000 characters is no event."""
    assert is_event(message)
    assert is_too_long(message) is not taken


def test_addresses_that_are_too_long_stay_in_no_cache(tab):
    """`urlsplit` keeps its last 128 arguments for good: a stranger's would take 200 MB."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(40):
            address = f"/{number}" + "\N{GRINNING FACE}" * (bounds.FRAME_CHARACTERS // 2)
            message = event(pathname="/", asPath=address)
            assert is_event(message)
            assert is_too_long(message)
        del address, message
        assert tracemalloc.get_traced_memory()[0] - before < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.anyio
async def test_a_limit_is_a_page_with_a_sentence(tab, sign_in, trail, monkeypatch):
    """One start more of a browser in a minute, and too many of an address, lead to our page; the trail says why."""
    monkeypatch.setattr(
        "azure_auth.auth.sign_in_limits._MOST",
        {"tab": 3, "browser": 20, "nameless": 12_000, "address": 21, "known": 20, "old": 20},
    )
    browser, another = Jar(azure_auth_browser=KEYS.new_name()), Jar()
    for number in range(20):
        assert "/oauth2/" in await browser.begin(sign_in, tab=f"{number:043}", address="192.0.2.7")
    uri = await browser.begin(sign_in, tab="t" * 43, address="192.0.2.7")
    url = urlsplit(uri)
    await tab.opens(f"{url.path}?{url.query}", "callback")
    assert tab.told["failure"]["heading"] == TooManyRequests().heading
    assert "/oauth2/" in await another.begin(sign_in, address="192.0.2.7")  # of the same office
    assert (await another.begin(sign_in, address="192.0.2.7"))[:-10] == uri[:-10]  # but for the reference
    assert "/oauth2/" in await another.begin(sign_in, address="192.0.2.8")
    limited = [line["reason"] for line in trail() if line["event"] == "limited"]
    assert limited == ["starts of one browser", "starts of one address"]


@pytest.mark.anyio
async def test_an_office_gets_in(sign_in):
    """300 people of one address begin and end within a minute, with some tries to spare."""
    for number in range(300):
        for _ in range(3):
            await sign_in._limits.admit("start", f"{number:043}", "192.0.2.7")
            await sign_in._limits.admit("callback", f"{number:043}", "192.0.2.7")


@pytest.mark.anyio
async def test_unknown_sids_are_limited(sign_in, trail, monkeypatch):
    """An address can only ask so often, and then nothing is looked up; others still can."""
    monkeypatch.setattr("azure_auth.auth.sign_in_limits._MOST_SIDS", 1)
    await sign_in.end_by_directory("no sid", "192.0.2.7")
    ended: list[str] = []
    sign_in.sessions.end_by_directory = lambda sid: noted(ended, sid)
    sid = "5e551011-0000-4000-8000-000000000001"
    await sign_in.end_by_directory(sid, "192.0.2.7")
    assert ended == []
    await sign_in.end_by_directory(sid.upper(), "192.0.2.8")
    assert ended == [sid]
    assert [line["reason"] for line in trail()] == ["front-channel sign-outs of an address"]


async def noted(ended: list[str], sid: str) -> None:
    ended.append(sid)


def test_forged_addresses_change_nothing(production):
    """The running app, without proxies of ours, audits the peer whatever the headers say."""
    forged = {"X-Forwarded-For": "203.0.113.77", "Forwarded": "for=203.0.113.77", "X-Real-IP": "203.0.113.77"}
    assert httpx.get(f"{production.url}/api/figures", headers=forged).status_code == 401
    httpx.get(f"{production.url}/auth/sign-in", headers=forged)
    assert "203.0.113.77" not in production.console()
