"""The ASGI side: the route that starts a sign-in, the flow's cookie, pages without redirects."""

from urllib.parse import parse_qs, urlsplit

import httpx
import hypothesis
import pytest
from behind import connections
from conftest import APP
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from azure_auth.auth.cookies.cookie import Cookie, well_formed
from azure_auth.auth.identity import Identity
from azure_auth.auth.sign_in import SignIn
from azure_auth.auth.web.headers import SecurityHeaders
from azure_auth.auth.web.routes import routes
from azure_auth.auth.web.static_build import ServePages
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
VALUE = "v" * 43


def over(app, base: str = APP) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)


@pytest.fixture
def app(sign_in: SignIn) -> Starlette:
    return Starlette(routes=routes(sign_in))


async def test_the_start_leads_to_the_directory_and_sets_the_flow_cookie(app, directory):
    """303 to the authorization endpoint, and a cookie that script cannot read and other sites' forms do not send."""
    async with over(app) as browser:
        answer = await browser.get("/auth/sign-in", params={"return_to": "/reports"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{directory.environ['AZURE_AUTHORITY_HOST']}/")
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("azure_auth_flow_")
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=3600"} <= set(cookie.split("; "))


async def test_on_https_the_cookie_is_of_this_host_alone(environ, make_sign_in):
    """`__Host-` and Secure: neither a sibling host nor plain http can set or read it."""
    settings = Settings.load({**environ, "REFLEX_DEPLOY_URL": "https://app.example.com"})
    async with over(Starlette(routes=routes(make_sign_in(settings)))) as browser:
        answer = await browser.get("/auth/sign-in")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-azure_auth_flow_")
    assert {"Secure", "Path=/", "HttpOnly"} <= set(cookie.split("; "))
    assert "domain" not in cookie.lower()


async def test_public_addresses_come_from_the_settings(app):
    """A forged Host or X-Forwarded-Host changes no redirect URI."""
    async with over(app, "http://evil.example") as browser:
        answer = await browser.get("/auth/sign-in", headers={"X-Forwarded-Host": "evil.example"})
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == [f"{APP}/callback"]
    assert "evil" not in str(answer.headers)


async def test_prompt_is_ours_to_choose(app):
    """Only `select_account` is passed on; a link cannot ask for anything else."""
    async with over(app) as browser:
        prompts = {}
        for prompt in ("select_account", "none", "login"):
            location = (await browser.get("/auth/sign-in", params={"prompt": prompt})).headers["location"]
            prompts[prompt] = parse_qs(urlsplit(location).query).get("prompt")
        scope = (await browser.get("/auth/sign-in", params={"scope": "Mail.Send"})).headers["location"]
    assert prompts == {"select_account": ["select_account"], "none": None, "login": None}
    assert "Mail.Send" not in scope


async def test_the_start_takes_no_post(app):
    """A foreign form cannot start anything by POST."""
    async with over(app) as browser:
        assert (await browser.post("/auth/sign-in")).status_code == 405


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([f"c={VALUE}"], VALUE),
        ([f'odd={{"a":1}}; ü=ü; c={VALUE}; z'], VALUE),
        (["a=b", f"c={VALUE}"], VALUE),
        ([f"c={VALUE};c={VALUE}"], None),
        ([f"c={VALUE}", f"c={'w' * 43}"], None),
        ([f"C={VALUE}"], None),
        ([f"xc={VALUE}"], None),
        ([f"c={VALUE}v"], None),
        ([f"c={VALUE[:-1]}"], None),
        ([f'c="{VALUE}"'], None),
        ([f"c={VALUE[:-1]}!"], None),
        ([f"c={VALUE}\n"], None),
        (["c="], None),
        (["c"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_cookie_is_read_strictly(headers, value):
    """Exact name, exact alphabet, exact length; two values count as none; odd neighbours do no harm."""
    assert Cookie("c", "http://localhost:3000", 600).read(headers) == value


def test_the_cookie_name_tells_https():
    """`__Host-` needs https."""
    assert Cookie("c", "https://a.example", 600).name == "__Host-c"
    assert Cookie("c", "http://localhost:3000", 600).name == "c"


async def test_pages_are_served_without_a_redirect():
    """`/callback?code=…` reaches the static build as `/callback/`; other paths stay as they are."""

    async def path(request):
        return PlainTextResponse(f"{request.url.path}?{request.url.query}")

    inner = Starlette(routes=[Route("/{path:path}", path)])
    async with over(ServePages(inner, lambda path: path == "/callback")) as browser:
        assert (await browser.get("/callback?code=c")).text == "/callback/?code=c"
        assert (await browser.get("/callback/?code=c")).text == "/callback/?code=c"
        assert (await browser.get("/ping")).text == "/ping?"


async def test_a_page_for_every_path_opens_no_more_than_pages(sign_in):
    """If a developer's page takes all paths, uploaded files and the socket's route stay closed to anonymous clients."""
    behind = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("let through"))])
    async with over(connections(behind, sign_in, is_built=lambda _: True)) as stranger:
        assert (await stranger.get("/anything")).text == "let through"
        for path, status in (("/_upload/secret.txt", 401), ("/_upload", 401), ("/_event/", 404), ("/_event", 404)):
            assert (await stranger.get(path)).status_code == status, path
    async with over(connections(behind, sign_in, is_built=lambda _: True)) as owner:
        person = Identity("tenant", "object", "Ada Lovelace", "ada@contoso.example", "")
        cookie = await sign_in.sessions.start(person, VALUE, None)
        answer = await owner.get("/_upload/secret.txt", headers={"Cookie": f"azure_auth_session={cookie}"})
        assert answer.text == "let through"


@pytest.mark.parametrize(
    ("public_url", "hsts", "socket"),
    [
        ("https://app.example.com", "max-age=31536000", "wss://app.example.com"),
        ("http://localhost:3000", None, "ws://localhost:3000"),
    ],
)
async def test_https_is_asked_for_on_https_alone(tmp_path, public_url, hsts, socket):
    """HSTS and a `wss:` socket if the public address is https; neither on http, which is loopback only."""
    inner = Starlette(routes=[Route("/", lambda _: PlainTextResponse("", headers={"Referrer-Policy": "no-referrer"}))])
    wrapped = SecurityHeaders(inner, public_url, "https://directory.example", tmp_path / "none")
    async with over(wrapped, public_url) as browser:
        answer = await browser.get("/")
    assert answer.headers.get("strict-transport-security") == hsts
    assert socket in answer.headers["content-security-policy"].partition("connect-src")[2].partition(";")[0].split()
    assert answer.headers["referrer-policy"] == "no-referrer"  # a header that an answer has already stays


@pytest.mark.slow
@hypothesis.settings(derandomize=True, database=None, max_examples=500)
@hypothesis.given(
    st.lists(st.one_of(st.text(max_size=80), st.from_regex(r"( ?c=[A-Za-z0-9_-]{42,44};?){1,3}")), max_size=4)
)
def test_no_header_makes_a_cookie_of_what_is_none(headers):
    """Any Cookie headers give nothing, or the one well-formed value that they have under our name."""
    value = Cookie("c", "http://localhost:3000", 600).read(headers)
    pairs = [pair.strip(" \t") for header in headers for pair in header.split(";")]
    ours = [pair for pair in pairs if pair.startswith("c=")]
    assert value is None or (ours == [f"c={value}"] and well_formed(value) == value)


async def test_no_text_is_a_ticket(sign_in):
    """No session starts, whatever the ticket and the cookies are."""
    texts = st.one_of(st.text(max_size=60), st.from_regex(r"\A[A-Za-z0-9_-]{43}\Z"))
    tried = 0

    @hypothesis.settings(derandomize=True, database=None, max_examples=200)
    @hypothesis.given(texts, texts)
    def collect(ticket, cookie):
        attempts.append((ticket, [f"azure_auth_flow_{ticket[:12]}={cookie}", f"azure_auth_session={cookie}"]))

    attempts: list[tuple[str, list[str]]] = []
    collect()
    for ticket, cookies in attempts:
        assert (await sign_in.start_session(ticket, cookies)).session_cookie is None
        tried += 1
    assert tried >= 100
