"""Signing out at the directory reaches the app: in a frame, without cookies, by the directory's `sid` alone."""

import statistics
import time
import uuid
from contextlib import contextmanager

import httpx
from browsing import ADA, GRACE, choose, greeted
from foreign import foreign_site
from playwright.sync_api import Page, expect

from azure_auth.auth.web.headers import FRONT_CHANNEL

SAID = "You signed out of Microsoft, and so of this site."


@contextmanager
def watching(page: Page):
    """The addresses of the app's front-channel route that the browser asks for, with the cookies that it sent."""
    asked: list[tuple[str, str]] = []

    def note(request) -> None:
        if FRONT_CHANNEL in request.url:
            asked.append((request.url, request.all_headers().get("cookie", "")))

    page.context.on("requestfinished", note)
    yield asked


def authority(app, directory) -> str:
    demo = f"{app.backend_url}/demo/c0ffee00-0000-4000-8000-00000000cafe"
    real = f"{directory.environ['AZURE_AUTHORITY_HOST']}/{directory.environ['AZURE_TENANT_ID']}"
    return demo if "https" not in app.url and app.url != app.backend_url else real


def sign_in(page: Page, app, person: str = ADA) -> None:
    page.goto(app.url)
    choose(page, person)
    greeted(page, person)


def test_a_sign_out_at_the_directory_reaches_every_tab(app, directory, people):
    """Its own sign-out page, opened elsewhere, ends the session: all tabs leave and say why; others stay."""
    page, other = people(), people()
    sign_in(page, app)
    sign_in(other, app, GRACE)
    second = page.context.new_page()
    second.goto(f"{app.url}/reports")
    second.get_by_text("Reports for Ada Lovelace").wait_for()
    third = page.context.new_page()
    with watching(page) as asked:
        third.goto(f"{authority(app, directory)}/oauth2/v2.0/logout")
        for tab in (page, second):
            expect(tab.get_by_role("heading", name="You are signed out")).to_be_visible()
            expect(tab.get_by_text(SAID)).to_be_visible()
    assert len(asked) == 1
    page.goto(app.url)
    page.get_by_role("button", name=ADA).wait_for()  # nobody is signed in any more
    other.reload()
    greeted(other, GRACE)


def test_signing_out_here_tells_the_directory_which_tells_us(app, page):
    """The round trip ends on the page that says so, and complains of nothing."""
    sign_in(page, app)
    with watching(page) as asked:
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
        page.wait_for_url(f"{app.url}/logout**")
    assert len(asked) == 1


def sid_of(page: Page, app, directory) -> str:
    """What the directory would send for the person who is signed in in this browser."""
    cookies = page.context.cookies(f"{authority(app, directory)}/oauth2/v2.0/logout")
    name = "demo_directory"
    cookie = next(c["value"] for c in cookies if c["name"] == name)
    answer = httpx.get(f"{authority(app, directory)}/oauth2/v2.0/logout", cookies={name: cookie})
    return answer.text.partition("sid=")[2][:36]


def test_nothing_but_the_sid_is_needed(production, directory, people):
    """No cookie, no referrer: a request from anywhere with the right `sid` ends that session, in whatever case."""
    page = people()
    sign_in(page, production)
    sid = sid_of(page, production, directory)
    assert str(uuid.UUID(sid)) == sid
    for wrong in (
        "",
        "?sid=",
        f"?sid={uuid.uuid4()}",
        f"?sid={sid}&sid={sid}",
        f"?sid={sid}&sid={uuid.uuid4()}",
        f"?sid={sid[:-1]}",
        f"?sid={sid}%00",
        f"?sid=%7B{sid}%7D",
        f"?sid={sid.replace('-', '')}",
        "?sid=%27%20OR%201=1--",
        f"?SID={sid}",
        f"?sid={'x' * 50_000}",
    ):
        assert httpx.get(f"{production.url}{FRONT_CHANNEL}{wrong}").status_code == 200
    assert httpx.post(f"{production.url}{FRONT_CHANNEL}?sid={sid}").status_code == 405
    page.wait_for_timeout(500)
    page.reload()
    greeted(page, ADA)
    httpx.get(f"{production.url}{FRONT_CHANNEL}?sid={sid.upper()}")
    expect(page.get_by_text(SAID)).to_be_visible()


def test_known_and_unknown_sids_answer_alike(production, directory, people):
    """Status, headers and body are the same, and so is the time, within what a network hides."""
    pages = [people() for _ in range(3)]
    sids = []
    for page in pages:
        sign_in(page, production)
        sids.append(sid_of(page, production, directory))
    took: dict[bool, list[float]] = {True: [], False: []}
    answers = set()
    with httpx.Client() as http:
        http.get(f"{production.url}/ping")
        for known, sid in [(False, str(uuid.uuid4())) for _ in range(30)] + [
            (True, sid) for sid in sids for _ in range(10)
        ]:
            began = time.perf_counter()
            answer = http.get(f"{production.url}{FRONT_CHANNEL}", params={"sid": sid})
            took[known].append(time.perf_counter() - began)
            headers = {name: value for name, value in answer.headers.items() if name != "date"}
            answers.add((answer.status_code, tuple(sorted(headers.items())), answer.text))
    assert len(answers) == 1
    assert abs(statistics.median(took[True]) - statistics.median(took[False])) < 0.01, took
    for page in pages:
        expect(page.get_by_text(SAID)).to_be_visible()


def test_only_the_directory_frames_that_route_alone(production, directory, browser):
    """A page of somebody else that frames the route is stopped by the browser; the directory's own page is not."""
    blocked: list[str] = []
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.on("console", lambda message: "frame-ancestors" in message.text and blocked.append(message.text))
    with foreign_site({"/": f'<iframe src="{production.url}{FRONT_CHANNEL}?sid={uuid.uuid4()}"></iframe>'}) as port:
        for host in ("127.0.0.1", "localhost"):
            page.goto(f"http://{host}:{port}/")
            page.wait_for_load_state("networkidle")
    assert len(blocked) == 2
    policy = httpx.get(f"{production.url}{FRONT_CHANNEL}").headers["content-security-policy"]
    assert policy.endswith(f"frame-ancestors {directory.environ['AZURE_AUTHORITY_HOST']}")
    context.close()


def test_the_frame_works_without_cookies(production, directory, people):
    """Signing out in a profile that has the directory's cookie and none of ours ends the session in the other one."""
    page, elsewhere = people(), people()
    sign_in(page, production)
    url = f"{authority(production, directory)}/oauth2/v2.0/logout"
    elsewhere.context.add_cookies([c for c in page.context.cookies(url) if c["name"] == "demo_directory"])
    with watching(elsewhere) as asked:
        elsewhere.goto(url)
        expect(page.get_by_text(SAID)).to_be_visible()
    assert ["azure_auth" in cookie for _, cookie in asked] == [False]
