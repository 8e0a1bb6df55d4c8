"""README's "Into an existing app", done to an app that knows nothing of sign-in (`tests/shop`)."""

import re
import shutil
import sys
from pathlib import Path

import httpx
import pytest
from browsing import ADA, choose
from conftest import ROOT
from playwright.sync_api import expect
from running import app_and_directory

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The app after README's steps, as a production build, and the directory that it asks."""
    folder = tmp_path_factory.mktemp("shop")
    site = folder / "site"
    steps = (ROOT / "README.md").read_text().partition("## Into an existing app")[2].partition("\n## ")[0]
    rxconfig, module = re.findall(r"```python\n(.*?)```", steps, re.DOTALL)
    shutil.copytree(ROOT / "tests/shop", site / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    left_out = shutil.ignore_patterns("__pycache__", "azure_auth.py", "demo")
    shutil.copytree(ROOT / "azure_auth", site / "azure_auth", ignore=left_out)
    shutil.copytree(ROOT / "assets", site / "assets")
    (site / "rxconfig.py").write_text(rxconfig)
    with (site / "shop/shop.py").open("a") as composed:
        composed.write(module)
    node = {"REFLEX_USE_NPM": "1", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}  # else Reflex downloads Bun
    with app_and_directory(folder, site=site, **node) as running:
        yield running[0]


def test_an_app_of_somebody_else_is_protected_and_works(shop, page):
    """Its page leads to sign in and works then; its endpoint needs a session; signing out ends both."""
    stock = f"{shop.url}/api/stock"
    assert httpx.get(stock).status_code == 401
    page.goto(f"{shop.url}/")
    choose(page, ADA)
    expect(page.get_by_role("heading", name="Shop")).to_be_visible()
    page.get_by_role("button", name="Add tea").click()
    expect(page.get_by_role("listitem")).to_have_text(["tea"])
    assert page.request.get(stock).json() == {"tea": 3}
    page.goto(f"{shop.url}/logout")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    assert page.request.get(stock).status == 401
    page.goto(f"{shop.url}/")
    expect(page.get_by_role("button", name=ADA)).to_be_visible()
