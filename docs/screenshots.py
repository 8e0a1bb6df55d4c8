"""Takes README's pictures from the running app: start `reflex run`, then `python docs/screenshots.py`."""

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PLACE = Path(__file__).parent / "screenshots"


def main() -> None:
    """Go through a sign-in in light, dark and on a phone, and keep what is seen."""
    PLACE.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for look, options in {
            "light": {"color_scheme": "light", "viewport": {"width": 880, "height": 480}},
            "dark": {"color_scheme": "dark", "viewport": {"width": 880, "height": 480}},
            "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 640}, "device_scale_factor": 2},
        }.items():
            page = browser.new_context(reduced_motion="reduce", **options).new_page()
            walk(page, look)
        browser.close()


def walk(page: Page, look: str) -> None:
    """Sign in, fail once, sign out; a picture of each."""

    def keep(name: str) -> None:
        page.screenshot(path=PLACE / f"{name}-{look}.png")

    page.goto("http://localhost:3000")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("alert").wait_for()
    keep("failed")
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("button", name="Ada Lovelace").click()
    page.get_by_role("heading", name="Hello Ada Lovelace").wait_for()
    keep("home")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    keep("signed-out")


if __name__ == "__main__":
    main()
