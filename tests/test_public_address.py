"""A page that is opened under another host name than the public one."""

import httpx
import pytest
from behind import connections
from browsing import ADA, choose, greeted
from starlette.applications import Starlette

from azure_auth.auth.web.public_address import PublicAddress
from azure_auth.settings import Settings

TENANT = "11111111-1111-1111-1111-111111111111"
APP = "https://app.example.com"
ENVIRON = {
    "AZURE_TENANT_ID": TENANT,
    "AZURE_CLIENT_ID": TENANT,
    "AZURE_CLIENT_SECRET": "hush-hush",
    "REFLEX_DEPLOY_URL": APP,
    "REFLEX_ENV_MODE": "prod",
}
BROWSER = {"host": "10.0.0.7", "accept": "text/html,*/*", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def answer(path: str = "/", query: str = "", method: str = "GET", settings: dict | None = None, **headers: str):
    """The redirect of a request, if there is one."""
    given = {**BROWSER, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw}
    return PublicAddress(Settings.load({**ENVIRON, **(settings or {})})).redirect(scope)


def location(*request: str, **headers: str) -> str:
    return answer(*request, **headers).headers["location"]


@pytest.mark.parametrize("host", ["10.0.0.7", "127.0.0.1:3000", "localhost", "app", "app.example.com:8443", "[::1]"])
def test_a_page_under_another_name_redirects_to_the_public_address(host):
    """The redirect keeps path and query. Old browsers are redirected too."""
    assert location("/reports", "a=1&b=%C3%BC", host=host) == f"{APP}/reports?a=1&b=%C3%BC"
    assert location("/", host=host, sec_fetch_mode="", sec_fetch_dest="") == f"{APP}/"


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("//evil.example", "", f"{APP}//evil.example"),
        ("/\\evil.example", "", f"{APP}/%5Cevil.example"),
        ("/@evil.example", "", f"{APP}/%40evil.example"),
        ("/a\r\nSet-Cookie: x=y", "b\r\nc", f"{APP}/a%0D%0ASet-Cookie%3A%20x%3Dy?b%0D%0Ac"),
        ("/ü", "", f"{APP}/%C3%BC"),
    ],
)
def test_it_leads_nowhere_else(path, query, expected):
    """With any path, the address begins with the configured one."""
    assert location(path, query) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"host": "app.example.com"},
        {"host": "APP.example.com"},
        {"host": ""},
        {"method": "POST"},
        {"method": "HEAD"},
        {"accept": "*/*"},
        {"accept": ""},
        {"sec_fetch_dest": "iframe"},
        {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
        {"sec_purpose": "prefetch"},
        {"x_forwarded_for": "10.1.1.1"},
        {"x_forwarded_host": "app.example.com"},
        {"x_forwarded_proto": "https"},
        {"forwarded": "for=10.1.1.1"},
        {"via": "1.1 proxy"},
        {"x_real_ip": "10.1.1.1"},
        {"settings": {"REFLEX_TRUSTED_PROXY_HOPS": "1"}},
        {"settings": {"REFLEX_ENV_MODE": "dev"}},
        {"cookie": "__Host-azure_auth_led=1"},
    ],
)
def test_everything_else_is_answered_where_it_is(given):
    """The public name itself, probes, parts of pages, and requests through a proxy, which may rewrite Host."""
    assert answer() is not None
    assert answer(**given) is None


@pytest.mark.parametrize("path", ["/callback", "/callback/", "//callback", "/callback//"])
def test_an_answer_of_microsoft_is_taken_where_it_arrives(path):
    """It comes to the public address alone, through a proxy that rewrites Host. A redirect would repeat the code."""
    assert answer(path, "code=c&state=s") is None


def test_a_proxy_that_rewrites_host_and_hides_makes_no_circle():
    """The redirect sets a cookie for a few seconds. A request with it is not redirected again."""
    mark = answer().headers["set-cookie"]
    assert "Max-Age=10" in mark
    assert answer(cookie=mark.partition(";")[0]) is None


@pytest.mark.anyio
async def test_a_page_that_needs_a_session_is_led_first(make_sign_in):
    """Under another name a sign-in could not end: its cookie stays at that name, and Microsoft leads to the public one.

    Scripts and probes get the same refusal as ever, and at the public address the sign-in starts.
    """
    app = connections(Starlette(), make_sign_in(Settings.load(ENVIRON)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=APP) as browser:
        elsewhere = await browser.get("/reports?a=1", headers=BROWSER)
        assert (elsewhere.status_code, elsewhere.headers["location"]) == (303, f"{APP}/reports?a=1")
        at_home = await browser.get("/reports?a=1", headers={**BROWSER, "host": "app.example.com"})
        assert at_home.headers["location"].startswith("/auth/sign-in?return_to=%2Freports")
        script = {**BROWSER, "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
        assert (await browser.get("/reports", headers=script)).status_code == 401


def test_somebody_at_another_name_gets_in(production, page):
    """A person who opens the app by the machine's address signs in at the public one. Probes are answered."""
    elsewhere = production.url.replace("localhost", "127.0.0.1")
    assert elsewhere != production.url
    page.goto(f"{elsewhere}/?from=elsewhere")
    choose(page, ADA)
    greeted(page, "Ada Lovelace")
    assert page.url == f"{production.url}/?from=elsewhere"
    with httpx.Client() as probe:
        assert [probe.get(f"{elsewhere}{path}").status_code for path in ("/", "/ping", "/_health")] == [200] * 3
        assert probe.get(f"{elsewhere}/ping", headers={"accept": "text/html"}).status_code == 200
