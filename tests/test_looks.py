"""How it looks, in a real browser: accessible in every state, in light and dark, and nothing jumps."""

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import ADA, choose, greeted
from playwright.sync_api import Page, expect

SPINNER = "document.querySelector('[role=status] span')"
SHOW_ALL = "document.getAnimations().filter(a => a.animationName === 'appear').forEach(a => a.finish())"


def is_accessible(page: Page, state: str) -> None:
    found = Axe().run(page).response["violations"]
    assert [(state, rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []


@pytest.mark.parametrize("width", [360, 1000])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_and_state_is_accessible(development, people, scheme, width):
    """axe-core finds nothing, from the directory's people to the page that is not there."""
    page = people(color_scheme=scheme, viewport={"width": width, "height": 640})
    demo = f"{development.backend_url}/demo"
    page.goto(development.url)
    page.get_by_role("button", name=ADA).wait_for()
    is_accessible(page, "people")
    choose(page, "Cancel")
    page.get_by_role("alert").wait_for()
    is_accessible(page, "failed")
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("button", name=ADA).wait_for()
    httpx.post(f"{demo}/faults", json={"endpoint": "token", "delay": 3})
    choose(page, ADA)
    page.get_by_role("heading", name="Signing you in").wait_for()
    is_accessible(page, "in between")
    page.evaluate(SHOW_ALL)
    expect(page.get_by_role("link", name="Start again")).to_be_visible()
    is_accessible(page, "in between, after ten seconds")
    greeted(page, ADA)
    httpx.delete(f"{demo}/faults")
    page.get_by_text("Signed in elsewhere too?").click()
    is_accessible(page, "home")
    page.goto(f"{development.url}/nowhere")
    page.get_by_role("heading", name="There is no such page").wait_for()
    is_accessible(page, "not found")
    page.goto(development.url)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    is_accessible(page, "signed out")
    page.goto(f"{demo}/common/oauth2/v2.0/logout")
    is_accessible(page, "signed out of the directory")


def test_the_directorys_refusal_is_accessible(development, browser):
    """The directory's own page of an error, which a browser takes for a failed load, has no fault either."""
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        assert page.goto(f"{development.backend_url}/demo/common/oauth2/v2.0/authorize").status == 400
        is_accessible(page, scheme)
        page.close()


@pytest.mark.parametrize("width", [360, 1000])
def test_nothing_jumps_on_the_way_in(app, people, width):
    """From `/` to the greeting the layout does not shift; something put on top of it would be noticed."""
    page = people(viewport={"width": width, "height": 640})
    shifts: list[float] = []
    page.expose_function("shifted", lambda value: shifts.append(value))
    page.add_init_script(
        "new PerformanceObserver(list => list.getEntries().forEach(entry => shifted(entry.value)))"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    page.goto(app.url)
    choose(page, ADA)
    greeted(page, ADA)
    page.wait_for_timeout(300)
    assert sum(shifts) < 0.001, shifts
    page.evaluate("document.querySelector('main').before(Object.assign(document.createElement('p'), {innerText: 'x'}))")
    page.wait_for_timeout(300)
    assert sum(shifts) > 0.001


def test_the_greeting_takes_the_place_of_the_wait(production, directory, page):
    """Mark, heading and card stand where they stood while the person waited."""
    boxes = "['main > div', 'main h1'].map(name => document.querySelector(name).getBoundingClientRect().toJSON())"
    corners = f"{boxes}.flatMap(box => [box.left, box.top])"
    page.goto(production.url)
    page.get_by_role("button", name=ADA).wait_for()
    with directory.fault(endpoint="token", delay=1):
        choose(page, ADA)
        page.get_by_role("heading", name="Signing you in").wait_for()
        page.wait_for_load_state()  # its styles are there
        waiting = page.evaluate(corners)
    greeted(page, ADA)
    assert page.evaluate(corners) == waiting


@pytest.mark.parametrize(("motion", "animation"), [("reduce", "none"), ("no-preference", "spin")])
def test_reduced_motion_is_respected(production, directory, people, motion, animation):
    """Who asked for less motion sees none, and still reads that it takes long."""
    page = people(reduced_motion=motion)
    page.goto(production.url)
    page.get_by_role("button", name=ADA).wait_for()
    with directory.fault(endpoint="token", delay=2):
        choose(page, ADA)
        page.get_by_role("heading", name="Signing you in").wait_for()
        assert page.evaluate(f"getComputedStyle({SPINNER}).animationName") == animation
        page.evaluate(SHOW_ALL)
        expect(page.get_by_text("takes longer than usual")).to_be_visible()
        greeted(page, ADA)
