"""The nine steps in a real browser, in development and as a production build."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from browsing import ADA, GRACE, choose, greeted, weigh
from conftest import ROOT, free_port
from playwright.sync_api import Error, Page, expect
from running import RunningApp, reflex_run


def test_the_nine_steps(app, page):
    """From the front page to the greeting, through a reload, and out again to a page that says so."""
    page.goto(app.url)
    choose(page, ADA)
    greeted(page, ADA)
    assert page.url == f"{app.url}/"
    expect(page.get_by_text("ada@contoso.example")).to_be_visible()
    expect(page.get_by_text("AL", exact=True)).to_be_visible()
    page.reload()
    greeted(page, ADA)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    assert page.url.rstrip("/") == f"{app.url}/logout"
    page.get_by_role("link", name="Sign in").click()
    choose(page, GRACE)
    greeted(page, GRACE)


def test_the_page_that_was_asked_for_is_reached_with_its_query(app, page):
    """The query survives the sign-in as it was."""
    page.goto(f"{app.url}/?tab=2&q=a%20b")
    choose(page, ADA)
    greeted(page, ADA)
    assert page.url == f"{app.url}/?tab=2&q=a%20b"


def test_a_cancelled_sign_in_says_so(app, page):
    """Alert, heading, reference, two ways on; it stays, and each way leads where it says."""
    page.goto(f"{app.url}/?tab=2")
    choose(page, "Cancel")
    alert = page.get_by_role("alert")
    expect(alert.get_by_role("heading", name="The sign-in was cancelled")).to_be_visible()
    expect(alert.get_by_text(re.compile(r"^Reference: [0-9a-f]{10}$"))).to_be_visible()
    page.get_by_role("link", name="Try again").click()
    choose(page, ADA)
    greeted(page, ADA)
    assert page.url == f"{app.url}/?tab=2"


def test_another_account_can_be_used(app, page):
    """After a failure the way to another account asks the directory to let the person choose."""
    page.goto(app.url)
    choose(page, "Charles Babbage")
    expect(page.get_by_role("heading", name="This account belongs to another organisation")).to_be_visible()
    page.get_by_role("link", name="Use another account").click()
    page.get_by_role("button", name=GRACE).wait_for()
    assert "prompt=select_account" in page.url
    choose(page, GRACE)
    greeted(page, GRACE)


def test_a_person_who_fails_again_and_again_is_stopped(app, page):
    """The third start within a minute ends on a page that says so; nothing redirects by itself."""
    page.goto(app.url)
    for _ in range(2):
        choose(page, "Cancel")
        page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", name="We stopped trying")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("alert")).to_be_visible()


def test_a_session_that_cannot_be_made_is_no_success(production, page):
    """A browser that loses our cookie is told so, waits for a click each time, and is stopped at the third start."""
    begun: list[str] = []
    page.on("request", lambda request: "/auth/sign-in" in request.url and begun.append(request.url))
    page.goto(production.url)
    for clicks in range(1, 3):
        page.get_by_role("button", name=ADA).wait_for()
        page.context.clear_cookies()
        choose(page, ADA)
        expect(page.get_by_role("heading", name="This sign-in cannot be finished here")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert len(begun) == clicks
        page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", name="We stopped trying")).to_be_visible()
    expect(page.get_by_role("alert").get_by_text("Wait a minute, then try again")).to_be_visible()


def test_a_fragment_is_back_after_the_sign_in(app, page):
    """It stays in the browser, and nobody else hears of it; after the end of the session it is back as well."""
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(f"{request.url} {request.post_data}"))
    page.goto(f"{app.url}/reports?tab=2#secret-part")
    choose(page, ADA)
    expect(page.locator("#owner")).to_have_text(f"Reports for {ADA}")
    expect(page).to_have_url(f"{app.url}/reports?tab=2#secret-part")
    other = page.context.new_page()
    other.goto(app.url)
    other.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    choose(page, ADA)
    expect(page).to_have_url(f"{app.url}/reports?tab=2#secret-part")
    expect(page.locator("#owner")).to_have_text(f"Reports for {ADA}")
    assert "secret-part" not in app.console()
    assert [line for line in asked if "secret-part" in line and "/reports" not in line] == []
    page.goto(f"{app.url}/reports#%")
    expect(page.locator("#owner")).to_have_text(f"Reports for {ADA}")
    page.goto(f"{app.url}/#secret-part")
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.get_by_role("link", name="Sign in").click()
    choose(page, GRACE)
    greeted(page, GRACE)
    assert page.url == f"{app.url}/"  # whoever signs out takes it along


def test_a_public_page_with_a_fragment_is_public(app, page):
    """Nobody is sent to sign in from it."""
    page.goto(f"{app.url}/logout#part")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert page.url == f"{app.url}/logout#part"


def test_a_report_is_reached_with_its_query(production, directory, page):
    """An address that is no page leads through the sign-in to what was asked for; its fragment goes to nobody."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{production.url}/api/figures?id=3&name=%C3%A4#secret-part")
    choose(page, ADA)
    page.wait_for_url(f"{production.url}/api/figures?id=3&name=%C3%A4")
    assert not [url for url in asked if "secret-part" in url and "/api/figures" not in url]


def test_somebody_who_is_signed_in_follows_a_link_to_the_sign_in(app, page):
    """It leads straight on, and what is open in another tab stays as it is."""
    page.goto(app.url)
    choose(page, ADA)
    greeted(page, ADA)
    page.evaluate("window.same = true")
    other = page.context.new_page()
    other.goto(f"{app.backend_url}/auth/sign-in?return_to=/reports")
    expect(other.locator("#owner")).to_have_text(f"Reports for {ADA}")
    page.wait_for_timeout(500)
    assert page.evaluate("window.same") is True


def test_a_sign_in_is_begun_once(app, page):
    """Opening a page begins one flow, in development too, where React runs effects twice."""
    begun: list[str] = []
    page.on("request", lambda request: "/auth/sign-in" in request.url and begun.append(request.url))
    page.goto(app.url)
    page.get_by_role("button", name=ADA).wait_for()
    assert len(begun) == 1


@pytest.mark.slow
def test_a_long_wait_says_so(production, directory, page):
    """After 3 s the waiting page says that it takes long, after 10 s it offers a way back, and nothing moves."""
    page.goto(production.url)
    page.get_by_role("button", name=ADA).wait_for()
    with directory.fault(endpoint="token", delay=15):
        choose(page, ADA)
        longer, again = page.get_by_text("takes longer than usual"), page.get_by_role("link", name="Start again")
        expect(page.get_by_text("Signing you in")).to_be_visible()
        assert not longer.is_visible()
        assert not again.is_visible()
        expect(longer).to_be_visible(timeout=6_000)
        assert not again.is_visible()
        expect(again).to_be_visible()
        greeted_later = page.get_by_role("heading", name=f"Hello {ADA}")  # this redemption takes its time, and ends
        expect(greeted_later).to_be_visible(timeout=30_000)


def test_an_earlier_failure_is_not_shown_again(production, directory, page):
    """While the next sign-in of the tab is under way, the page says that, and not what went wrong before."""
    page.goto(production.url)
    choose(page, "Cancel")
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("button", name=ADA).wait_for()
    with directory.fault(endpoint="token", delay=3):
        choose(page, ADA)
        expect(page.get_by_role("heading", name="Signing you in")).to_be_visible(timeout=2_500)
        page.wait_for_timeout(1_000)
        assert not page.get_by_role("alert").is_visible()
    greeted(page, ADA)


def test_a_page_that_is_not_there_leads_on(production, browser):
    """A stranger learns only after signing in what is not there; then it leads to the front page."""
    page = browser.new_context(ignore_https_errors=True).new_page()  # its console has the 404
    page.goto(f"{production.url}/nowhere")
    choose(page, ADA)
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    assert page.get_by_role("link", name="Go to the front page").get_attribute("href") == "/"
    page.context.close()


def test_a_person_without_a_name_is_greeted(app, page):
    """The user name stands in; never undefined, never None."""
    page.goto(app.url)
    choose(page, "frontdesk@contoso.example")
    greeted(page, "frontdesk@contoso.example")
    assert not re.search("undefined|None|null", page.inner_text("body"))


def test_the_code_does_not_stay_in_the_history(app, page):
    """Back from the greeting does not replay the answer; going there by hand leads on."""
    seen: list[str] = []
    page.on("request", lambda request: "/callback?" in request.url and seen.append(request.url))
    page.goto(app.url)
    choose(page, ADA)
    greeted(page, ADA)
    page.goto(seen[0])
    greeted(page, ADA)
    assert page.url == f"{app.url}/"


def test_a_refused_sign_in_leaves_no_code(production, directory, page):
    """After a failure, address and history have no code, the title says so, and a reload shows the same failure."""
    with directory.fault(endpoint="token", aadsts=50105):
        page.goto(production.url)
        choose(page, ADA)
        alert = page.get_by_role("alert")
        alert.wait_for()
    assert re.fullmatch(rf"{re.escape(production.url)}/callback/?\?state=[\w-]+", page.url)
    expect(page).to_have_title(re.compile("^Sign-in failed · "))
    told, address = alert.inner_text(), page.url
    page.reload()
    alert.wait_for()
    assert alert.inner_text() == told
    page.goto(f"{production.url}/logout")
    page.go_back()
    alert.wait_for()
    assert page.url == address


@pytest.mark.parametrize("path", ["/callback?state=s&code=", "/?a="])
def test_an_address_that_is_too_long_says_so(app, page, path):
    """An address of 9,000 characters is longer than a state keeps. The page says so, with a reference and a link."""
    page.goto(f"{app.url}{path}{'x' * 9_000}")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "This address is too long" in alert.inner_text()
    assert re.search(r"Reference: [0-9a-f]{10}", alert.inner_text())
    page.get_by_role("link", name="Start page").click()
    page.wait_for_url(re.compile("/authorize"))


WITHOUT_SOCKETS = """
window.Real = window.WebSocket;
window.WebSocket = function (address, protocols) {
  return (window.last = new window.Real(window.blocked ? address.replace(/:\\d+/, ":1") : address, protocols));
};
Object.assign(window.WebSocket, { OPEN: 1, CONNECTING: 0, CLOSING: 2, CLOSED: 3 });
"""
"""Opens sockets at a port where nobody listens, while `window.blocked` says so."""


@pytest.fixture
def offline(browser) -> Iterator[Page]:
    """A page whose console may report refused connections."""
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(WITHOUT_SOCKETS)
        yield page


def test_a_blocked_connection_says_so(production, offline):
    """If websockets are blocked, the page says so, with a link to load it again, and without Reflex's toast."""
    page = offline
    page.add_init_script("window.blocked = true")
    page.goto(production.url)
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The connection is blocked" in alert.inner_text()
    assert "Cannot connect to server" not in page.content()
    with page.expect_navigation():
        page.get_by_role("link", name="Load the page again").click()
    alert.wait_for()


def test_a_page_at_another_address_says_where_the_site_is(development, offline):
    """In development no server sees that a page was opened by another name of this machine; the page itself says so."""
    page = offline
    page.goto(development.url.replace("localhost", "127.0.0.1"))
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "This site has another address" in alert.inner_text()
    page.get_by_role("link", name="Open the site").click()
    page.wait_for_url(re.compile("/authorize"))
    assert f"http://127.0.0.1:{development.url.rpartition(':')[2]}, not {development.url}" in development.console()


def test_a_lost_connection_says_so_and_heals(production, offline):
    """If a page loses its connection, it says so, and continues when the server is back."""
    page = offline
    page.goto(f"{production.url}/logout")
    page.get_by_role("heading", name="You are signed out").wait_for()
    assert page.get_by_role("alert").count() == 0
    page.evaluate("window.blocked = true; window.last.close()")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The connection is lost" in alert.inner_text()
    page.evaluate("window.blocked = false")
    alert.wait_for(state="detached")


def test_a_reload_in_the_middle_ends_well(app, page):
    """A person who reloads the page on the way in gets in."""
    page.goto(app.url)
    page.get_by_role("button", name=ADA).wait_for()
    with page.expect_request(lambda request: "/callback?" in request.url):
        choose(page, ADA)
    page.wait_for_url("**/callback?*", wait_until="commit")
    with suppress(Error):  # it has left already
        page.evaluate("location.reload()")
    greeted(page, ADA)


def test_a_reload_while_the_directory_takes_its_time_ends_well(production, directory, page):
    """A reload in the middle of the redemption does not lose it."""
    page.goto(production.url)
    page.get_by_role("button", name=ADA).wait_for()
    with directory.fault(endpoint="token", delay=2):
        choose(page, ADA)
        page.wait_for_url("**/callback?*")
        page.reload()
        greeted(page, ADA)


def test_a_stranger_at_the_sign_out_page_starts_nothing(app, page):
    """`/logout` says the same to everybody, and nothing redirects by itself."""
    asked: list[str] = []
    page.on("request", lambda request: "/oauth2/" in request.url and asked.append(request.url))
    page.goto(f"{app.url}/logout")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert asked == []


def test_two_browsers_are_two_people(app, people):
    """What one signs in to, the other does not see."""
    first, second = people(), people()
    first.goto(app.url)
    choose(first, ADA)
    greeted(first, ADA)
    second.goto(app.url)
    choose(second, GRACE)
    greeted(second, GRACE)
    first.reload()
    greeted(first, ADA)


def answer_for(app: RunningApp, directory, person: str) -> tuple[str, dict[str, str]]:
    """Somebody's own sign-in up to the directory's answer: the link to the callback, and the flow's cookie."""
    begun = httpx.get(f"{app.backend_url}/auth/sign-in")
    answer = directory.answer(begun.headers["location"], person)
    name, value = next((name, value) for name, value in begun.cookies.items() if "_flow_" in name)
    return f"{app.url}/callback?{urlencode(answer)}", {"name": name, "value": value, "url": app.url}


def test_nobody_is_signed_in_by_a_link_of_somebody_else(app, people, directory):
    """Login CSRF: the attacker's answer does nothing in the victim's browser, and the victim's own flow completes."""
    link, cookie = answer_for(app, directory, GRACE)
    victim, attacker = people(), people()
    victim.goto(app.url)
    victim.get_by_role("button", name=ADA).wait_for()
    other_tab = victim.context.new_page()
    other_tab.goto(link)
    expect(other_tab.get_by_role("heading", name="This sign-in cannot be finished here")).to_be_visible(timeout=20_000)
    choose(victim, ADA)
    greeted(victim, ADA)
    attacker.context.add_cookies([cookie])
    attacker.goto(link)  # the control: the same link works for its owner
    greeted(attacker, GRACE)


def test_nothing_secret_crosses_the_socket(app, page):
    """No token, no cookie and no id of the person is in any frame that the browser gets."""
    frames: list[str] = []

    def watch(socket) -> None:
        socket.on("framereceived", lambda data: frames.append(str(data)))

    page.on("websocket", watch)
    page.goto(app.url)
    choose(page, ADA)
    greeted(page, ADA)
    received = "\n".join(frames)
    cookies = [cookie["value"] for cookie in page.context.cookies() if "azure_auth" in cookie["name"]]
    assert len(cookies) > 1
    assert "Ada Lovelace" in received
    for secret in (*cookies, "ada00000-0000", "access_token", "refresh_token"):
        assert secret not in received
    assert not re.search(r"(?<![\w-])eyJ", received)  # how a JWT begins; within a random value it may stand by chance
    assert page.evaluate("document.cookie") == ""


def tab_to(page: Page, role: str, name: str) -> None:
    """Reach a control with the Tab key, in a few presses."""
    control = page.get_by_role(role, name=name)
    control.wait_for()
    for _ in range(4):
        page.keyboard.press("Tab")
        if control.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"{name} cannot be reached with the keyboard")


def test_the_keyboard_is_enough(app, page):
    """Every step can be taken with Tab and Enter."""
    page.goto(app.url)
    tab_to(page, "button", ADA)
    page.keyboard.press("Enter")
    greeted(page, ADA)
    tab_to(page, "button", "Sign out")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    tab_to(page, "link", "Sign in")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(app, people, scheme):
    """At 320 px nothing is cut off or scrolls sideways, and the page follows the scheme."""
    page = people(viewport={"width": 320, "height": 640}, color_scheme=scheme)

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        background = page.evaluate("getComputedStyle(document.querySelector('main').parentElement).backgroundColor")
        lightness = float(re.findall(r"[\d.]+", background)[0])
        assert (lightness > 0.5) == (scheme == "light"), background

    page.goto(app.url)
    choose(page, "Cancel")
    page.get_by_role("alert").wait_for()
    fits()
    page.get_by_role("link", name="Try again").click()
    choose(page, "frontdesk@contoso.example")
    greeted(page, "frontdesk@contoso.example")
    fits()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    fits()


def test_the_demo_says_that_it_is_one(development, production, people):
    """A banner on every page in development with the demo directory, and on none elsewhere."""
    banner = "nobody is really signed in"
    for path in ("/logout", "/callback"):
        demo, real = people(), people()
        demo.goto(development.url + path)
        expect(demo.get_by_role("note")).to_contain_text(banner)
        real.goto(production.url + path)
        real.get_by_role("heading").wait_for()
        assert banner not in real.inner_text("body")


def test_production_has_no_demo_people(production):
    """The demo directory's addresses do not exist there: a stranger hears what they hear at any unknown address."""
    tenant = "c0ffee00-0000-4000-8000-00000000cafe"
    for path in ("oauth2/v2.0/authorize", "v2.0/.well-known/openid-configuration"):
        answer = httpx.get(f"{production.url}/demo/{tenant}/{path}")
        assert answer.status_code == httpx.get(f"{production.url}/nowhere").status_code == 401
        assert "Ada" not in answer.text


def test_the_first_page_is_light(production, page):
    """All that the first page loads weighs at most 750 kB, uncompressed."""
    weights = weigh(page, f"{production.url}/logout", "You are signed out")
    assert 0 < sum(unpacked for _, unpacked in weights.values()) <= 750_000, weights


def test_only_our_own_origin_is_let_in(app):
    """Another site's script reads nothing and opens no socket; ours does."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    socket = f"{app.backend_url}/_event/?EIO=4&transport=websocket&token=t"
    for origin, allowed in ((app.url, True), ("http://evil.example", False), ("null", False), (f"{app.url}0", False)):
        answer = httpx.get(f"{app.backend_url}/ping", headers={"Origin": origin})
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed, origin
        with httpx.stream("GET", socket, headers={**upgrade, "Origin": origin}) as opened:
            assert (opened.status_code == 101) is allowed, origin


def test_development_is_bound_to_loopback(development):
    """Neither the pages nor the backend can be reached from another machine."""
    listening: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, _, port = local.rpartition(":")
                listening.setdefault(int(port, 16), set()).add(address)
    loopback = {"0100007F", "00000000000000000000000001000000"}
    for url in (development.url, development.backend_url):
        addresses = listening[int(url.rpartition(":")[2])]
        assert addresses
        assert addresses <= loopback


@pytest.mark.slow
def test_the_site_starts_while_the_directory_is_down(directory, people, tmp_path):
    """It serves its pages, and says what is wrong to whoever signs in; nothing loops."""
    port = free_port()
    environ = {**directory.environ, "AZURE_AUTHORITY_HOST": f"https://localhost:{free_port()}"}
    with reflex_run(tmp_path, environ, frontend=port) as app:
        page = people()
        page.goto(f"{app.url}/?tab=2")
        expect(page.get_by_role("heading", name="Microsoft cannot be reached right now")).to_be_visible(timeout=30_000)
        again = page.get_by_role("link", name="Try again").get_attribute("href")
        assert again.startswith(f"{app.url}/auth/sign-in?return_to=%2F%3Ftab%3D2&")
        page.wait_for_load_state("networkidle")
        assert page.get_by_role("alert").is_visible()
        reference = re.search("Reference: ([0-9a-f]{10})", page.inner_text("main"))[1]
        assert reference in app.console()
        page.close()  # before the app ends, or the page would complain of its socket


def test_a_start_leaves_the_lock_as_it_is(app):
    """`reflex.lock` has what the pages need and no more: a clone stays clean."""
    used, locked = (json.loads((site / "reflex.lock/package.json").read_text()) for site in (app.site, ROOT))
    del used["dependencies"]["react-dropzone"]  # of the page in `tests/site`
    assert used == locked


def test_the_console_is_clean(app, page):
    """After a sign-in and a failed one, the console has Reflex's lines and ours: no warning, traceback or secret."""
    page.goto(app.url)
    with page.expect_request(lambda request: "/callback?" in request.url) as caught:
        choose(page, ADA)
    greeted(page, ADA)
    console = app.console()
    assert "the redirect URI is" in console
    console = console.replace("http://evil.example is not an accepted origin. (further occurrences of this error", "")
    assert not re.search(r"traceback|deprecat|warning|\berror\b", console, re.IGNORECASE), console
    for secret in [*re.findall(r"=([^&]+)", caught.value.url), "ada@contoso.example", "Lovelace"]:
        assert secret not in console


def test_all_tabs_leave_at_once_and_nothing_comes_back(app, page):
    """Sign-out in one tab: the others leave by themselves; Back and a copy of a tab show nothing of what was there."""
    page.goto(f"{app.url}/reports")
    choose(page, ADA)
    expect(page.get_by_text("salaries-of-everybody", exact=True)).to_be_visible()
    other = page.context.new_page()
    other.goto(f"{app.url}/reports")
    expect(other.get_by_text("Reports for Ada Lovelace")).to_be_visible()
    page.goto(app.url)
    greeted(page, ADA)
    page.get_by_role("button", name="Sign out").click()
    for tab in (other, page):
        expect(tab.get_by_role("heading", name="You are signed out")).to_be_visible()
    with page.context.expect_page() as copied:
        other.evaluate("path => void window.open(path)", f"{app.url}/reports")
    copied.value.get_by_role("button", name=ADA).wait_for()
    page.go_back()
    page.get_by_role("button", name=ADA).wait_for()  # a stranger again, who is asked to sign in
    for tab in (page, other, copied.value):
        assert "salaries-of-everybody" not in tab.content()


def test_a_duplicated_tab_is_signed_in(app, page):
    """A copy of a live tab, with its sessionStorage, loads once more under a key of its own, and both go on."""
    page.goto(app.url)
    choose(page, ADA)
    greeted(page, ADA)
    token = page.evaluate("sessionStorage.token")
    with page.context.expect_page() as copied:
        page.evaluate("void window.open(location.href)")
    greeted(copied.value, ADA)
    assert copied.value.evaluate("sessionStorage.token") != token
    page.reload()
    greeted(page, ADA)
