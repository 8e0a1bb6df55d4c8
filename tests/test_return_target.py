"""Where a sign-in may lead."""

from random import Random
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_auth.return_target import return_target

ORIGIN = "https://app.example.com"
NASTY = [
    *"/\\:@.%2fF5c?#a\t\n",
    *"\uff0f\uff3c\uff0e\u2024",
    "//",
    "/..",
    "%2f",
    "%5C",
    "%2e",
    "%25",
    "%00",
    "%EF%BC%8F",
]
NASTY += [
    "logout",
    "callback",
    "auth",
    "LOGOUT",
    "ogout",
    "%6c",
    "%256c",
    "evil.example",
    "user:pw@",
    "javascript:",
    "data:",
]


def cases() -> list[tuple[str, str, str]]:
    lines = (ROOT / "tests/data/return_targets.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [
        (verdict, why, raw.encode().decode("unicode_escape").encode("latin-1").decode()) for verdict, why, raw in rows
    ]


@pytest.mark.parametrize(("verdict", "why", "raw"), cases(), ids=lambda value: value[:40])
def test_only_pages_of_this_app_are_targets(verdict, why, raw):
    """Each line of the data file: `ok` comes back as it is, `no` gives nothing."""
    assert return_target(raw) == (raw if verdict == "ok" else None), why


def test_an_overlong_target_is_refused():
    """Two thousand characters are enough."""
    assert return_target("/" + "a" * 1999)
    assert return_target("/" + "a" * 2000) is None


def stays(url: str) -> bool:
    """Whether an address is of our origin, and of a page, however often a router decodes it."""
    parts = urlsplit(url)
    paths = [parts.path, unquote(parts.path), unquote(unquote(parts.path))]
    firsts = {path.removeprefix("/").partition("/")[0].casefold() for path in paths}
    return f"{parts.scheme}://{parts.netloc}" == ORIGIN and not firsts & {"logout", "callback", "auth"}


SEEDS = [raw for _, _, raw in cases() if len(raw) < 100]
nasty_text = st.lists(st.sampled_from(NASTY), max_size=12).map("".join)


@settings(derandomize=True, database=None, deadline=None, max_examples=3000)
@given(st.one_of(st.text(), nasty_text.map("/{}".format), st.builds(str.__add__, st.sampled_from(SEEDS), nasty_text)))
def test_no_text_leads_off_our_origin(raw):
    """What is taken is taken as it is, and resolved against our address it stays with us."""
    target = return_target(raw)
    assert target in (raw, None)
    assert target is None or stays(urljoin(f"{ORIGIN}/callback?code=c", target))


def test_no_text_leads_a_browser_off_our_origin(browser):
    """Hundreds of texts that are taken, mutants of those in the data file among them, as a browser resolves them."""
    random = Random(0)
    taken = {seed for seed in SEEDS if return_target(seed)}
    for _ in range(5000):
        seed = random.choice(SEEDS)
        cut = random.randint(0, len(seed))
        mutant = seed[:cut] + "".join(random.choices(NASTY, k=random.randint(1, 3))) + seed[cut:]
        taken |= {mutant} if return_target(mutant) else set()
    assert len(taken) > 300
    page = browser.new_page()
    resolve = "([texts, base]) => texts.map(text => new URL(text, base).href)"
    resolved = page.evaluate(resolve, [sorted(taken), f"{ORIGIN}/callback?code=c"])
    assert [url for url in resolved if not stays(url)] == []
    off = ["//evil.example", "/\\evil.example", "/\t/evil.example", "/x/../logout", "/%2561uth", "javascript:x"]
    assert not any(map(stays, page.evaluate(resolve, [off, ORIGIN])))  # the control: these would be seen
    page.close()
