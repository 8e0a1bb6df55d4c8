"""What comes in is bounded: each attack beside a control, and each number of `bounds` where it holds."""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from behind import connections
from memory_page import Alive, gate_of, of_ada
from raw_socket import RawSocket, new_token
from raw_tab import APP_STATE, HYDRATE, ON_LOAD, ROOT_STATE, RawTab
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from test_budget import resident_megabytes
from test_gate import loaded
from test_requests import body_in_time, longest_boundary, longest_cookies, longest_headers, longest_others
from test_websockets import a_strangers_websocket, longest_message, messages_ahead

from azure_auth import audit, bounds
from azure_auth.auth.gate import reflex_internals, updates
from azure_auth.auth.gate.frames import Frames
from azure_auth.auth.gate.messages import _fits, is_event, is_too_long, takes
from azure_auth.auth.gate.pacing import Outgoing, Pace, Paces
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.policy import public
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.auth.web import connections as connections_module
from azure_auth.auth.web.connections import Connections
from azure_auth.auth.web.endpoints import Endpoint, Part
from azure_auth.bounds import MessageRate
from azure_auth.demo.people import PEOPLE
from azure_auth.logs import cut

pytestmark = pytest.mark.anyio
REPORTS = f"{APP_STATE}.azure_auth___pages___reports____reports"
COSTLY = f"{ROOT_STATE}.azure_auth___pages___reports____costly"
EXCEPTION = f"{ROOT_STATE}.reflex___state____frontend_event_exception_state.handle_frontend_exception"
PAGE = "/reports?tab=2"
LONG = 250_000
"""Characters of a message that is nearly as long as may be."""


@pytest.fixture
async def raw(production) -> AsyncIterator[Callable]:
    """Opens sockets by hand, and closes them after the test."""
    opened: list[RawSocket] = []

    async def open_socket(**options: str) -> RawSocket:
        opened.append(await RawSocket.open(production.url, **{"token": new_token(), **options}))
        return opened[-1]

    yield open_socket
    for socket in opened:
        socket.close()


@asynccontextmanager
async def nobody_waits(url: str, seconds: float) -> AsyncIterator[None]:
    """Ask for `/ping` all the while; none of the answers may take longer."""
    waits, over = [], asyncio.Event()

    async def ping() -> None:
        async with httpx.AsyncClient() as http:
            while not over.is_set():
                begun = time.monotonic()
                assert (await http.get(f"{url}/ping", timeout=60)).status_code == 200
                waits.append(time.monotonic() - begun)
                await asyncio.sleep(0.01)

    pinging = asyncio.create_task(ping())
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        over.set()
        await pinging
    assert len(waits) > 2
    assert max(waits) < seconds, max(waits)


async def answered(tab: RawTab) -> None:
    """Wait until the server is through with all that a signed-in tab sent before."""
    mark = str(uuid.uuid4())
    await tab.send(f"{REPORTS}.add", {"row": mark})
    await tab.until(lambda: mark in tab.sees["rows"])


def event(name: str, payload: object, path: str = "/logout") -> str:
    return json.dumps({"name": name, "payload": payload, "router_data": {"pathname": path, "asPath": path}})


def letters(kind: str) -> str:
    return {"letters": "a" * LONG, "backslashes": "\\" * (LONG // 2), "words": "code_" * (LONG // 5)}[kind]


@pytest.mark.parametrize("kind", ["letters", "backslashes", "words"])
async def test_no_message_stops_the_site(production, visitor, ada, kind):
    """What is long and wrong is refused while others are served: a stranger's, and a colleague's."""
    stranger, tab = await loaded(visitor(), "/logout"), await loaded(ada)
    text = letters(kind)
    async with nobody_waits(production.url, 1):
        for one in (stranger, tab):
            await one.send(f"{ROOT_STATE}.set_is_hydrated", {"value": text})
            await one.send(f"{COSTLY}.count", {"step": text, "more": []})
            await one.send(EXCEPTION, {"info": text, "component_stack": ""})
            report = {"message": text, "error_type": "x"}
            await one.send_raw(f"42/_event,{json.dumps(['client_error', report], ensure_ascii=False)}")
        await answered(tab)
    assert text[:9_000] not in production.console()


async def test_an_exception_of_a_browser_is_cut_before_it_is_searched(production, ada):
    """Reflex's patterns for it are quadratic."""
    tab = await loaded(ada)
    text = "TypeError: can't access property \"" * (LONG // 36)
    async with nobody_waits(production.url, 1):
        await tab.send(EXCEPTION, {"info": text, "component_stack": ""})
        await answered(tab)


ODD = {
    "binary": b"x",
    "a binary event": '451000000000-/_event,["event",{"_placeholder":true,"num":0}]',
    "a binary answer": "461-/_event,1[]",
    "a second connection": f'40/_event,{{"event":{event(HYDRATE, {})}}}',
    "another namespace": "40/other,{}",
    "the main namespace": "40{}",
    "an event elsewhere": f'42["event",{event(HYDRATE, {})}]',
    "an event to answer": f'42/_event,7["event",{event(HYDRATE, {})}]',
    "an answer": "43/_event,1[1]",
    "a refusal": '44/_event,"x"',
    "another event": '42/_event,["other",{}]',
    "an event called connect": '42/_event,["connect",{}]',
    "an event called ping": '42/_event,["ping"]',
    "no event": '42/_event,["event"]',
    "an event of text": '42/_event,["event","text"]',
    "a broken event": '42/_event,["event",{',
    "a deep event": '42/_event,["event",{"a":' + "[" * 200_000,
    "a long number": '42/_event,["event",{"a":' + "9" * 200_000 + "}]",
    "a probe": "2probe",
    "an upgrade": "5",
    "an unasked pong": "3",
    "a close": "1",
    "nothing": "",
    "no packet": "4",
    "a message too long": "42/_event," + f'["event",{event(HYDRATE, {"x": "x" * bounds.FRAME_CHARACTERS})}]',
}


@pytest.mark.parametrize("name", ODD)
async def test_the_first_frame_that_no_page_sends_ends_the_socket(production, raw, name):
    """Whatever it is; beside it, a page's own frames are answered."""
    socket, other = await raw(), await raw()
    for one in (socket, other):
        await one.load("/logout")
    with suppress(OSError):
        await socket.send(ODD[name])
    assert await socket.ends(2)
    await other.send(f'42/_event,["event",{event(ON_LOAD, {})}]')
    assert not await other.ends(0.2)
    assert "Traceback" not in production.console()


async def test_an_event_before_the_connection_ends_the_socket(raw):
    """Only a page that has connected sends events."""
    socket = await raw()
    await socket.send(f'42/_event,["event",{event(ON_LOAD, {})}]')
    assert await socket.ends(2)


async def test_announced_attachments_cost_nothing(production, raw):
    """A thousand binary frames of 200 kB behind an event that announces a billion: not even the second is read."""
    before = resident_megabytes(production.pid)
    socket = await raw()
    await socket.load("/logout")
    sent = 0
    with suppress(OSError):
        await socket.send(ODD["a binary event"])
        for _ in range(1_000):
            await socket.send(b"x" * 200_000)
            sent += 1
    assert await socket.ends(2)
    assert resident_megabytes(production.pid) - before < 20


async def test_connecting_and_disconnecting_again_and_again_leaves_nothing(raw):
    """A socket connects once, and a page that disconnects is gone."""
    socket = await raw()
    await socket.load("/logout")
    await socket.send("41/_event,")
    await socket.load("/logout")
    assert await socket.ends(2)


async def test_a_stranger_who_is_dismissed_is_gone(raw, visitor, production):
    """The socket ends at once though its client answers no Close and reads nothing; those that came later stay."""
    browser = visitor()
    await browser.go(f"{production.url}/auth/sign-in")
    sockets = [await raw(cookie=browser.cookie) for _ in range(bounds.STRANGERS_OF_BROWSER)]
    for socket in sockets:
        await socket.load("/logout")
    assert not await sockets[0].ends(0.2)
    await (await raw(cookie=browser.cookie)).load("/logout")
    assert await sockets[0].ends(bounds.GONE_SECONDS)
    assert not await sockets[1].ends(0.2)


@pytest.mark.slow
async def test_a_stranger_who_does_not_answer_is_gone(raw, visitor):
    """An unfinished message is held by the server, and by no rule of ours; who sends one cannot answer a ping."""
    tab = await loaded(visitor(), "/logout")
    silent = await raw()
    await silent.load("/logout")
    assert await silent.ends(3 * bounds.STRANGER_ANSWER_SECONDS)
    assert not tab.ended.is_set()


@pytest.mark.parametrize("who", ["a stranger", "Ada"])
async def test_vars_of_protected_states_cost_a_stranger_nothing(production, visitor, ada, who):
    """They are not computed at hydrate, nor at a public event; for somebody signed in they are."""
    queries = production.site / ".data/queries"
    queries.parent.mkdir(exist_ok=True)
    queries.write_text("")
    tab = await loaded(visitor() if who == "a stranger" else ada, "/logout?because=idle" if who != "Ada" else PAGE)
    for _ in range(3):
        await tab.send(f"{APP_STATE}.callback")
    await tab.until(lambda: sum("failure_rx_state_" in str(update) for update in tab.updates) >= 3 or who == "Ada")
    if who == "Ada":
        await answered(tab)
    assert bool(queries.read_text()) is (who == "Ada")
    assert ("7" in str(tab.sees.get("rows_there_are", ""))) is (who == "Ada")


@pytest.mark.slow
async def test_a_colleagues_queue_holds_no_more_than_its_share(production, ada, visitor):
    """Two thousand events of 200 kB behind a slow one are read later; a colleague waits for none of them."""
    tab = await loaded(ada)
    other = visitor()
    await other.sign_in(PEOPLE[1].oid)
    bystander = await loaded(other)
    before = resident_megabytes(production.pid)
    for _ in range(6):
        await tab.send(f"{REPORTS}.slow")
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for _ in range(2_000):
            await tab.send(f"{REPORTS}.add", {"row": "x" * 200_000})
            sent += 1

    flooding = asyncio.create_task(flood())
    most = 0.0
    for _ in range(6):
        begun = time.monotonic()
        await answered(bystander)
        assert time.monotonic() - begun < 0.5
        await asyncio.sleep(1)
        most = max(most, resident_megabytes(production.pid) - before)
    flooding.cancel()
    with suppress(asyncio.CancelledError):
        await flooding
    assert not tab.ended.is_set()
    assert 0 < sent < 200
    assert most < 100


async def test_long_lists_stop_nobody(production, ada):
    """A hundred thousand numbers are looked through at once, where a page sends a slider's two."""
    tab = await loaded(ada)
    async with nobody_waits(production.url, 0.5):
        for _ in range(20):
            await tab.send(f"{COSTLY}.slide", {"value": [7] * 80_000})
        await tab.send(f"{COSTLY}.slide", {"value": [8]})
        await tab.until(lambda: (tab.sees.get("slid") or [0, 0])[1] == 8)


@pytest.mark.slow
async def test_who_reads_nothing_costs_little(production, ada, raw):
    """Its answers wait, so its messages do, also when it is gone; a client that reads has all of its answers."""
    tab, silent = await loaded(ada), await raw(cookie=ada.cookie)
    await silent.load("/reports")
    before = resident_megabytes(production.pid)

    async def flood(send: Callable[[str], object]) -> None:
        for number in range(3_000):
            row = "x" * 240_000 if number < 8 else "x"
            await send(f'42/_event,["event",{event(f"{REPORTS}.add", {"row": row}, "/reports")}]')

    flooding = asyncio.create_task(flood(silent.send))
    await asyncio.sleep(8)
    flooding.cancel()
    silent.close()
    await asyncio.sleep(2)
    assert resident_megabytes(production.pid) - before < 150
    await answered(tab)


async def test_tabs_that_lost_their_network_all_come_back(production, ada, raw):
    """Their old sockets count for nothing: each takes the place of its own."""
    tokens = [new_token() for _ in range(30)]
    for token in tokens:
        await (await raw(token=token, cookie=ada.cookie)).load("/built")
    again = [await RawTab.open(production.url, "/built", token=token, cookie=ada.cookie) for token in tokens]
    for tab in again:
        await tab.until(lambda tab=tab: tab.sees.get("is_hydrated") or tab.sees.get("failure") or tab.new_token, 10)
    assert [bool(tab.sees.get("is_hydrated")) for tab in again] == [True] * len(again)


async def test_above_the_rate_messages_wait_and_none_is_lost(production, ada):
    """A thousand at once are worked on in order, in the time that the rate gives them, and the socket stays."""
    tab = await loaded(ada)
    begun, number = time.monotonic(), 1_000
    async with nobody_waits(production.url, 1):
        for value in range(number):
            await tab.send(f"{COSTLY}.slide", {"value": [value]})
        await tab.until(lambda: (tab.sees.get("slid") or [0, -1])[1] == number - 1)
    assert tab.sees["slid"][0] == number
    assert time.monotonic() - begun > number / bounds.SOCKET.events - bounds.BURST_SECONDS - 1


async def test_a_busy_page_notices_nothing(production, ada):
    """A slider at sixty a second, a timer of 100 ms and an upload of 100 MB: each event is answered at once."""
    tab = await loaded(ada)
    late: list[float] = []

    async def every(seconds: float, times: int, send: Callable[[int], object]) -> None:
        due = asyncio.get_running_loop().time()
        for number in range(times):
            await send(number)
            due += seconds
            await asyncio.sleep(due - asyncio.get_running_loop().time())

    async def slide(number: int) -> None:
        begun = time.monotonic()
        await tab.send(f"{COSTLY}.slide", {"value": [number]})
        if number % 10 == 0:
            await tab.until(lambda: (tab.sees.get("slid") or [0, -1])[1] >= number)
            late.append(time.monotonic() - begun)

    async def upload() -> httpx.Response:
        headers = {"Cookie": ada.cookie, "Reflex-Client-Token": "uploads", "Reflex-Event-Handler": f"{REPORTS}.receive"}
        headers["Origin"] = production.url
        async with httpx.AsyncClient(timeout=60) as http:
            files = {"files": ("a.txt", b"x" * 100_000_000)}
            return await http.post(f"{production.url}/_upload", files=files, headers=headers)

    ticking = every(0.1, 60, lambda _: tab.send(f"{COSTLY}.count", {"step": 1, "more": []}))
    sliding = every(1 / 60, 360, slide)
    (response, *_) = await asyncio.gather(upload(), ticking, sliding)
    assert response.status_code == 200
    await tab.until(lambda: tab.sees["slid"][0] == 360)
    assert sorted(late)[len(late) // 2] < 0.1, late


async def test_a_full_session_refuses_its_newest_tab(production, ada, raw):
    """It gets a page that says so, and the next ones not even that; older tabs go on, and a closed one makes room."""
    tabs = [await loaded(ada)]
    for _ in range(bounds.SESSION_TABS - 1):
        tabs.append(await RawTab.open(production.url, PAGE, token=new_token(), cookie=ada.cookie))
        await tabs[-1].until(lambda: tabs[-1].sees.get("is_hydrated"))
    newest = await RawTab.open(production.url, PAGE, token=new_token(), cookie=ada.cookie)
    await newest.until(lambda: newest.sees.get("failure"))
    assert newest.sees["failure"]["heading"] == "Too many tabs"
    refused = [(await raw(cookie=ada.cookie)).status for _ in range(bounds.SESSION_SOCKETS)]
    assert refused[0] == 101
    assert refused[-1] == 403
    await asyncio.wait_for(newest.ended.wait(), bounds.GONE_SECONDS + 1)
    for tab in (tabs[0], tabs[-1]):
        await answered(tab)
    await tabs[0].close()
    await asyncio.sleep(bounds.GONE_SECONDS)
    again = await loaded(ada)
    assert again.sees["owner"] == "Reports for Ada Lovelace"


async def nothing_comes() -> dict:
    return {"type": "http.request"}


def connections_of(*routes: Route) -> tuple[Connections, list[str]]:
    """Connections before an app that answers nothing, and the cookies whose session was asked for."""
    asked: list[str] = []

    async def session(cookies: list[str]) -> None:
        asked.extend(cookies)

    async def read_browser(cookies: list[str]) -> SimpleNamespace:
        asked.extend(cookies)
        return SimpleNamespace(new_name="")

    async def app(scope: dict, receive: object, send: Callable) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    settings = SimpleNamespace(
        public_url="http://localhost:3000",
        backend_url="http://localhost:8000",
        demo=False,
        proxy_hops=0,
        upload_parts=1,
        upload_bytes=200_000_000,
    )
    sign_in = SimpleNamespace(settings=settings, session=session, read_browser=read_browser, browser=lambda _: "")
    sign_in.sessions, sign_in.clock = SimpleNamespace(on_end=[], on_outdated=[]), time.time
    sign_in.flow_cookies = SimpleNamespace(read=lambda _: [], tidied=lambda *_: [])
    sign_in.session_cookie = SimpleNamespace(read=lambda _: "", name="azure_auth_session")
    gate = SimpleNamespace(welcome=lambda _: False)
    api = Starlette(routes=list(routes))
    there = api if routes else app
    return connections(there, sign_in, gate, api=api, is_built=lambda path: path == "/callback"), asked


@pytest.mark.parametrize("way", ["a socket", "a file", "a page", "the callback", "the start", "a POST"])
@pytest.mark.parametrize("origin", ["http://localhost:3001", "null", "https://evil.example", None])
async def test_origin_is_compared_before_a_session_is_asked_for(way, origin):
    """From another origin the cookie is not even looked up; from our own it is, and for what is no page and reads."""
    site, asked = connections_of()
    for sender, asks in ((origin, False), ("http://localhost:3000", True), (None, True)):
        if sender is None and origin is not None:
            continue
        sent: list[dict] = []
        headers = [(b"cookie", b"azure_auth_session=x"), *([(b"origin", sender.encode())] if sender else [])]
        scope = {"type": "http", "method": "POST" if way == "a POST" else "GET", "headers": headers, "path": "/api"}
        scope |= {"client": ("127.0.0.1", 1), "query_string": b""}
        if way == "a socket":
            scope |= {"type": "websocket", "path": "/_event/", "query_string": b"token=t"}
        elif way != "a file":
            scope["path"] = {"the callback": "/callback", "the start": "/auth/nowhere"}.get(way, "/reports/x")
        asked.clear()

        async def send(message: dict, sent: list[dict] = sent) -> None:
            sent.append(message)

        await site(scope, nothing_comes, send)
        assert bool(asked) is ((asks or sender is None) and (way != "a POST" or bool(sender))), (sender, sent)


async def test_a_sibling_origin_is_refused_a_socket(ada, raw):
    """With the victim's cookie, before anything; their own page with the same cookie is let in."""
    statuses = {(await raw(cookie=ada.cookie, origin="http://localhost:3001")).status for _ in range(500)}
    assert statuses == {403}
    assert (await raw(cookie=ada.cookie)).status == 101
    assert (await loaded(ada)).sees["owner"] == "Reports for Ada Lovelace"


@pytest.mark.parametrize(
    ("payload", "fits"),
    [
        ({"step": 1, "more": []}, True),
        ({"step": "1", "more": ["a"], "by": {"a": 1}}, True),
        ({"step": 1.5, "more": ["a"], "by": None}, True),
        ({"step": None, "more": []}, True),
        ({"step": "x", "more": []}, False),
        ({"step": [1], "more": []}, False),
        ({"step": {"a": 1}, "more": []}, False),
        ({"step": 1, "more": "text"}, False),
        ({"step": 1, "more": {"a": 1}}, False),
        ({"step": 1, "more": [[1]]}, False),
        ({"step": 1, "more": [], "by": [1]}, False),
        ({"step": 1, "more": [], "by": 7}, False),
    ],
)
async def test_arguments_are_held_to_their_types(production, ada, payload, fits):
    """What a handler's types do not allow comes neither to it nor, with its value, to the log."""
    tab = await loaded(ada)
    work = production.site / ".data/work"
    before = work.read_text().count("count ")
    await tab.send(f"{COSTLY}.count", payload)
    await answered(tab)
    assert (work.read_text().count("count ") > before) is fits
    assert "Error transforming" not in production.console()


@pytest.mark.parametrize("handler", ["set_is_hydrated", "setvar"])
async def test_what_only_reflexs_server_sends_is_no_event(production, ada, handler):
    """Its own client sends no such event."""
    tab = await loaded(ada)
    await tab.send(f"{ROOT_STATE}.{handler}", {"value": False, **({"var_name": "x"} if handler == "setvar" else {})})
    await answered(tab)
    assert tab.sees["is_hydrated"]
    assert "Traceback" not in production.console()


FREE = MessageRate(1e9, 1e12, 10**9, 10**12)
"""Nothing waits."""


class Socket:
    """The server's side of a socket, for `Frames`."""

    def __init__(self, flow: MessageRate = FREE) -> None:
        self.incoming: asyncio.Queue[dict] = asyncio.Queue()
        self.sent: list[dict] = []
        self.odd: list[None] = []
        self.cut = asyncio.get_running_loop().create_future()
        self.paces = Paces(Pace(flow), Pace(flow))
        self.frames = Frames(self.incoming.get, self._send, self.cut, self.paces, lambda: self.odd.append(None))

    async def _send(self, message: dict) -> None:
        if self.sent is None:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def after(self, text: str) -> dict:
        """What Engine.IO receives when the client sends this."""
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})
        return await self.frames.receive()


async def longest_frame(most: int) -> None:
    for size in (most, most + 1):
        socket = Socket()
        text = '40/_event,{"' + "x" * (size - 12)
        assert len(text) == size
        assert ((await socket.after(text))["type"] == "websocket.receive") is (size == most)
        assert bool(socket.odd) is socket.cut.done() is (size > most)


async def longest_route(most: int) -> None:
    for size in (most, most + 1):
        route = {"asPath": "/" + "x" * (size - len('{"asPath": "/"}'))}
        assert len(json.dumps(route)) == size
        event = {"name": HYDRATE, "payload": {}, "router_data": route}
        assert is_event(event)
        assert is_too_long(event) is (size > most)


async def longest_report(most: int) -> None:
    report = {"name": EXCEPTION, "payload": {"info": "x" * LONG, "component_stack": "y" * LONG}}
    assert takes(report)
    assert {len(value) for value in report["payload"].values()} == {most}


async def reports_a_minute(most: int) -> None:
    gate = gate_of(Tabs())
    logged: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates._log, "error", lambda *line: logged.append(line))
        for number in range(2 * most):
            gate.updates.log_report(ValueError(number))
    assert len(logged) == most


async def reads(flow: MessageRate) -> None:
    """Messages, small and large, come at the rate after a burst; and no more of them than may wait."""
    loop = asyncio.get_running_loop()
    quick = MessageRate(flow.events * 10, flow.characters * 10, flow.waiting, flow.waiting_characters)
    for size, rate in ((1, quick.events), (100_000, quick.characters / 100_000)):
        pace, begun = Pace(quick), loop.time()
        number = round(rate * (bounds.BURST_SECONDS + 0.2))
        for _ in range(number):
            await pace.admit(size)
        assert 0.15 < loop.time() - begun < 1
    for size, most in ((1, flow.waiting), (100_000, flow.waiting_characters // 100_000)):
        pace = Pace(MessageRate(1e9, 1e12, flow.waiting, flow.waiting_characters))
        done = []
        for _ in range(most):
            await pace.admit(size)
            done.append(pace.hold(size))
        waiting = asyncio.create_task(pace.admit(size))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        done[0](None)
        await asyncio.wait_for(waiting, 1)


async def bursts(most: float) -> None:
    pace, loop = Pace(MessageRate(10, 1e9, 1000, 10**9)), asyncio.get_running_loop()
    begun = loop.time()
    for _ in range(round(10 * most) + 1):
        await pace.admit(1)
    assert loop.time() - begun < 0.05
    await pace.admit(1)
    assert loop.time() - begun > 0.05


async def tabs_of_a_session(_: int) -> None:
    tabs = Tabs()
    gate = gate_of(tabs)
    admitted = []
    with ExitStack() as open_:
        for number in range(bounds.SESSION_SOCKETS + 5):
            tab = of_ada(f"key {number}")
            admitted.append((gate.welcome(tab), tab.refusal is None))
            if admitted[-1][0]:
                open_.enter_context(tabs.connected(tab))
        for one in tabs.of(tab.session):
            await gate.left(one)
    full = bounds.SESSION_SOCKETS - bounds.SESSION_TABS
    assert admitted == [(True, True)] * bounds.SESSION_TABS + [(True, False)] * full + [(False, True)] * 5


async def short_ones_pass(most: int) -> None:
    """Long messages of others hold up no short one, and nobody pays for who has left."""
    slow = MessageRate(1000, 1_000_000, 10**6, 10**12)
    short, long = Pace(slow), Pace(slow)
    mine = Paces(short, long)
    assert mine.of(most)[1] is short
    assert mine.of(most + 1)[1] is long
    crowd = [asyncio.create_task(long.admit(1_000_000)) for _ in range(50)]
    await asyncio.sleep(0.01)
    begun = asyncio.get_running_loop().time()
    await short.admit(most)
    for one in crowd:
        one.cancel()
    await asyncio.wait(crowd)
    await asyncio.wait_for(long.admit(most + 1), 3)  # what four have read: burst and one
    assert asyncio.get_running_loop().time() - begun < 2


async def unread_answers(most: int) -> None:
    """Who does not read what there is for them is not read from; much more, and the socket is over."""
    queue, over = Outgoing(), list[None]()
    queue.on_full = lambda: over.append(None)
    for _ in range(2):
        queue.put_nowait(SimpleNamespace(data="x" * (most // 2)))
    waiting = asyncio.create_task(queue.drained())
    await asyncio.sleep(0.01)
    assert over == []  # one update may be larger than all of it
    queue.put_nowait(SimpleNamespace(data=""))
    assert bool(over) is (most == bounds.OUTGOING_CHARACTERS)
    for _ in range(3):
        queue.get_nowait()
        assert not waiting.done()
    for characters in (most // 2, most // 2, 0):
        queue.sent(characters + 1)
    await asyncio.wait_for(waiting, 1)
    assert queue.characters == 0
    socket, message = Socket(), {"type": "websocket.send", "text": "x" * (most // 2)}
    await socket.after('40/_event,{"x')
    for _ in range(3):
        await socket.frames.send(message)
    assert [one["text"] for one in socket.sent].count("2") == 1
    reading = asyncio.create_task(socket.after('42/_event,["event",{'))
    await asyncio.sleep(0.01)
    assert not reading.done()
    if most == bounds.OUTGOING_CHARACTERS:
        with pytest.raises(ConnectionError):
            await socket.frames.send(message)
        assert (await reading)["type"] == "websocket.disconnect"
    else:
        socket.incoming.put_nowait({"type": "websocket.receive", "text": "3"})
        assert (await reading)["type"] == "websocket.receive"


async def tasks_of_a_session(most: int) -> None:
    """One more background handler is refused with words; a foreground one, of which there is one at a time, is not."""
    tab = of_ada("key")
    gate = gate_of(Tabs())

    async def is_active(*_: object) -> bool:
        return True

    gate.events._sessions.is_active = is_active
    event = SimpleNamespace(name=f"{ROOT_STATE}.hydrate", payload={})
    context = SimpleNamespace(token="key", parent_txid="1")
    with pytest.MonkeyPatch.context() as patch:
        for background, running in ((True, most), (True, most - 1), (False, most)):
            handler = SimpleNamespace(handler=SimpleNamespace(is_background=background))
            patch.setattr(reflex_internals, "registered", lambda _, handler=handler: handler)
            gate.events._running = {tab.session: dict.fromkeys(range(running), "key")}
            told = await gate.events._answer_session(tab, tab.session, event, context)
            assert ("Too much at once" in str(told)) is (background and running == most)


async def a_silent_tab(_: float) -> None:
    """It is cut, not dismissed: its page connects again as soon as it can."""
    tabs = Tabs()
    gate = gate_of(tabs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "TAB_ANSWER_SECONDS", 0.05)
        there, silent = of_ada("there"), of_ada("silent", answering=False)
        with tabs.connected(there), tabs.connected(silent):
            assert gate.welcome(there)
            assert gate.welcome(silent)
            await asyncio.wait_for(silent.cut, 1)
            assert not there.cut.done()
            for tab in (there, silent):
                await gate.left(tab)


async def test_a_tab_that_leaves_is_noted_again():
    """What was dropped from the notes while it was connected is found when its session ends."""
    tabs, tab = Tabs(), of_ada("key")
    gate = gate_of(tabs)
    with tabs.connected(tab):
        gate.welcome(tab)
    await gate.left(tab)
    assert gate.cleanup._sessions.noted == ["key"]


async def test_a_waiting_message_stops_neither_pings_nor_the_end():
    """Engine.IO has its answer while the client's lies behind; who leaves meanwhile does not count as there."""
    socket = Socket(MessageRate(1e9, 1e12, 1, 10**9))
    await socket.after('40/_event,{"x')
    work = asyncio.get_running_loop().create_future()
    socket.frames.hold(work)
    events = [f'42/_event,["event",{{"number":{number}}}]' for number in range(3)]
    for text in (*events, "3", "3"):
        socket.incoming.put_nowait({"type": "websocket.receive", "text": text})
    await socket.frames.send({"type": "websocket.send", "text": "2"})
    assert (await asyncio.wait_for(socket.frames.receive(), 3))["text"] == "3"
    reading = asyncio.create_task(socket.frames.receive())
    assert await socket.frames.answers(1)
    assert not reading.done()
    socket.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    assert not await socket.frames.answers(1)
    work.set_result(None)
    assert [(await reading)["text"], *[(await socket.frames.receive())["text"] for _ in range(2)]] == events
    assert (await socket.frames.receive())["type"] == "websocket.disconnect"
    assert socket.odd == []


async def test_an_unsent_answer_ends_the_socket():
    """Where the server cannot send, nothing more is read either."""
    socket = Socket()

    async def broken(_: dict) -> None:
        raise RuntimeError

    socket.frames._send = broken
    with pytest.raises(ConnectionError):
        await socket.frames.send({"type": "websocket.send", "text": "x"})
    assert (await socket.after("x"))["type"] == "websocket.disconnect"


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (["a", {"x": 1}], tuple[str, dict], True),
        (["a", "b"], tuple[str, dict], False),
        (["a", "b"], tuple[str, ...], True),
        ([["a"]], tuple[str, ...], False),
        ([[1, 2], [3]], list[list[int]], True),
        ([[1, {}], [3]], list[list[int]], False),
        ([1, None, "x"], list[int | None], True),
        ({"a": [1]}, dict[str, list[int]], True),
        ({"a": 1}, dict[str, list[int]], False),
        ([1], set[int], True),
        ({}, set[int], False),
        ([{}], list[Any], True),
        ([{}], list, True),
    ],
)
def test_shapes(value, hint, fits):
    """One value, a list or a mapping, all the way in."""
    assert _fits(value, hint) is fits


async def strangers(_: int) -> None:
    """Of a browser, of an address and in all, the oldest goes first; those that do not go still count."""
    for most, of in (
        (bounds.STRANGERS_OF_BROWSER, lambda number: {"browser": "b", "address": str(number)}),
        (bounds.STRANGERS_OF_ADDRESS, lambda number: {"browser": str(number), "address": "a"}),
        (bounds.STRANGERS, lambda number: {"browser": str(number), "address": str(number // 10)}),
    ):
        tabs, stubborn, refused = Tabs(), [], 0
        gate = gate_of(tabs)
        with ExitStack() as open_:
            for number in range(most + 200):
                cut = asyncio.get_running_loop().create_future()
                tab = Tab(f"key {number}", "id", None, cut=cut, frames=Alive(), **of(number))
                if not gate.welcome(tab):
                    refused += 1
                    assert tab.timer is None
                    continue
                stubborn.append(tab)
                open_.enter_context(tabs.connected(tab))
                if number == most - 1:
                    await asyncio.sleep(0)
                    assert not any(one.leaving for one in stubborn)
                if number == most:
                    assert [one.leaving for one in stubborn[:2]] == [True, False]
            assert refused == (100 if most == bounds.STRANGERS else 0)
            await asyncio.gather(*gate.closing.tasks)
            assert sum(one.cut.done() for one in stubborn) == 200
            for tab in stubborn:
                tab.timer.cancel()


async def log_record(most: int) -> None:
    assert len(cut("x y" * LONG)) < most + 60


async def traceback(most: int) -> None:
    assert len(cut("x y" * LONG, most)) < most + 60


async def unread(_: float) -> None:
    """A client that reads nothing is cut; one that was cut gets a second for what is on its way."""
    socket = Socket()
    socket.sent = None
    sending = asyncio.create_task(socket.frames.send({"type": "websocket.send", "text": "x"}))
    await asyncio.sleep(0.01)
    assert not sending.done()
    begun = asyncio.get_running_loop().time()
    socket.cut.set_result(None)
    with pytest.raises(ConnectionError):
        await sending
    assert asyncio.get_running_loop().time() - begun < bounds.GONE_SECONDS
    await socket.frames.send({"type": "websocket.close"})


async def slow_client(characters: int) -> None:
    """What is longer has more time, and who takes it is not cut for a ping that comes behind."""
    socket, tabs = Socket(), Tabs()
    socket.sent = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("azure_auth.bounds.SEND_SECONDS", 0.05)
        patch.setattr(bounds, "TAB_ANSWER_SECONDS", 0.02)
        tab = of_ada("key")
        tab.cut, tab.frames = socket.cut, socket.frames
        gate = gate_of(tabs)
        with tabs.connected(tab):
            gate.welcome(tab)
            message = {"type": "websocket.send", "text": "x" * (characters // 5)}
            sending = asyncio.create_task(socket.frames.send(message))
            await asyncio.sleep(0.15)
            assert not socket.cut.done()
            with pytest.raises(ConnectionError):
                await sending
            assert socket.cut.done()
            await gate.left(tab)


async def answers(seconds: float) -> None:
    socket = Socket()
    reading = asyncio.create_task(socket.after('40/_event,{"x'))
    assert (await reading)["type"] == "websocket.receive"
    reading = asyncio.create_task(socket.frames.receive())
    await asyncio.sleep(0.01)
    asked = asyncio.create_task(socket.frames.answers(seconds))
    await asyncio.sleep(0.01)
    assert socket.sent == [{"type": "websocket.send", "text": "2"}]
    socket.incoming.put_nowait({"type": "websocket.receive", "text": "3"})
    assert await asked
    assert not reading.done()
    assert not await socket.frames.answers(0.05)
    reading.cancel()


async def test_two_who_ask_at_once_send_one_ping():
    """The client answers once, and both know; the answer to Engine.IO's own ping is Engine.IO's."""
    socket = Socket()
    await socket.after('40/_event,{"x')
    reading = asyncio.create_task(socket.frames.receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked = [asyncio.create_task(socket.frames.answers(1)) for _ in range(2)]
    await asyncio.sleep(0.01)
    await socket.frames.send({"type": "websocket.send", "text": "2"})
    assert [message["text"] for message in socket.sent] == ["2", "2"]
    for _ in range(2):
        socket.incoming.put_nowait({"type": "websocket.receive", "text": "3"})
    assert await asyncio.gather(*asked) == [True, True]
    assert (await reading)["text"] == "3"
    assert socket.odd == []


@pytest.mark.parametrize("frame", ["41/_event,", ""])
async def test_who_has_left_does_not_answer(frame):
    """Also while the end of the socket is still under way: the page that comes back has its state."""
    socket = Socket()
    await socket.after('40/_event,{"x')
    if frame:
        assert (await socket.after(frame))["type"] == "websocket.disconnect"
    else:
        socket.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await socket.frames.receive()
    assert not await socket.frames.answers(1)
    assert socket.sent == []


async def longest_path(most: int) -> None:
    for size, status in ((most, 401), (most + 1, 414)):
        site, _ = connections_of()
        sent: list[dict] = []
        scope = {"type": "http", "method": "GET", "path": "/" + "x" * (size - 1), "query_string": b"", "headers": []}

        async def send(message: dict, sent: list[dict] = sent) -> None:
            sent.append(message)

        await site({**scope, "client": ("127.0.0.1", 1)}, None, send)
        assert sent[0]["status"] == status


async def longest_query(most: int) -> None:
    for size in (most, most + 1):
        site, asked = connections_of()
        query = b"token=t&x=" + b"x" * (size - 10)
        scope = {"type": "websocket", "path": "/_event/", "query_string": query, "client": ("127.0.0.1", 1)}

        async def send(message: dict) -> None:
            assert message["type"] == "websocket.close"

        await site({**scope, "headers": [(b"cookie", b"azure_auth_session=x")]}, None, send)
        assert bool(asked) is (size == most)


async def states_of_a_session(most: int) -> None:
    store, gone = EmbeddedStore(Path("/nonexistent")), []
    for number in range(most + 3):
        gone += await store.note_tab("reference", f"{number}", 0)
    gone += await store.note_tab("reference", "3", 0)
    assert gone == ["0", "1", "2"]
    assert len(await store.tabs("reference")) == most


async def lasts_of_a_stranger(_: float) -> None:
    """Its socket lasts so long, and its state a little longer, unless it comes back."""
    tabs, forgotten = Tabs(), []
    gate = gate_of(tabs)

    async def forget(keys: list[str]) -> None:
        forgotten.extend(keys)

    gate.cleanup.forget_closed = forget
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "STRANGER_SECONDS", 0.05)
        patch.setattr(bounds, "STRANGER_ANSWER_SECONDS", 0.05)
        patch.setattr(bounds, "STRANGER_STATE_SECONDS", 0.05)
        tab = Tab("key", "id", None, cut=asyncio.get_running_loop().create_future(), frames=Alive())
        with tabs.connected(tab):
            assert gate.welcome(tab)
            await asyncio.wait_for(tab.cut, 1)
        await gate.left(tab)
        assert gate.welcome(tab)
        await asyncio.sleep(0.1)
        assert forgotten == []
        await gate.left(tab)
        await asyncio.sleep(0.1)
        assert forgotten == ["key"]


class Hurried:
    """The clock of the running loop, which can be put forward."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        loop, self.ahead = asyncio.get_running_loop(), 0
        time = loop.time
        patch.setattr(loop, "time", lambda: time() + self.ahead)

    async def passes(self, seconds: int) -> None:
        """Let time pass, second by second, and let whoever waited for it go on."""
        for _ in range(seconds):
            self.ahead += 1
            for _ in range(10):
                await asyncio.sleep(0)


async def test_a_stranger_is_there_for_a_minute(monkeypatch):
    """A socket that answers every ping is dismissed after 60 s, and its state goes two minutes later."""
    hurried, tabs, forgotten = Hurried(monkeypatch), Tabs(), []
    gate = gate_of(tabs)

    async def forget(keys: list[str]) -> None:
        forgotten.extend(keys)

    gate.cleanup.forget_closed = forget
    tab = Tab("key", "id", None, cut=asyncio.get_running_loop().create_future(), frames=Alive())
    with tabs.connected(tab):
        assert gate.welcome(tab)
        await hurried.passes(58)
        assert not tab.cut.done()
        await hurried.passes(4)
        assert tab.cut.done()
    await gate.left(tab)
    await hurried.passes(118)
    assert forgotten == []
    await hurried.passes(4)
    assert forgotten == ["key"]


@pytest.mark.parametrize(("who", "seconds"), [("a stranger", 10), ("a colleague", 30)])
async def test_who_answers_no_ping_is_cut_in_time(monkeypatch, who, seconds):
    """What a message without an end may take of memory is what can be sent in 10 s, or with a session in 30 s."""
    hurried, tabs, socket = Hurried(monkeypatch), Tabs(), Socket()
    gate = gate_of(tabs)
    tab = of_ada("key") if who == "a colleague" else Tab("key", "id", None)
    tab.cut, tab.frames = socket.cut, socket.frames
    with tabs.connected(tab):
        assert gate.welcome(tab)
        await hurried.passes(seconds - 2)
        assert not tab.cut.done()
        await hurried.passes(4)
        assert tab.cut.done()
    await gate.left(tab)


async def headers_of_a_socket(most: int) -> None:
    """Reflex keeps the ones that it has names for; of the others it hears nothing."""
    for size in (most, most + 1):
        site, asked = connections_of()
        headers = [(b"user-agent", b"x" * size), (b"x-other", b"y" * 9_000), (b"cookie", b"azure_auth_session=x")]
        scope = {"type": "websocket", "path": "/_event/", "query_string": b"token=t", "client": ("127.0.0.1", 1)}

        async def send(message: dict) -> None:
            assert message["type"] == "websocket.close"

        await site({**scope, "headers": headers}, None, send)
        assert bool(asked) is (size == most)


async def read_all(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def longest_body(most: int) -> None:
    site, _ = connections_of(Route("/all", public(read_all), methods=["POST"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://localhost:3000") as http:
        assert (await http.post("/all", content=b"x" * most)).text == str(most)
        assert (await http.post("/all", content=b"x" * (most + 1))).status_code == 413


async def at_once(_: int) -> None:
    """A session's, those of strangers at one address and of all; websockets, uploads, and sign-in by its address."""
    site, _ = connections_of()
    ada = SimpleNamespace(session=SimpleNamespace(reference="ada"))
    plain, upload, own = Endpoint(None), Endpoint(Part.UPLOADS), Endpoint(Part.SIGN_IN)
    of = site._room.for_connection
    limits = [
        (bounds.REQUESTS_OF_SESSION, lambda _: of(stranger(1), plain, ada)),
        (bounds.REQUESTS_OF_ADDRESS, lambda _: of(stranger(1), plain, None)),
        (bounds.REQUESTS_OF_STRANGERS, lambda number: of(stranger(number // 100), plain, None)),
        (bounds.REQUESTS_OF_STRANGERS, lambda _: of(stranger(1), own, None)),
        (bounds.WEBSOCKETS_OF_SESSION, lambda _: of(stranger(1, "websocket"), plain, ada)),
        (bounds.WEBSOCKETS_OF_ADDRESS, lambda _: of(stranger(1, "websocket"), plain, None)),
        (bounds.WEBSOCKETS_OF_STRANGERS, lambda number: of(stranger(number // 10, "websocket"), plain, None)),
        (bounds.UPLOADS_OF_OWNER, lambda _: of(stranger(1), upload, ada)),
        (bounds.UPLOADS_OF_OWNER, lambda _: of(stranger(1), upload, None)),
    ]
    for most, room in limits:
        with ExitStack() as open_:
            assert all(open_.enter_context(room(number))(1) for number in range(most))
            assert not open_.enter_context(room(most))(1)
            assert open_.enter_context(of(stranger(250), own, None))(1)  # nobody keeps others from signing in


def stranger(number: int, kind: str = "http") -> dict:
    return {"type": kind, "headers": [], "client": (f"192.0.2.{number}", 1)}


async def bodies_at_once(_: int) -> None:
    """To the last byte: of a session, of strangers at one address and of all; sign-in reads no more than a ticket."""
    site, _ = connections_of()
    ada = SimpleNamespace(session=SimpleNamespace(reference="ada"))
    of, plain, own = site._room.for_body, Endpoint(None), Endpoint(Part.SIGN_IN)
    full = bounds.BODIES_OF_STRANGERS // bounds.BODIES_OF_ADDRESS
    with ExitStack() as open_:
        for number in range(full):
            assert open_.enter_context(of(stranger(number), plain, None))(bounds.BODIES_OF_ADDRESS)
        with of(stranger(full), plain, None) as one_more:
            assert not one_more(1)
        assert open_.enter_context(of(stranger(full), own, None))(200_000_001)
        assert (one := open_.enter_context(of(stranger(1), plain, ada)))(200_000_000)
        assert not one(1)
    with of(stranger(1), plain, None) as one:
        assert one(bounds.BODIES_OF_ADDRESS)
        assert not one(1)


async def a_slow_ticket(seconds: float) -> None:
    """Sign-in itself waits for so long, and then refuses."""
    site, _ = connections_of()
    waited: list[float] = []

    class Body:
        def __init__(self, *_: object, seconds: float, **__: object) -> None:
            waited.append(seconds)

        async def __call__(self, *_: object) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections_module, "Body", Body)
        await site._http(Endpoint(Part.SIGN_IN), None, stranger(1), [], None, None)
        await site._http(Endpoint(None), None, stranger(1), [], None, None)
    assert waited == [seconds, bounds.BODY_SECONDS]


class Lines(list):
    """A sink."""

    write = list.append


def audited(record: Callable[[], None], sink: Lines | None = None) -> Lines:
    """What is written of what is recorded."""
    lines = Lines() if sink is None else sink
    with audit.writing(lines):
        record()
    return lines


async def audit_line(most: int) -> None:
    (line,) = audited(lambda: audit.record("refused", reason="x" * 2_000, page="y" * 8_000, address="é" * 500))
    assert most / 2 < len(line.encode()) <= most


async def audit_queue(most: int) -> None:
    free = threading.Event()

    class Slow(Lines):
        def write(self, line: str) -> None:
            free.wait(20)
            self.append(line)

    def fill() -> None:
        for _ in range(most + 10):
            audit.record("succeeded")
        free.set()

    assert most <= len(audited(fill, Slow())) <= most + 1


async def audit_repeats(_: int) -> None:
    """Above the first number only new addresses are written, above the second none; the rest is counted."""

    def scans() -> None:
        for number in range(3 * bounds.AUDIT_REPEATS_ELSEWHERE):
            audit.record("refused", reason="scan", address=str(number // 2))

    *written, last = [json.loads(line) for line in audited(scans)]
    until = bounds.AUDIT_REPEATS_ELSEWHERE
    assert len(written) == bounds.AUDIT_REPEATS + (until - bounds.AUDIT_REPEATS) // 2
    assert last["repeats"] == 3 * until - len(written)


HOLDS = {
    "FRAME_CHARACTERS": longest_frame,
    "ROUTE_CHARACTERS": longest_route,
    "REPORT_CHARACTERS": longest_report,
    "REPORTS_A_MINUTE": reports_a_minute,
    "SOCKET": reads,
    "OWNER": reads,
    "BURST_SECONDS": bursts,
    "SHORT_CHARACTERS": short_ones_pass,
    "UNREAD_CHARACTERS": unread_answers,
    "OUTGOING_CHARACTERS": unread_answers,
    "SESSION_TASKS": tasks_of_a_session,
    "TAB_ANSWER_SECONDS": a_silent_tab,
    "SESSION_TABS": tabs_of_a_session,
    "SESSION_SOCKETS": tabs_of_a_session,
    "STRANGERS": strangers,
    "STRANGERS_OF_ADDRESS": strangers,
    "STRANGERS_OF_BROWSER": strangers,
    "SEND_SECONDS": unread,
    "SLOWEST_CHARACTERS": slow_client,
    "GONE_SECONDS": unread,
    "ANSWER_SECONDS": answers,
    "STRANGER_ANSWER_SECONDS": answers,
    "PATH_CHARACTERS": longest_path,
    "QUERY_BYTES": longest_query,
    "SESSION_STATES": states_of_a_session,
    "STRANGER_SECONDS": lasts_of_a_stranger,
    "STRANGER_STATE_SECONDS": lasts_of_a_stranger,
    "HEADER_BYTES": longest_headers,
    "COOKIE_BYTES": longest_cookies,
    "OTHER_COOKIE_BYTES": longest_others,
    "SOCKET_HEADER_BYTES": headers_of_a_socket,
    "BODY_BYTES": longest_body,
    "BODY_SECONDS": body_in_time,
    "SLOWEST_BYTES": body_in_time,
    "REQUESTS_OF_SESSION": at_once,
    "REQUESTS_OF_ADDRESS": at_once,
    "REQUESTS_OF_STRANGERS": at_once,
    "UPLOADS_OF_OWNER": at_once,
    "WEBSOCKETS_OF_SESSION": at_once,
    "WEBSOCKETS_OF_ADDRESS": at_once,
    "WEBSOCKETS_OF_STRANGERS": at_once,
    "BODIES_OF_ADDRESS": bodies_at_once,
    "BODIES_OF_STRANGERS": bodies_at_once,
    "BOUNDARY_BYTES": longest_boundary,
    "TICKET_BODY_SECONDS": a_slow_ticket,
    "STRANGER_WEBSOCKET_SECONDS": a_strangers_websocket,
    "MESSAGES_AHEAD": messages_ahead,
    "MESSAGE_CHARACTERS": longest_message,
    "AUDIT_BYTES": audit_line,
    "AUDIT_LINES": audit_queue,
    "AUDIT_REPEATS": audit_repeats,
    "AUDIT_REPEATS_ELSEWHERE": audit_repeats,
    "LOG_CHARACTERS": log_record,
    "TRACEBACK_CHARACTERS": traceback,
}


@pytest.mark.parametrize("name", [name for name in vars(bounds) if name.isupper()])
async def test_every_bound_holds(name):
    """At the number itself and above it; a bound that nothing here shows fails."""
    await HOLDS[name](getattr(bounds, name))
