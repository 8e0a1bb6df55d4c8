"""The embedded store fails while the app runs: nobody is let in, who is in works on, and it heals by itself."""

import random
import re
import resource
import sqlite3
import uuid
from contextlib import closing, contextmanager

import pytest
from browsing import browser_profile
from conftest import KEYS
from playwright.async_api import expect
from raw_browser import visitors
from raw_tab import APP_STATE, RawTab
from running import app_and_directory, children, cloned

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.demo.people import PEOPLE
from azure_auth.errors import StoreUnavailable
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
ADA, GRACE = PEOPLE[0].oid, PEOPLE[1].oid
REPORTS = f"{APP_STATE}.azure_auth___pages___reports____reports"
CANARY = "salaries-of-everybody"
HEADING = "This site cannot remember anybody right now"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A production build that writes to the store at every event, not only once a minute."""
    folder = tmp_path_factory.mktemp("faults")
    site = cloned(folder)
    active = site / "azure_auth/auth/sessions/active.py"
    often = active.read_text().replace("_WRITE_SECONDS = 60.0", "_WRITE_SECONDS = 0.0")
    assert often != active.read_text()
    active.write_text(often)
    with app_and_directory(folder, site=site) as (app, _):
        yield app


@pytest.fixture
async def visitor(app):
    async with visitors(app.url) as visit:
        yield visit


def stored(app):
    return app.site / ".data/sessions.sqlite"


@contextmanager
def full(app):
    """No file of the app may grow beyond what the store has; needs no privilege, unlike a small disk."""
    (worker,) = children(app.pid)
    size = stored(app).with_name("sessions.sqlite-wal").stat().st_size
    assert size > 2 * len(app.console())  # or the console would be full as well
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(app):
    """Somebody else has the right to write and does not give it back; root writes to read-only files."""
    with closing(sqlite3.connect(stored(app), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def garbage(app, file):
    """Overwrite what the file, or its log, has; nothing of it is in the app's cache any more."""
    with closing(sqlite3.connect(stored(app), isolation_level=None)) as other:
        if file == "sessions.sqlite":
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.execute(f"PRAGMA user_version = {random.randrange(1, 1_000_000)}")
        if file == "sessions.sqlite":
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = stored(app).with_name(file)
        size = path.stat().st_size
        assert size > 10_000
        with path.open("r+b") as damaged:
            damaged.write(random.randbytes(size))


async def loaded(app, browser):
    """A page in one more tab of a browser."""
    tab = await RawTab.open(app.url, "/reports", token=str(uuid.uuid4()), cookie=browser.cookie)
    await tab.until(lambda: tab.sees.get("is_hydrated") or tab.sees.get("failure") or tab.sees.get("leaving_to"), 20)
    return tab


async def figures(app, browser):
    return await browser._http.ask("GET", f"{app.url}/api/figures", cookie=browser.cookie)


async def is_in(app, browser, tab):
    """An event, a page that is loaded anew and a request work, each as the person's."""
    row = f"row {random.random()}"
    await tab.send(f"{REPORTS}.add", {"row": row})
    await tab.until(lambda: row in str(tab.updates[-1:]), 20)
    assert (await figures(app, browser)).text == CANARY
    page = await loaded(app, browser)
    assert page.sees["owner"] == "Reports for Ada Lovelace"
    assert CANARY in page.sees["rows"]
    await page.close()


async def is_out(app, browser):
    """Neither a page nor a request has anything for this cookie; return the page."""
    assert "azure_auth_session" in browser.cookies
    page = await loaded(app, browser)
    assert not page.sees.get("check_auth")
    assert CANARY not in str(page.updates)
    answer = await figures(app, browser)
    assert answer.status in (303, 503)
    assert CANARY not in answer.text
    return page


def says_so(app, tab):
    """A tab shows what is wrong, with a reference that the operator finds."""
    failure = tab.sees["failure"]
    assert failure["heading"] == HEADING
    assert re.fullmatch(r"[0-9a-f]{10}", failure["reference"])
    assert failure["reference"] in app.console()


async def is_told(app, browser):
    """A sign-in ends without a session, on a page that says what is wrong."""
    answer = await browser.go(f"{app.url}/auth/session", await browser.ticket(GRACE))
    page = answer.text.removeprefix(app.url)
    assert page.startswith("/callback?problem=store_unavailable&reference=")
    assert "azure_auth_session" not in browser.cookies
    tab = await browser.open(page)
    await tab.until(lambda: tab.sees.get("failure"), 20)
    says_so(app, tab)


async def is_shown(app):
    """The same for a person with a real browser."""
    async with browser_profile() as profile:
        page = await profile.new_page()
        await page.goto(app.url)
        await page.get_by_role("button", name="Grace Hopper").click()
        alert = page.get_by_role("alert")
        await expect(alert.get_by_role("heading", name=HEADING)).to_be_visible(timeout=20_000)
        await expect(alert).to_contain_text(re.compile("Reference: [0-9a-f]{10}"))


async def signed_out(app, visitor):
    """A browser with the cookie of a session that has ended."""
    browser = visitor()
    await browser.sign_in(GRACE)
    await browser.tab.send(f"{APP_STATE}.logout")
    await browser.tab.until(lambda: browser.tab.sees.get("leaving_to"), 20)
    await is_out(app, browser)
    return browser


@pytest.mark.parametrize("fault", [full, read_only])
async def test_while_nothing_can_be_written_the_signed_in_carry_on(app, visitor, fault):
    """Who is in works on, nobody new gets in and is told why, a sign-out is one; then all is well by itself."""
    ada, leaver, newcomer, gone = visitor(), visitor(), visitor(), await signed_out(app, visitor)
    await ada.sign_in(ADA)
    await leaver.sign_in(ADA)
    tab, leaving = await loaded(app, ada), await loaded(app, leaver)
    await is_in(app, ada, tab)
    told = len(app.console())
    with fault(app):
        await is_in(app, ada, tab)
        await is_told(app, newcomer)
        await leaving.send(f"{APP_STATE}.logout")
        await leaving.until(lambda: leaving.sees.get("failure"), 20)
        says_so(app, leaving)
        for browser in (gone, leaver):
            await is_out(app, browser)
    await newcomer.sign_in(GRACE)
    await is_in(app, ada, tab)
    for browser in (gone, leaver):
        await is_out(app, browser)
    console = app.console()[told:]
    assert ("SQLITE_BUSY" if fault is read_only else "SQLITE_IOERR_WRITE") in console
    assert "the store was not told that somebody is there" in console
    assert "Traceback" not in console


@pytest.mark.parametrize("file", ["sessions.sqlite", "sessions.sqlite-wal"])
async def test_a_corrupt_file_lets_nobody_in_until_it_is_deleted(app, visitor, file):
    """Nothing is done for anybody, and pages say why; the operator deletes it, and without a restart people sign in."""
    ada, newcomer, gone = visitor(), visitor(), await signed_out(app, visitor)
    await ada.sign_in(ADA)
    tab = await loaded(app, ada)
    await is_in(app, ada, tab)
    told = len(app.console())
    work = (app.site / ".data/work").read_text()
    garbage(app, file)
    await tab.send(f"{REPORTS}.add", {"row": "while nobody can be told"})
    await tab.until(lambda: tab.sees.get("failure"), 20)
    says_so(app, tab)
    for browser in (ada, gone):
        says_so(app, await is_out(app, browser))
    await is_told(app, newcomer)
    await is_shown(app)
    assert (app.site / ".data/work").read_text() == work
    for left in stored(app).parent.glob("sessions.sqlite*"):
        left.unlink()
    await tab.send(f"{REPORTS}.add", {"row": "of a session that nobody remembers"})
    await tab.until(lambda: tab.sees.get("leaving_to"), 20)
    for browser in (ada, gone):
        await is_out(app, browser)
    assert (app.site / ".data/work").read_text() == work
    await newcomer.sign_in(GRACE)
    again = visitor()
    await again.sign_in(ADA)
    tab = await loaded(app, again)
    await is_in(app, again, tab)
    console = app.console()[told:]
    assert re.search("SQLITE_(CORRUPT|NOTADB)", console)
    assert "Traceback" not in console


@pytest.fixture
def settings():
    tenant = "11111111-1111-1111-1111-111111111111"
    environ = {"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": tenant, "AZURE_CLIENT_SECRET": "s"}
    return Settings.load({**environ, "REFLEX_ENV_MODE": "prod"})


async def test_no_damage_makes_anybody_somebody(tmp_path, settings):
    """Whichever bytes of the file are others: each cookie's answer is its own person, nobody, or that it cannot say."""
    store = EmbeddedStore(tmp_path / "sessions.sqlite")
    sessions = Sessions(store, settings, KEYS)
    people = [
        Identity(settings.tenant_id, f"oid {n}", f"Person {n}", f"{n}@contoso.example", "h" * 500) for n in range(9)
    ]
    cookies = [await sessions.start(person, f"browser of {person.name}", None) for person in people]
    await sessions.end((await sessions.find(cookies[0])).session, "signed_out")
    await store.close()
    whole, chance, answers = (tmp_path / "sessions.sqlite").read_bytes(), random.Random(7), []
    for number in range(100):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 20, 400])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(damaged)
        store = EmbeddedStore(path)
        again = Sessions(store, settings, KEYS)
        for person, cookie in zip(people, cookies, strict=True):
            try:
                held = await again.find(cookie)
            except StoreUnavailable:
                answers.append("it cannot say")
                continue
            answers.append("its own" if held else "nobody")
            assert held is None or (held.session.identity == person and person is not people[0])
        await store.close()
    assert {answer: answers.count(answer) > 30 for answer in answers} == dict.fromkeys(
        ["its own", "nobody", "it cannot say"], True
    )
