"""Where a sign-in may lead."""

import pytest
from conftest import ROOT

from azure_auth.return_target import return_target


def cases() -> list[tuple[str, str, str]]:
    lines = (ROOT / "tests/data/return_targets.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [
        (verdict, why, raw.encode().decode("unicode_escape").encode("latin-1").decode()) for verdict, why, raw in rows
    ]


@pytest.mark.parametrize(("verdict", "why", "raw"), cases())
def test_only_pages_of_this_app_are_targets(verdict, why, raw):
    """Each line of the data file: `ok` comes back as it is, `no` gives nothing."""
    assert return_target(raw) == (raw if verdict == "ok" else None), why


def test_an_overlong_target_is_refused():
    """Two thousand characters are enough."""
    assert return_target("/" + "a" * 1999)
    assert return_target("/" + "a" * 2000) is None
