"""Login CSRF: no page of somebody else signs the victim in as the attacker, or spoils the victim's own sign-in."""

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from html import escape
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from browsing import ADA, GRACE, choose, greeted
from foreign import foreign_site
from playwright.sync_api import Page, expect
from raw_tab import RawTab, close_all
from test_browser import answer_for


def ticket_for(app, link: str, cookie: dict[str, str]) -> str:
    """The ticket at the end of somebody's own sign-in; nobody has used it yet."""

    async def fetch() -> str:
        url = urlsplit(link)
        tab = await RawTab.open(
            app.backend_url,
            f"{url.path}?{url.query}",
            token=str(uuid.uuid4()),
            cookie=f"{cookie['name']}={cookie['value']}",
            origin=app.url,
        )
        await tab.until(lambda: tab.sees.get("ticket"))
        await close_all()
        return tab.sees["ticket"]

    with ThreadPoolExecutor(1) as thread:  # this one belongs to the browser
        return thread.submit(asyncio.run, fetch()).result(30)


def hostile_pages(app, link: str, ticket: str) -> dict[str, str]:
    """Pages by path: each tries one way, by itself or at a click."""
    action, _, query = link.partition("?")
    inputs = "".join(f'<input name="{n}" value="{escape(v)}">' for n, v in parse_qsl(query))
    session, start = f"{app.backend_url}/auth/session", f"{app.backend_url}/auth/sign-in"
    submit = "<script>document.forms[0].submit()</script>"
    sent = "credentials: 'include', mode: 'no-cors'"
    post = f'method="post" enctype="text/plain" action="{session}"'
    return {
        "/link": f'<a href="{escape(link)}">Win</a>',
        "/form": f'<form action="{action}">{inputs}</form>{submit}',
        "/post": f'<form method="post" action="{action}">{inputs}</form>{submit}',
        "/ticket": f'<form {post}><input name="{ticket}"></form>{submit}',
        "/start": f'<form action="{start}"><input name="return_to" value="//evil.example"></form>{submit}',
        "/fetch": f"<script>Promise.allSettled([fetch('{link}', {{{sent}}}), fetch('{start}', {{{sent}}}),"
        f" fetch('{session}', {{method: 'POST', body: '{ticket}', {sent}}})]).then(() => document.title = 'done')"
        "</script>",
        "/images": f'<img src="{start}">' * 30,
        "/frames": f'<iframe src="{start}"></iframe>' * 30,
        "/prefetch": f'<link rel="prefetch" href="{start}">' * 30,
        "/frame": f'<iframe src="{escape(link)}"></iframe><iframe src="{start}"></iframe>'
        f'<iframe name="in"></iframe><form target="in" {post}>'
        f'<input name="{ticket}"></form>{submit}',
    }


def lure(page: Page, site: str, way: str) -> None:
    """Bring the victim to a hostile page, and wait until it has done what it can."""
    page.goto(f"{site}{way}", wait_until="commit")
    if way == "/link":
        page.get_by_role("link", name="Win").click()
    if way == "/fetch":
        page.wait_for_function("document.title === 'done'")
    if way in ("/link", "/form"):
        expect(page.get_by_role("heading", name="This sign-in cannot be finished here")).to_be_visible(timeout=20_000)
    elif way == "/start":
        page.get_by_role("button", name=ADA).wait_for()
    else:
        page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("host", [pytest.param("127.0.0.1", marks=pytest.mark.slow), "localhost"])
def test_no_foreign_page_signs_anybody_in(app, browser, directory, host):
    """By link, form, fetch and frame, from another site and another port: never; the victim's own flow completes."""
    link, _ = answer_for(app, directory, GRACE)
    ticket = ticket_for(app, *answer_for(app, directory, GRACE))
    context = browser.new_context(ignore_https_errors=True)  # what is refused is said in its console
    victim, hostile = context.new_page(), context.new_page()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    victim.goto(app.url)
    victim.get_by_role("button", name=ADA).wait_for()
    flow = next(c for c in context.cookies(app.url) if "_flow_" in c["name"])
    with foreign_site(hostile_pages(app, link, ticket)) as port:
        for way in hostile_pages(app, link, ticket):
            asked.clear()
            lure(hostile, f"http://{host}:{port}", way)
            assert any(url.startswith((f"GET {app.url}/", f"GET {app.backend_url}/", "POST http")) for url in asked), (
                way
            )
            cookies = {c["name"]: c["value"] for c in context.cookies(app.url)}
            assert "azure_auth_session" not in cookies, way
            assert cookies[flow["name"]] == flow["value"], way
    choose(victim, ADA)
    greeted(victim, ADA)
    context.close()


WAYS_TO_EVICT = {
    "windows": "for (let i = 0; i < 30; i++) window.open('{start}');",
    "cookies": "for (let i = 0; i < 400; i++) document.cookie = `x${{i}}=1; path=/`;",
}


@pytest.mark.parametrize("way", WAYS_TO_EVICT)
def test_whoever_evicts_a_flow_signs_nobody_in(production, browser, directory, way):
    """By windows and by other cookies of the host a page can push a flow out; its person reads so, and begins anew."""
    link, _ = answer_for(production, directory, GRACE)
    context = browser.new_context(ignore_https_errors=True)
    victim, hostile = context.new_page(), context.new_page()
    victim.goto(production.url)
    victim.get_by_role("button", name=ADA).wait_for()
    flow = next(c["name"] for c in context.cookies(production.url) if "_flow_" in c["name"])
    script = WAYS_TO_EVICT[way].format(start=f"{production.url}/auth/sign-in")
    with foreign_site({"/": f"<script>{script}</script>"}) as port:
        hostile.goto(f"http://localhost:{port}/")
        end = time.monotonic() + 30
        while flow in {c["name"] for c in context.cookies(production.url)} and time.monotonic() < end:
            hostile.wait_for_timeout(100)
    assert flow not in {c["name"] for c in context.cookies(production.url)}
    for page in context.pages:
        if page != victim:
            page.close()
    attacked = context.new_page()
    for page, go in ((attacked, lambda: attacked.goto(link)), (victim, lambda: choose(victim, ADA))):
        go()
        expect(page.get_by_role("heading", name="This sign-in cannot be finished here")).to_be_visible()
        assert "azure_auth_session" not in {c["name"] for c in context.cookies(production.url)}
    victim.get_by_role("link", name="Try again").click()
    choose(victim, ADA)
    greeted(victim, ADA)
    # Starts that do not see each other's cookies add up to more, until the next page.
    assert len([c for c in context.cookies(production.url) if "_flow_" in c["name"]]) <= 24
    context.close()


def test_the_attackers_own_answer_was_good(app, people, directory):
    """The control: link and ticket as in the attacks sign their owner in."""
    link, cookie = answer_for(app, directory, GRACE)
    owner = people()
    owner.context.add_cookies([cookie])
    owner.goto(link)
    greeted(owner, GRACE)
    link, cookie = answer_for(app, directory, GRACE)
    ticket = ticket_for(app, link, cookie)
    answer = httpx.post(
        f"{app.backend_url}/auth/session",
        content=ticket,
        headers={"Origin": app.url, "Cookie": f"{cookie['name']}={cookie['value']}"},
    )
    assert "azure_auth_session=" in answer.headers["set-cookie"]


REFUSED = '"reason": "a request from another origin"'
SUBMIT = "<form method=post action={target}><input name=a value=b></form><script>document.forms[0].submit()</script>"
SENT = "{{method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x'}}"
WAYS_TO_POST = {
    "form": ("both", SUBMIT),
    "fetch": ("both", f"<script>fetch('{{target}}', {SENT})</script>"),
    "beacon": ("both", "<script>navigator.sendBeacon('{target}', 'x')</script>"),
    "image": ("figures", "<img src={target}>"),
    "frame": ("figures", "<iframe src={target}></iframe>"),
    "sandbox": ("both", f"<iframe sandbox='allow-forms allow-scripts' srcdoc=\"{SUBMIT}\"></iframe>"),
}


def test_no_page_of_another_port_uses_a_developers_endpoint(production, browser, directory):
    """The victim is signed in, and the cookie jar knows no ports; a page of the app itself may ask."""
    target = f"{production.url}/api/{{}}"
    pages = {f"/{way}": attack.format(target=target.format(path)) for way, (path, attack) in WAYS_TO_POST.items()}
    with browser.new_context(ignore_https_errors=True) as context, foreign_site(pages) as port:
        page = context.new_page()
        page.goto(production.url)
        choose(page, ADA)
        greeted(page, ADA)
        before = production.work()
        for way in WAYS_TO_POST:
            refused, hostile = production.console().count(REFUSED), context.new_page()
            hostile.goto(f"http://localhost:{port}/{way}", wait_until="commit")
            end = time.monotonic() + 20
            while production.console().count(REFUSED) == refused and time.monotonic() < end:
                hostile.wait_for_timeout(20)
            assert production.console().count(REFUSED) > refused, way
            hostile.close()  # its own navigation may be under way still
        assert production.work() == before
        page.goto(production.url)
        greeted(page, ADA)
        ours = page.evaluate("fetch('/api/both', {method: 'POST', body: 'x'}).then(answer => answer.text())")
        assert "Ada Lovelace" in ours
