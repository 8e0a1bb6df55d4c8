"""A browser's name: for limits and indexes, given out and known again by us; it opens nothing."""

import asyncio

import httpx
import pytest
from conftest import APP, KEYS
from starlette.applications import Starlette

from azure_auth.auth.doors import Doors
from azure_auth.auth.http import routes
from azure_auth.auth.identity import Identity
from azure_auth.auth.server_keys import ServerKeys
from azure_auth.auth.tabs import Tab, Tabs
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
NAME = "azure_auth_browser"
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


async def test_after_a_session_the_browser_gets_another_name(app, sign_in):
    """However many tabs ask at once with the dead cookie, they get the same new name; once they have it, none."""
    name = KEYS.new_name()
    cookie = await sign_in.sessions.start(Identity("t", "ada"), name, None)
    jar = {"Cookie": f"{NAME}={name}; azure_auth_session={cookie}"}
    async with over(app) as browser:
        assert named(await browser.get("/auth/sign-in", headers=jar)) == ""
        held = await sign_in.sessions.find(cookie)
        await sign_in.sessions.end(held.session, "signed_out")
    async with over(app) as one, over(app) as two, over(app) as three:
        answers = await asyncio.gather(*(tab.get("/auth/sign-in", headers=jar) for tab in (one, two, three)))
    (new,) = {answer.cookies[NAME] for answer in answers}
    assert new != name
    assert KEYS.is_name(new)
    async with over(app) as browser:
        jar = {"Cookie": f"{NAME}={new}; azure_auth_session={cookie}"}
        assert named(await browser.get("/auth/sign-in", headers=jar)) == ""


async def test_another_person_gets_another_name_with_the_session(sign_in, directory):
    """The answer that gives the cookie gives the name; the same person keeps theirs."""
    flow, name = "f" * 43, KEYS.new_name()
    jar = [f"azure_auth_flow={flow}; {NAME}={name}"]
    for person, kept in (("Ada Lovelace", True), ("Ada Lovelace", True), ("Grace Hopper", False)):
        answer = directory.answer(await sign_in.begin(flow, "", browser=name), person)
        exchanged = await sign_in.start_session(await sign_in.finish(answer, flow, browser=name), jar)
        assert (exchanged.browser == "") is kept
        jar = [f"azure_auth_flow={flow}; {NAME}={name}; azure_auth_session={exchanged.cookie}"]
    assert KEYS.is_name(exchanged.browser)


async def test_the_page_that_the_directory_leads_back_to_gives_a_name(sign_in):
    """`/callback` does so where a browser has none; no other page does."""
    doors = Doors(Starlette(), sign_in, None, Tabs(), [], is_built=lambda _: True)
    async with over(doors) as browser:
        assert KEYS.is_name((await browser.get("/callback?code=c")).cookies[NAME])
        assert named(await browser.get("/callback?code=c")) == ""
    async with over(doors) as browser:
        assert named(await browser.get("/")) == ""


async def test_a_name_opens_nothing(sign_in):
    """With it alone, a browser is a stranger."""
    name = KEYS.new_name()
    await sign_in.sessions.start(Identity("t", "ada"), name, None)
    assert await sign_in.session([f"{NAME}={name}"]) is None
    assert await sign_in.session([f"azure_auth_session={name}"]) is None


async def test_limits_go_by_the_name_and_else_by_the_address(sign_in):
    """Twenty starts of a name, whatever its flow cookies; those without a name share their address's bucket."""
    name, other = KEYS.new_name(), KEYS.new_name()

    async def starts(number: int, browser: str) -> bool:
        begun = await sign_in.begin(f"{number:043}", "", browser=browser, tab=f"{number:043}", address="192.0.2.1")
        return "/oauth2/" in begun

    assert [await starts(number, name) for number in range(21)] == [True] * 20 + [False]
    assert all([await starts(number, "") for number in range(100, 160)])
    assert await starts(200, other)


def test_a_strangers_key_is_of_its_browser_or_of_its_connection():
    """With a name the key is the same at the next connection; without one nobody else can come to it."""
    name = KEYS.new_name()
    same, again, other = (Tab.of("tab", None, None, n).key for n in (name, name, KEYS.new_name()))
    assert same == again != other
    assert len({Tab.of("tab", None, None).key for _ in range(3)}) == 3


def test_a_name_lives_through_a_change_of_the_secret():
    """Under the old of two secrets it is valid; under a third it is not."""
    old, new = b"the old secret of thirty-two bytes", b"the new secret of thirty-two bytes"
    name = ServerKeys(lambda: [old]).new_name()
    assert ServerKeys(lambda: [new, old]).is_name(name)
    assert not ServerKeys(lambda: [new]).is_name(name)
