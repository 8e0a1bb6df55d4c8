"""A callback that is opened again, in a real browser: by somebody who is signed in, and by a stranger."""

import re
from collections.abc import Callable

import pytest
from browsing import ADA, choose, greeted
from playwright.sync_api import Page, expect


def back(page: Page, link: str) -> Page:
    while page.url != link:
        page.go_back()
    return page


def history(page: Page, link: str) -> Page:
    """Jump to the callback's place in the history, past what lies between."""
    steps = -1 if "/oauth2/" in page.url else -2
    with page.expect_navigation(url=link):
        page.evaluate(f"void history.go({steps})")
    return page


def bookmark(page: Page, link: str) -> Page:
    page.goto(link)
    return page


def second_tab(page: Page, link: str) -> Page:
    with page.context.expect_page() as opened:
        page.evaluate("link => void window.open(link)", link)
    return opened.value


def restored_session(page: Page, link: str) -> Page:
    """Close the tab, and open it as a browser restores it: with its own sessionStorage."""
    kept = page.evaluate("JSON.stringify(sessionStorage)")
    context = page.context
    page.close()
    page = context.new_page()
    page.add_init_script(f"Object.entries({kept}).forEach(([name, value]) => sessionStorage.setItem(name, value))")
    page.goto(link)
    return page


WAYS = [back, history, bookmark, second_tab, restored_session]


@pytest.fixture
def used(production, page) -> str:
    """The link of a callback that this tab opened, and that lies in its history; the directory asks again."""
    page.goto(production.url)
    choose(page, "Cancel")
    page.get_by_role("alert").wait_for()
    link = page.url
    page.goto(f"{production.url}/auth/sign-in")  # not by "Try again", which the tab has once more in this minute
    page.get_by_role("button", name=ADA).wait_for()
    return link


@pytest.mark.parametrize("way", WAYS)
def test_it_leads_somebody_who_is_signed_in_on(production, page, used, way: Callable[[Page, str], Page]):
    """Whichever way it is opened again, the greeting follows."""
    choose(page, ADA)
    greeted(page, ADA)
    page = way(page, used)
    page.get_by_role("heading", name=re.compile("^Hello|over$|here$")).wait_for()
    assert page.get_by_role("heading").inner_text() == f"Hello {ADA}"
    assert page.url == f"{production.url}/"


@pytest.mark.parametrize("way", WAYS)
def test_it_tells_a_stranger_that_it_is_over(page, used, way: Callable[[Page, str], Page]):
    """Whichever way it is opened again, it says so, or for a while why, stays, and offers a sign-in that works."""
    page = way(page, used)
    expect(page.get_by_role("alert").get_by_role("heading", name=re.compile("is over$|was cancelled$"))).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.get_by_role("link", name="Try again").click()
    choose(page, ADA)
    greeted(page, ADA)
