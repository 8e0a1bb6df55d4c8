"""What every answer says to the browser, and pages that live with it."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from browsing import ADA, choose, greeted
from foreign import foreign_site
from playwright.sync_api import expect

from azure_auth.auth.web.headers import FRONT_CHANNEL

YEAR = 31_536_000
LONG = f"/{'x' * 2001}"


def build(production) -> Path:
    return production.log.parent / "web/build/client"


def hashed_asset(production) -> str:
    return "/assets/" + next((build(production) / "assets").glob("*.js")).name


def directives(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (directive.split() for directive in policy.split(";"))}


ROUTES = [
    ("GET", "/", 200),
    ("GET", "/callback?code=c&state=s", 200),
    ("GET", "/logout", 200),
    ("GET", "/reports", 200),
    ("GET", "an asset", 200),
    ("HEAD", "an asset", 200),
    ("GET", "/favicon.ico", 200),
    ("GET", "/ping", 200),
    ("GET", "/_health", 200),
    ("GET", "/auth/sign-in", 303),
    ("GET", "/auth/sign-in?return_to=https://evil.example", 303),
    ("POST", "/auth/sign-in", 405),
    ("POST", "/auth/session", 403),
    ("GET", "/auth/session", 405),
    ("GET", FRONT_CHANNEL, 200),
    ("POST", FRONT_CHANNEL, 405),
    ("GET", "/nowhere", 401),
    ("GET", "/api/figures", 401),
    ("POST", "/", 401),
    ("POST", "/_upload", 401),
    ("GET", "/_upload/file.txt", 401),
    ("GET", "/assets/none.js", 401),
    ("GET", "/_event", 404),
    ("OPTIONS", "/ping", 200),
    ("GET", "/%00", 400),
    ("GET", LONG, 414),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES, ids=lambda value: str(value)[:40])
def test_every_answer_has_its_headers(production, directory, method, path, status):
    """A policy without unsafe scripts, no frames but the directory's on one route, nothing sniffed, kept or leaked."""
    path = hashed_asset(production) if path == "an asset" else path
    preflight = {"Origin": production.url, "Access-Control-Request-Method": "GET"} if method == "OPTIONS" else {}
    answer = httpx.request(method, f"{production.url}{path}", headers=preflight)
    assert answer.status_code == status
    for name in ("content-security-policy", "referrer-policy", "cache-control"):
        assert len(answer.headers.get_list(name)) == 1, name
    policy = directives(answer.headers["content-security-policy"])
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"][0] == "'self'"
    assert all(re.fullmatch(r"'sha256-[\w+/]{43}='", source) for source in policy["script-src"][1:])
    assert (policy["form-action"], policy["base-uri"]) == (["'self'"], ["'none'"])
    framed = path == FRONT_CHANNEL
    assert policy["frame-ancestors"] == [directory.environ["AZURE_AUTHORITY_HOST"] if framed else "'none'"]
    assert answer.headers.get("x-frame-options") == (None if framed else "DENY")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert "strict-transport-security" not in answer.headers  # this app's address is http on loopback
    kept = f"public, max-age={YEAR}, immutable" if path.startswith("/assets/") and status == 200 else "no-store"
    assert answer.headers["cache-control"] == kept


def test_a_page_that_is_not_there_has_them_too(production, page):
    """Somebody signed in gets the 404 under the same policy, not to be kept."""
    page.goto(production.url)
    choose(page, ADA)
    greeted(page, ADA)
    for path in ("/nowhere", "/assets/none.js"):
        answer = page.request.get(f"{production.url}{path}")
        assert answer.status == 404
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_every_inline_script_of_the_build_is_hashed(production):
    """The policy names the hash of each, as a browser computes it, and of nothing else."""
    found = set()
    for file in build(production).rglob("*.html"):
        for attributes, script in re.findall(r"<script([^>]*)>(.*?)</script>", file.read_text(), re.DOTALL):
            if "src=" not in attributes:
                found.add(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'")
    assert found
    policy = directives(httpx.get(production.url).headers["content-security-policy"])
    assert set(policy["script-src"]) == {"'self'", *found}


NAVIGATES = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""What a browser says when it opens a page in a tab."""


def test_the_callback_is_never_redirected(production):
    """Whatever the host, the slash or the method, no answer at `/callback` repeats the code in a Location."""
    for path in ("/callback", "/callback/", "//callback", "/callback//"):
        for host in (production.url.removeprefix("http://"), "evil.example"):
            for method in ("GET", "HEAD", "POST"):
                for accept in ("*/*", "text/html,*/*"):
                    headers = {"Host": host, "Accept": accept, **NAVIGATES}
                    answer = httpx.request(method, f"{production.url}{path}?code=secret&state=s", headers=headers)
                    assert "secret" not in answer.headers.get("location", ""), (method, path, host, accept)
                    assert answer.status_code < 500


def test_no_page_complains(app, page):
    """A failure, a sign-in, the page of a developer and a sign-out leave no error in the console."""
    page.goto(f"{app.url}/reports")  # `page` itself holds the console to no error
    choose(page, "Cancel")
    page.get_by_role("alert").wait_for()
    page.get_by_role("link", name="Try again").click()
    choose(page, ADA)
    page.get_by_text("Reports for Ada Lovelace").wait_for()
    page.get_by_role("button", name="Tick").click()
    expect(page.locator("#ticks")).to_have_text(re.compile("[1-9]"))
    page.goto(app.url)
    greeted(page, ADA)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()


def test_a_handler_that_raises_says_so(app, page):
    """An alert with a reference that the log has, under the policy as well; nothing of the exception's own text."""
    page.goto(f"{app.url}/reports")
    choose(page, ADA)
    page.get_by_text("Reports for Ada Lovelace").wait_for()
    page.get_by_role("button", name="Break").click()
    alert = page.get_by_role("alert")
    expect(alert.get_by_text("Something went wrong")).to_be_visible()
    reference = re.search("Reference: ([0-9a-f]{10})", alert.inner_text())[1]
    assert reference in app.console()
    assert "ZeroDivisionError" in app.console()
    assert "ZeroDivisionError" not in page.inner_text("body")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("one more")).to_be_visible()  # the page goes on


def test_no_other_page_can_frame_us(production, browser):
    """Neither a page of another site nor one of another port shows us in a frame; our own address shows."""
    context = browser.new_context()
    page = context.new_page()
    with foreign_site({"/": f'<iframe src="{production.url}/logout"></iframe>'}) as port:
        for host in ("127.0.0.1", "localhost"):
            page.goto(f"http://{host}:{port}/")
            page.wait_for_load_state("networkidle")
            assert "You are signed out" not in page.frames[1].locator("body").inner_text()
    page.goto(f"{production.url}/logout")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    context.close()
