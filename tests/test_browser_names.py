"""A browser's name: for limits and indexes, given out and known again by us; it opens nothing."""

import asyncio
import secrets
import string
from types import SimpleNamespace
from urllib.parse import parse_qs

import httpx
import pytest
from behind import connections
from conftest import APP, KEYS
from jar import Jar
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from azure_auth.auth.gate.tabs import Tab
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.sealing import STRANGER
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.web.routes import routes
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
NAME = "azure_auth_browser"
KNOWN = "azure_auth_known"
OTHER_KEYS = ServerKeys(lambda: [b"another secret of the tests, here"])


def over(app, base: str = APP) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)


@pytest.fixture
def app(sign_in) -> Starlette:
    return Starlette(routes=routes(sign_in))


def named(answer: httpx.Response) -> str:
    """The Set-Cookie header for the name; empty if there is none."""
    return next((c for c in answer.headers.get_list("set-cookie") if NAME in c.partition("=")[0]), "")


async def test_a_name_is_given_once(app):
    """The first start gives one for 400 days, out of scripts' reach; later starts leave it."""
    async with over(app) as browser:
        first, second = await browser.get("/auth/sign-in"), await browser.get("/auth/sign-in")
    assert KEYS.is_name(first.cookies[NAME])
    assert {"HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={400 * 24 * 3600}"} <= set(named(first).split("; "))
    assert first.headers["cache-control"] == "no-store"
    assert named(second) == ""


async def test_on_https_the_name_is_of_this_host_alone(environ, make_sign_in):
    """`__Host-` and Secure, as all our cookies."""
    settings = Settings.load({**environ, "REFLEX_DEPLOY_URL": "https://app.example.com"})
    async with over(Starlette(routes=routes(make_sign_in(settings)))) as browser:
        cookie = named(await browser.get("/auth/sign-in"))
    assert cookie.startswith(f"__Host-{NAME}=")
    assert "Secure" in cookie


@pytest.mark.parametrize("forged", ["x" * 43, "", "é", "short", OTHER_KEYS.new_name(), KEYS.new_name()[::-1]])
async def test_a_name_that_is_not_ours_is_replaced(app, sign_in, forged):
    """A forged, malformed or foreign one counts as none."""
    cookies = f"{NAME}={forged}".encode()
    assert sign_in.browser([cookies.decode("latin-1")]) == ""
    async with over(app) as browser:
        answer = await browser.get("/auth/sign-in", headers={"Cookie": cookies})
    assert KEYS.is_name(answer.cookies[NAME])


def test_a_name_has_one_spelling():
    """Other texts that decode to the same bytes were never given out, so they are no name."""
    name = KEYS.new_name()
    spellings = [name[:-1] + last for last in string.ascii_letters + string.digits + "-_"]
    assert [spelling for spelling in spellings if KEYS.is_name(spelling)] == [name]


async def exchange(app, sign_in, directory, person: str, **cookies: str) -> httpx.Response:
    """Sign somebody in over HTTP, in a browser with these cookies beside the flow's."""
    jar = Jar(**cookies)
    answer = directory.answer(await jar.begin(sign_in, tab=secrets.token_urlsafe(32), choose_account=True), person)
    ticket = await jar.finish(sign_in, answer)
    jar.cookies.pop(NAME, None)
    jar.cookies |= cookies
    async with over(app) as browser:
        headers = {"Origin": APP, "Cookie": jar.headers[0]}
        return await browser.post("/auth/session", content=ticket, headers=headers)


async def test_the_exchange_of_a_ticket_gives_a_name_where_there_is_none(app, sign_in, directory):
    """The answer that brings the session brings the name too, is stored nowhere, and leaves a valid name alone."""
    for cookies in ({}, {NAME: "x" * 43}, {NAME: OTHER_KEYS.new_name()}):
        answer = await exchange(app, sign_in, directory, "Ada Lovelace", **cookies)
        assert answer.cookies["azure_auth_session"]
        assert KEYS.is_name(answer.cookies[NAME])
        assert {"HttpOnly", "SameSite=lax", f"Max-Age={400 * 24 * 3600}"} <= set(named(answer).split("; "))
        assert answer.headers["cache-control"] == "no-store"
    answer = await exchange(app, sign_in, directory, "Ada Lovelace", **{NAME: KEYS.new_name()})
    assert answer.cookies["azure_auth_session"]
    assert named(answer) == ""


async def test_a_browser_is_known_from_its_first_sign_in(app, sign_in, directory):
    """The answer that brings the session says so in a cookie of its own, once; a forged one counts as none."""
    first = await exchange(app, sign_in, directory, "Ada Lovelace")
    known = first.cookies[KNOWN]
    assert sign_in.known_cookie.read([f"{KNOWN}={known}"]) == known
    assert KNOWN not in (await exchange(app, sign_in, directory, "Grace Hopper", **{KNOWN: known})).cookies
    for forged in ("x" * 43, KEYS.new_name(), OTHER_KEYS.new_known(), ""):
        assert sign_in.known_cookie.read([f"{KNOWN}={forged}"]) is None
        assert KNOWN in (await exchange(app, sign_in, directory, "Ada Lovelace", **{KNOWN: forged})).cookies
    assert not KEYS.is_name(known)


async def test_the_exchange_of_a_ticket_gives_another_name_to_another_person(app, sign_in, directory):
    """Somebody else's session and the name that the browser had with it end together; the same person keeps theirs."""
    name = KEYS.new_name()
    first = await exchange(app, sign_in, directory, "Ada Lovelace", **{NAME: name})
    jar = {NAME: name, "azure_auth_session": first.cookies["azure_auth_session"]}
    again = await exchange(app, sign_in, directory, "Ada Lovelace", **jar)
    assert named(again) == ""
    other = await exchange(app, sign_in, directory, "Grace Hopper", **jar)
    assert KEYS.is_name(other.cookies[NAME])
    assert other.cookies[NAME] != name
    held = await sign_in.sessions.find(other.cookies["azure_auth_session"])
    assert held.session.browser == KEYS.hashed("browser", other.cookies[NAME])


async def test_after_a_session_the_browser_gets_another_name(app, sign_in):
    """However many tabs ask at once with the dead cookie, they get the same new name; once they have it, none."""
    name = KEYS.new_name()
    cookie = await sign_in.sessions.start(Identity("t", "ada"), name, None)
    jar = {"Cookie": f"{NAME}={name}; azure_auth_session={cookie}"}
    async with over(app) as browser:
        assert named(await browser.get("/auth/sign-in", headers=jar)) == ""
        held = await sign_in.sessions.find(cookie)
        await sign_in.sessions.end(held.session, "signed_out")
    tabs = [over(app) for _ in range(5)]
    answers = await asyncio.gather(*(tab.get("/auth/sign-in", headers=jar) for tab in tabs))
    await asyncio.gather(*(tab.aclose() for tab in tabs))
    (new,) = {answer.cookies[NAME] for answer in answers}
    assert new != name
    assert KEYS.is_name(new)
    async with over(app) as browser:
        jar = {"Cookie": f"{NAME}={new}; azure_auth_session={cookie}"}
        assert named(await browser.get("/auth/sign-in", headers=jar)) == ""


async def test_another_person_gets_another_name_with_the_session(sign_in, directory):
    """The answer that gives the cookie gives the name; the same person keeps theirs."""
    jar = Jar(**{NAME: KEYS.new_name()})
    for person, kept in (("Ada Lovelace", True), ("Ada Lovelace", True), ("Grace Hopper", False)):
        answer = directory.answer(await jar.begin(sign_in, choose_account=True), person)
        name = jar.cookies[NAME]
        await jar.exchange(sign_in, await jar.finish(sign_in, answer))
        assert (jar.cookies[NAME] == name) is kept
    assert KEYS.is_name(jar.cookies[NAME])


@pytest.mark.parametrize("page", ["/callback?code=c", "/", "/public"])
async def test_the_first_page_that_a_browser_opens_gives_a_name(sign_in, page):
    """Once; its images, scripts and whatever else it loads do not."""
    site = connections(Starlette(), sign_in, is_built=lambda _: True)
    async with over(site) as browser:
        assert (
            named(await browser.get("/image.png", headers={"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}))
            == ""
        )
        assert KEYS.is_name((await browser.get(page)).cookies[NAME])
        assert named(await browser.get(page)) == ""


async def test_a_name_opens_nothing(sign_in):
    """With it alone, a browser is a stranger."""
    name = KEYS.new_name()
    await sign_in.sessions.start(Identity("t", "ada"), name, None)
    assert await sign_in.session([f"{NAME}={name}"]) is None
    assert await sign_in.session([f"azure_auth_session={name}"]) is None


async def test_a_name_lets_nobody_through_the_doors(sign_in):
    """A request with the name alone is a stranger's, also while its person's session stands."""
    name = KEYS.new_name()
    cookie = await sign_in.sessions.start(Identity("t", "ada"), name, None)
    inner = Starlette(routes=[Route("/secret", lambda _: PlainTextResponse("let through"))])
    async with over(connections(inner, sign_in)) as browser:
        assert (await browser.get("/secret", headers={"Cookie": f"{NAME}={name}"})).status_code == 401
        jar = {"Cookie": f"{NAME}={name}; azure_auth_session={cookie}"}
        assert (await browser.get("/secret", headers=jar)).text == "let through"


async def start(sign_in, name: str, number: int, address: str) -> bool:
    """Begin a sign-in in a browser of that name, or of none; tell whether it led to the directory."""
    jar = Jar(**({NAME: name} if name else {}))
    return "/oauth2/" in await jar.begin(sign_in, tab=f"{number:043}", address=address)


async def test_limits_go_by_the_name_and_else_by_the_address(sign_in):
    """So many starts of a name, whatever its flow cookies; those without a name share their address's bucket."""
    name, other = KEYS.new_name(), KEYS.new_name()

    async def starts(number: int, browser: str) -> bool:
        return await start(sign_in, browser, number, "192.0.2.1")

    assert [await starts(number, name) for number in range(49)] == [True] * 48 + [False]
    assert all([await starts(number, "") for number in range(100, 160)])
    assert await starts(200, other)


async def test_those_without_a_name_stop_nobody_elsewhere(sign_in, monkeypatch):
    """A flood of starts without a name fills the bucket of its own address, and no other."""
    most = {"tab": 3, "browser": 20, "nameless": 30, "address": 30, "known": 30, "old": 30}
    monkeypatch.setattr("azure_auth.auth.sign_in_limits._MOST", most)

    async def starts(browser: str, address: str, number: int = 0) -> bool:
        return await start(sign_in, browser, number, address)

    assert [await starts("", "192.0.2.1", number) for number in range(31)] == [True] * 30 + [False]
    assert await starts(KEYS.new_name(), "192.0.2.2", 100)
    assert await starts("", "192.0.2.2", 101)


async def test_a_forged_name_has_no_bucket_of_its_own(app, monkeypatch):
    """Whoever makes names up shares the bucket of their address with those who have none."""
    most = {"tab": 100, "browser": 100, "nameless": 5, "address": 100, "old": 100, "known": 100}
    monkeypatch.setattr("azure_auth.auth.sign_in_limits._MOST", most)
    begun: list[bool] = []
    for number in range(7):
        forged = OTHER_KEYS.new_name() if number % 2 else f"{number:043}"
        async with over(app) as browser:
            answer = await browser.get("/auth/sign-in", headers={"Cookie": f"{NAME}={forged}"})
        begun.append("/oauth2/" in answer.headers["location"])
    assert begun == [True] * 5 + [False] * 2


async def test_two_strangers_who_call_their_tabs_alike_share_no_state(sign_in):
    """Reflex hears another key at each handshake without a valid name, and the same one with it."""
    heard: list[str] = []

    async def reflex(scope, receive, send):
        heard.extend(parse_qs(scope["query_string"].decode())["token"])

    async def nothing(_):
        pass

    gate = SimpleNamespace(welcome=lambda _: True, left=nothing, cleanup=SimpleNamespace(note=nothing))
    site = connections(reflex, sign_in, gate)
    name = KEYS.new_name()
    for cookies in (b"", b"", f"{NAME}={'x' * 43}".encode(), f"{NAME}={name}".encode(), f"{NAME}={name}".encode()):
        headers = [(b"cookie", cookies)] if cookies else []
        scope = {"type": "websocket", "path": "/_event/", "query_string": b"token=the-same", "headers": headers}
        await site(scope, None, None)
    assert all(key.startswith(STRANGER) for key in heard)
    assert len(set(heard[:4])) == 4
    assert heard[3] == heard[4]


def test_a_strangers_key_is_of_its_browser_or_of_its_connection():
    """With a name the key is the same at the next connection; without one nobody else can come to it."""
    name = KEYS.new_name()
    same, again, other = (Tab.of("tab", None, browser=n).state_key for n in (name, name, KEYS.new_name()))
    assert same == again != other
    assert len({Tab.of("tab", None).state_key for _ in range(3)}) == 3


def test_a_name_lives_through_a_change_of_the_secret():
    """Under the old of two secrets it is valid; under a third it is not."""
    old, new = b"the old secret of thirty-two bytes", b"the new secret of thirty-two bytes"
    name = ServerKeys(lambda: [old]).new_name()
    assert ServerKeys(lambda: [new, old]).is_name(name)
    assert not ServerKeys(lambda: [new]).is_name(name)


async def test_a_fresh_browsers_first_flow_knows_its_name(app, sign_in, directory):
    """It carries the name that its own start gave, so a sign-out in the meantime stops it."""
    async with over(app) as browser:
        start = await browser.get("/auth/sign-in")
    jar = Jar(**start.cookies)
    answer = directory.answer(start.headers["location"], "Ada Lovelace")
    ticket = await jar.finish(sign_in, answer)
    assert (await sign_in._tickets.peek(ticket, jar.binding(sign_in, answer))).browser == jar.cookies[NAME]
