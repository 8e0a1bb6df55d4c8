"""Takes README's pictures from the running app: start `reflex run`, then `python docs/screenshots.py`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PLACE = Path(__file__).parent / "screenshots"


def main() -> None:
    """Go through a sign-in in light, dark and on a phone, and keep what is seen."""
    pictures: dict[str, bytes] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for look, options in {
            "light": {"color_scheme": "light", "viewport": {"width": 880, "height": 480}},
            "dark": {"color_scheme": "dark", "viewport": {"width": 880, "height": 480}},
            "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 640}, "device_scale_factor": 2},
        }.items():
            page = browser.new_context(reduced_motion="reduce", **options).new_page()
            pictures |= {f"{name}-{look}.png": picture for name, picture in walk(page)}
        browser.close()
    PLACE.mkdir(exist_ok=True)
    for name, picture in pictures.items():  # only now, for Reflex reloads the app when a file changes
        (PLACE / name).write_bytes(picture)


def walk(page: Page) -> Iterator[tuple[str, bytes]]:
    """Sign in, fail once, sign out; a picture of each."""
    page.goto("http://localhost:3000")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("alert").wait_for()
    yield "failed", page.screenshot()
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("button", name="Ada Lovelace").click()
    page.get_by_role("heading", name="Hello Ada Lovelace").wait_for()
    yield "home", page.screenshot()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    yield "signed-out", page.screenshot()


if __name__ == "__main__":
    main()
