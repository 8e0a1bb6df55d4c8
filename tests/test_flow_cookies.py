"""A cookie per flow: many tabs at once, what a browser remembers of a flow, and which requests may touch any of it."""

import asyncio
import secrets
import time
import traceback
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from behind import connections
from conftest import APP, KEYS
from jar import Jar
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from azure_auth.auth.cookies.flow_cookies import MOST, FlowCookie, FlowCookies
from azure_auth.auth.sessions.flows import FLOW_SECONDS
from azure_auth.auth.sessions.sealing import flow_id
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sign_in_limits import _MOST
from azure_auth.auth.web.connections import Connections
from azure_auth.errors import FlowExpired, FlowForeign, Throttled, TooManyStarts, Unavailable

pytestmark = pytest.mark.anyio
HTTPS = "https://app.example.com"
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
KINDS = {
    "image": {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "cross-site"},
    "frame": {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "cross-site"},
    "frame of ours": {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
    "object": {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object", "Sec-Fetch-Site": "cross-site"},
    "fetch": {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"},
    "script": {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script", "Sec-Fetch-Site": "cross-site"},
    "prefetch": {**NAVIGATION, "Sec-Purpose": "prefetch"},
    "prerender": {**NAVIGATION, "Sec-Purpose": "prefetch;prerender"},
    "prefetch of old": {**NAVIGATION, "Purpose": "prefetch"},
    "part": {**NAVIGATION, "Range": "bytes=0-1"},
    "half a story": {"Sec-Fetch-Site": "none"},
}


def over(app, **cookies: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=APP, cookies=cookies)


@pytest.fixture
def app(sign_in) -> Connections:
    """The routes, and a page behind the doors."""
    inner = Starlette(routes=[Route("/{page:path}", lambda _: PlainTextResponse("a page"))])
    return connections(inner, sign_in, is_built=lambda path: path in ("/", "/callback"))


@pytest.fixture
def cookies() -> FlowCookies:
    return FlowCookies(HTTPS, KEYS)


def begun(number: int, now: float, target: str = "/") -> FlowCookie:
    return FlowCookie.begin(f"state {number}", now, target)


def flows(jar) -> dict[str, str]:
    return {name: value for name, value in dict(jar).items() if "_flow_" in name}


async def test_starts_in_parallel_all_end_on_their_own_page(sign_in, app, directory):
    """Twelve tabs of a fresh browser at the same moment: each has its own cookie, page and ticket, one session is."""
    pages = [f"/reports?tab={number}" for number in range(12)]
    browser = Jar()
    async with over(app) as http:
        started = await asyncio.gather(
            *(http.get("/auth/sign-in", params={"return_to": page}, headers=NAVIGATION) for page in pages)
        )
    browser.keep(header for answer in started for header in answer.headers.get_list("set-cookie"))
    assert len(flows(browser.cookies)) == 12
    answers = [directory.answer(start.headers["location"], "Ada Lovelace") for start in started]
    tickets = await asyncio.gather(*(browser.finish(sign_in, answer) for answer in answers))
    headers = browser.headers
    exchanged = await asyncio.gather(*(sign_in.start_session(ticket, headers) for ticket in tickets))
    assert [led.address for led in exchanged] == [f"{APP}{page}" for page in pages]
    assert len({led.session_cookie for led in exchanged}) == 1
    assert not sign_in.sessions._twin_timers


async def test_a_cookie_is_random_and_its_name_tells_nothing(app):
    """The name is a hash of the state; the value has nothing of it, and differs for each flow."""
    async with over(app) as http:
        answers = [await http.get("/auth/sign-in", headers=NAVIGATION) for _ in range(2)]
    values = set()
    for answer in answers:
        state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
        (cookie,) = [c for c in answer.headers.get_list("set-cookie") if "_flow_" in c]
        name, value = cookie.partition(";")[0].split("=", 1)
        assert name == f"azure_auth_flow_{flow_id(state)}"
        assert state not in cookie
        values.add(value[:43])
    assert len(values) == 2


def test_many_flows_fit_and_the_oldest_go_first(cookies):
    """24 at a time, below 4 kB with the names; the newest keep the pages that they lead to."""
    now, jar, all_ids = time.time(), Jar(), []
    for number in range(40):
        cookie = begun(number, now + number, "/reports?" + "x" * 190)
        jar.keep(cookies.add(cookie, jar.headers, None))
        all_ids.append(cookie.id)
        assert len(jar.headers[0]) < 4096
    kept = cookies.read(jar.headers)
    assert [cookie.id for cookie in kept] == all_ids[-MOST:]
    assert [bool(cookie.return_to) for cookie in kept[-3:]] == [True] * 3
    assert not kept[0].return_to


def test_parallel_starts_are_trimmed_by_the_next_page(cookies):
    """Starts that do not see each other's cookies add up to more; a page or an exchange brings them back."""
    now, jar = time.time(), Jar()
    for number in range(30):
        jar.keep(cookies.add(begun(number, now + number, "/reports?" + "x" * 190), [], None))
    jar.keep(cookies.tidied(jar.headers, None, now))
    assert len(jar.headers[0]) < 4096
    assert [cookie.id for cookie in cookies.read(jar.headers)] == [begun(n, now).id for n in range(6, 30)]
    assert cookies.tidied(jar.headers, None, now) == []


def test_finished_flows_take_no_more_room(cookies):
    """24 flows whose tabs all arrive stay below the limit, and are deleted once their session cookie has come back."""
    now, jar, session = time.time(), Jar(), "s" * 43
    for number in range(MOST):
        jar.keep(cookies.add(begun(number, now, "/reports?" + "x" * 190), jar.headers, None))
    for cookie in cookies.read(jar.headers):
        jar.keep([cookies.finished(cookie, session, now)])
        assert len(jar.headers[0]) < 4096
    assert cookies.tidied(jar.headers, None, now) == cookies.tidied(jar.headers, "t" * 43, now) == []
    jar.keep(cookies.tidied(jar.headers, session, now))
    assert jar.cookies == {}


@pytest.mark.parametrize("how", ["copies", "junk"])
def test_many_flow_cookies_cost_little(cookies, how):
    """A header of 300 kB costs about as much as one that has none of them, and is answered with few cookies."""
    jar = Jar()
    jar.keep(cookies.add(begun(1, time.time()), [], None))
    one = [
        f"{jar.headers[0]}x{number}" if how == "copies" else f"__Host-azure_auth_flow_{number:012x}=x"
        for number in range(2400)
    ]
    began = time.perf_counter()
    assert len(cookies.add(begun(2, time.time()), ["; ".join(one)], None)) < 100
    cookies.tidied(["; ".join(one)], None, time.time())
    assert time.perf_counter() - began < 0.1


@pytest.mark.parametrize("failure", [Throttled(40), TooManyStarts(), Unavailable()])
def test_what_is_over_displaces_nothing_that_is_under_way(cookies, failure):
    """Finished flows go first, then failed ones; a failure for which there is no room gets no cookie."""
    now, jar = time.time(), Jar()
    under_way = [begun(number, now, f"/reports?tab={number}") for number in range(12)]
    for cookie in under_way:
        jar.keep(cookies.add(cookie, jar.headers, None))
    for number in range(30):
        told = FlowCookie.begin(f"failure {number}", now + number, "/reports", failure)
        jar.keep(cookies.add(told, jar.headers, None))
        assert told in cookies.read(jar.headers) or told.return_to
    ids = [cookie.id for cookie in cookies.read(jar.headers)]
    assert {cookie.id for cookie in under_way} < {*ids}
    assert len(jar.headers[0]) < 4096
    for number in range(12, MOST):
        jar.keep(cookies.add(begun(number, now + 60), jar.headers, None))
    assert [cookie.failure for cookie in cookies.read(jar.headers)] == [None] * MOST
    told = FlowCookie.begin("one more", now + 61, "/reports", failure)
    assert cookies.add(told, jar.headers, None) == []
    finished = cookies.read(jar.headers)[-1]
    jar.keep([cookies.finished(finished, "s" * 43, now)])
    jar.keep(cookies.add(begun(99, now + 62), jar.headers, None))
    assert finished.id not in {cookie.id for cookie in cookies.read(jar.headers)}
    assert {cookie.id for cookie in under_way} < {cookie.id for cookie in cookies.read(jar.headers)}


def test_short_pages_are_all_remembered(cookies):
    """What people usually open has room beside every other flow; what is longer than 200 characters leads to `/`."""
    now, jar = time.time(), Jar()
    for number in range(10):
        jar.keep(cookies.add(begun(number, now, f"/reports?tab={number}"), jar.headers, None))
    assert [cookie.return_to for cookie in cookies.read(jar.headers)] == [f"/reports?tab={n}" for n in range(10)]
    assert begun(1, now, "/" + "x" * 199).return_to
    assert not begun(1, now, "/" + "x" * 200).return_to


def test_what_is_no_longer_valid_goes_at_the_next_start(cookies):
    """An hour old, under another secret, or not ours at all; a cookie of somebody else's is left alone."""
    now, jar = time.time(), Jar(other="1")
    jar.keep(cookies.add(begun(1, now - 3600), [], None))
    jar.keep(FlowCookies(HTTPS, ServerKeys(lambda: [b"x" * 32])).add(begun(2, now), [], None))
    jar.cookies[f"__Host-azure_auth_flow_{'0' * 12}"] = "é;"[0]
    jar.cookies["__Host-azure_auth_flow_other"] = "1"
    new = begun(3, now)
    jar.keep(cookies.add(new, jar.headers, None))
    assert [cookie.id for cookie in cookies.read(jar.headers)] == [new.id]
    assert {name for name in jar.cookies if not name.endswith(new.id)} == {"other", "__Host-azure_auth_flow_other"}


def test_a_cookie_under_the_old_of_two_secrets_counts():
    """A change of `SESSION_SECRET` costs nobody a sign-in that is under way."""
    old, new = b"the old secret of thirty-two bytes", b"the new secret of thirty-two bytes"
    jar, cookie = Jar(), begun(1, time.time())
    jar.keep(FlowCookies(HTTPS, ServerKeys(lambda: [old])).add(cookie, [], None))
    assert FlowCookies(HTTPS, ServerKeys(lambda: [new, old])).read(jar.headers) == [cookie]
    assert FlowCookies(HTTPS, ServerKeys(lambda: [new])).read(jar.headers) == []


def test_a_value_counts_under_its_own_name_alone(cookies):
    """A cookie of one flow under the name of another, or changed in any place, is none."""
    jar = Jar()
    jar.keep(cookies.add(begun(1, time.time(), "/reports"), [], None))
    ((name, value),) = jar.cookies.items()
    assert cookies.read([f"{name}={value}"])
    assert not cookies.read([f"{name[:-12]}{'0' * 12}={value}"])
    for place in range(0, len(value) - 1, 7):
        other = "A" if value[place] != "A" else "B"
        assert not cookies.read([f"{name}={value[:place]}{other}{value[place + 1 :]}"])


def test_the_browser_remembers_a_failure_with_its_own_words(cookies):
    """Which one it was, its reference and the page; a detail such as Microsoft's waiting time is in the log alone."""
    jar, failure = Jar(), Throttled(40)
    jar.keep(cookies.add(FlowCookie.begin("state", time.time(), "/reports", failure), [], None))
    (kept,) = cookies.read(jar.headers)
    assert type(kept.failure) is Throttled
    assert (kept.failure.reference, kept.failure.return_to) == (failure.reference, "/reports")
    assert kept.failure.message == Throttled().message


async def later(app, sign_in, jar: Jar, answer: dict[str, str]) -> str | None:
    """Come back from the directory as a browser does, with the page first."""
    async with over(app, **jar.cookies) as http:
        jar.keep((await http.get("/callback", params=answer, headers=NAVIGATION)).headers.get_list("set-cookie"))
    return (await jar.exchange(sign_in, await jar.finish(sign_in, answer))).session_cookie


@pytest.mark.parametrize("way", ["one after the other", "in parallel", "after another person"])
async def test_a_sign_out_stops_what_was_begun_before_it(app, sign_in, directory, way):
    """Whatever became of the browser's name meanwhile."""
    jar = Jar()
    if way == "after another person":
        await signed_in(sign_in, directory, jar, "Grace Hopper")
    if way == "in parallel":
        led = [await sign_in.begin([], "") for _ in range(2)]
        for one in reversed(led):  # the answers come in any order
            jar.keep(one.cookies)
        uris = [one.address for one in led]
    else:
        uris = [await jar.begin(sign_in, choose_account=True) for _ in range(2)]
    answers = [directory.answer(uri, "Ada Lovelace") for uri in uris]
    assert await later(app, sign_in, jar, answers[0])
    await sign_in.sessions.end((await sign_in.session(jar.headers)).session, "signed_out")
    assert await later(app, sign_in, jar, answers[1]) is None
    again = directory.answer(await jar.begin(sign_in), "Ada Lovelace")  # the control: what is begun afterwards
    assert await later(app, sign_in, jar, again)


@pytest.mark.parametrize("code", ["credential_refused", "token_invalid", "account_disabled", "flow_foreign", "x"])
async def test_a_link_tells_of_no_failure_that_did_not_happen(sign_in, code):
    """A query names limits and outages alone; what concerns the account or the app needs the browser's cookie."""
    with pytest.raises(FlowForeign):
        await sign_in.finish({"problem": code}, [])
    with pytest.raises(TooManyStarts):
        await sign_in.finish({"problem": TooManyStarts.code}, [])


async def test_a_failure_in_a_cookie_holds_no_frames(sign_in):
    """A tab that shows it again and again keeps no more of it."""
    failed, depths = FlowCookie.begin("s", time.time(), "/", Throttled(40)), []
    for _ in range(10):
        with pytest.raises(Throttled) as caught:
            await sign_in.finish({"state": "s"}, [failed])
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert depths[0] == depths[-1]


@pytest.mark.parametrize("behind", [0, 5, 50])
async def test_a_clock_that_is_behind_changes_no_words(sign_in, directory, monkeypatch, behind):
    """The store forgot the flow; the process thinks that some seconds are left."""
    jar, now = Jar(), time.time()
    answer = directory.answer(await jar.begin(sign_in, "/reports"), "Ada Lovelace")
    sign_in.sessions._store._one_time.clear()
    monkeypatch.setattr(sign_in, "clock", lambda: now + FLOW_SECONDS - behind)
    with pytest.raises(FlowExpired):
        await jar.finish(sign_in, answer)


@pytest.mark.parametrize("kind", KINDS)
async def test_only_a_page_in_a_tab_starts_a_flow(app, sign_in, kind):
    """Images, frames, scripts and prefetches start nothing, and set and delete no cookie."""
    jar = Jar()
    await jar.begin(sign_in)
    before = dict(sign_in.sessions._store._one_time["flow"]._entries)
    for path in ("/auth/sign-in", "/auth/sign-in?return_to=/reports", "/", "/callback?state=x", "/reports"):
        async with over(app, **jar.cookies) as http:
            answer = await http.get(path, headers=KINDS[kind])
        assert not any("_flow_" in cookie for cookie in answer.headers.get_list("set-cookie"))
        assert not answer.headers.get("location", "").startswith("http")
    assert dict(sign_in.sessions._store._one_time["flow"]._entries) == before
    async with over(app, **jar.cookies) as http:  # the control
        answer = await http.get("/auth/sign-in", headers=NAVIGATION)
        assert "/oauth2/" in answer.headers["location"]
        assert (await http.head("/auth/sign-in", headers=NAVIGATION)).status_code == 403


async def test_an_old_browser_works_with_a_share_of_the_limits(app, monkeypatch):
    """Without any `Sec-Fetch-*` header a start works; so many of an address a minute, and it stops nobody else."""
    monkeypatch.setitem(_MOST, "old", 3)
    old, new = [], []
    for _ in range(5):
        async with over(app) as http:
            old.append("/oauth2/" in (await http.get("/auth/sign-in")).headers["location"])
        async with over(app) as http:
            new.append("/oauth2/" in (await http.get("/auth/sign-in", headers=NAVIGATION)).headers["location"])
    assert old == [True] * 3 + [False] * 2
    assert all(new)


async def signed_in(sign_in, directory, jar: Jar, person: str = "Ada Lovelace") -> None:
    answer = directory.answer(await jar.begin(sign_in, choose_account=True), person)
    assert (await jar.exchange(sign_in, await jar.finish(sign_in, answer))).session_cookie


async def test_a_flow_cookie_goes_when_the_session_cookie_has_come_back(app, sign_in, directory):
    """By the next page, and by nothing before: without the session's cookie, the flow's stays."""
    jar = Jar()
    await signed_in(sign_in, directory, jar)
    without = {name: value for name, value in jar.cookies.items() if "session" not in name}
    for kept in ([without, NAVIGATION], *([jar.cookies, kind] for kind in KINDS.values())):
        async with over(app, **kept[0]) as http:
            answer = await http.get("/", headers=kept[1])
        assert "set-cookie" not in answer.headers
    for way in ("page", "post"):
        async with over(app, **jar.cookies) as http:
            if way == "page":
                answer = await http.get("/", headers=NAVIGATION)
            else:
                answer = await http.post("/auth/session", content="x", headers={"Origin": APP})
        gone = [cookie for cookie in answer.headers.get_list("set-cookie") if "max-age=0" in cookie.lower()]
        assert [cookie.partition("=")[0] for cookie in gone] == [*flows(jar.cookies)]


async def test_somebody_who_is_signed_in_goes_straight_on(app, sign_in, directory):
    """Twice; the third time within a minute is a page, for a tab that comes back does not see what HTTP sees."""
    jar, tab = Jar(), secrets.token_urlsafe(32)
    await signed_in(sign_in, directory, jar)
    async with over(app, **jar.cookies) as http:
        ask = {"return_to": "/reports?tab=2", "tab": tab}
        led = [(await http.get("/auth/sign-in", params=ask, headers=NAVIGATION)).headers["location"] for _ in range(3)]
        assert led[:2] == [f"{APP}/reports?tab=2"] * 2
        assert led[2].startswith(f"{APP}/callback?state=")
        await sign_in.succeeded(tab)
        again = await http.get("/auth/sign-in", params=ask, headers=NAVIGATION)
        assert again.headers["location"] == f"{APP}/reports?tab=2"
        other = await http.get("/auth/sign-in", params={"prompt": "select_account"}, headers=NAVIGATION)
        assert "/oauth2/" in other.headers["location"]
        evil = await http.get("/auth/sign-in", params={"return_to": "//evil.example"}, headers=NAVIGATION)
        assert evil.headers["location"] == f"{APP}/"


async def test_twelve_restored_tabs_are_no_loop(app, sign_in, directory):
    """Tabs that nobody can tell apart share the browser's limit, which is larger."""
    jar = Jar()
    await signed_in(sign_in, directory, jar)
    async with over(app, **jar.cookies) as http:
        led = [(await http.get("/auth/sign-in", headers=NAVIGATION)).headers["location"] for _ in range(12)]
    assert set(led) == {f"{APP}/"}


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("file=C:\\x", "/api/report?file=C:%5Cx"),
        ("a=ä", "/api/report?a=%C3%A4"),
        ("q=<b>&r=\"'`", "/api/report?q=%3Cb%3E&r=%22'%60"),
        ("x" * 3000, "/api/report"),
    ],
)
async def test_an_odd_query_leads_back_as_far_as_it_can(app, query, page):
    """Quoted where a browser does not; too long, the path alone is left."""
    scope = {"type": "http", "method": "GET", "path": "/api/report", "query_string": query.encode(), "client": None}
    scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in NAVIGATION.items()]
    sent = []

    async def send(message):
        sent.append(message)

    await app(scope, None, send)
    (location,) = [value.decode() for name, value in sent[0]["headers"] if name == b"location"]
    assert parse_qs(urlsplit(location).query) == {"return_to": [page]}


async def test_the_query_of_a_path_that_is_no_page_is_kept(app):
    """A stranger who asks for a report gets to that report; the fragment of the address is taken nowhere."""
    async with over(app) as http:
        answer = await http.get("/api/report?id=3&name=%C3%A4+b", headers=NAVIGATION)
        assert answer.status_code == 303
        assert answer.headers["location"].endswith("#")
        asked = parse_qs(urlsplit(answer.headers["location"]).query)
        assert asked == {"return_to": ["/api/report?id=3&name=%C3%A4+b"]}
        start = await http.get(answer.headers["location"], headers=NAVIGATION)
        assert start.headers["location"].endswith("#")
    (cookie,) = FlowCookies(APP, KEYS).read([start.headers["set-cookie"].partition(";")[0]])
    assert cookie.return_to == "/api/report?id=3&name=%C3%A4+b"


async def test_after_ten_minutes_the_words_are_the_same_on_both_stores(sign_in, directory, monkeypatch):
    """The cookie tells; nobody is asked for the flow, which is redeemed by nobody any more."""
    jar = Jar()
    answer = directory.answer(await jar.begin(sign_in, "/reports?tab=2"), "Ada Lovelace")
    now = time.time()
    monkeypatch.setattr(sign_in, "clock", lambda: now + FLOW_SECONDS)
    with pytest.raises(FlowExpired) as caught:
        await jar.finish(sign_in, answer)
    assert caught.value.return_to == "/reports?tab=2"
    with pytest.raises(FlowForeign) as foreign:
        await Jar().finish(sign_in, answer)
    assert foreign.value.return_to == ""


@pytest.mark.slow
async def test_an_office_loses_no_flow_to_ten_thousand_starts(sign_in, directory):
    """All from its own address, without a name: the flows of those who were under way are there."""
    people = [Jar() for _ in range(3)]
    await signed_in(sign_in, directory, people[0])
    del people[0].cookies["azure_auth_session"]
    answers = [directory.answer(await jar.begin(sign_in, address="192.0.2.7"), "Ada Lovelace") for jar in people]
    for _ in range(10_000):
        await sign_in.begin([], "", address="192.0.2.7")
    for jar, answer in zip(people, answers, strict=True):
        assert await jar.finish(sign_in, answer)
