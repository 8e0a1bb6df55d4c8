"""Names as directories have them: a page can show each one, and is never empty."""

import json
import unicodedata

import pytest
from forge import OBJECT, TENANT
from hypothesis import example, given
from hypothesis import strategies as st

from azure_auth.auth.identity import Identity, shown

ANYTHING = st.text(st.characters(codec=None) | st.sampled_from("\ud800\udfff\u200b\u202e\u2066\u0301\u3164 a"))
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


def person(**claims: object) -> Identity:
    return Identity.from_claims({"tid": TENANT, "oid": OBJECT, **claims})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("  Ada \t\r\n Lovelace ", "Ada Lovelace"),
        ("Ada\ud800 Lovelace", "Ada Lovelace"),
        ("\udc00", "ada@contoso.example"),
        ("\u200b\u200c\u200d\ufeff", "ada@contoso.example"),
        ("\u3164\u2800", "ada@contoso.example"),
        (" \u00a0\u2003", "ada@contoso.example"),
        ("", "ada@contoso.example"),
        (None, "ada@contoso.example"),
        (["Ada"], "ada@contoso.example"),
        ("\u0301\u0302", "ada@contoso.example"),
        ("Ada \u202eecalevoL\u2066", "Ada ecalevoL"),
        ("Ada\0\x1b[31m", "Ada[31m"),
        ("Z" + "\u0335" * 500, "Z" + "\u0335" * 3),
        ("x" * 10_000, "x" * 200),
        ("x" * 10_000_000, "x" * 200),
        (FAMILY, FAMILY),
        (PERSIAN, PERSIAN),
        ("Nguy\u1ec5n V\u0103n A", "Nguy\u1ec5n V\u0103n A"),
        ("!!!", "!!!"),
    ],
)
def test_a_name_is_shown_as_it_is_meant(name, expected):
    """Invisible and harmful characters are removed. If nothing is left, the user name is shown."""
    assert person(name=name, preferred_username="ada@contoso.example").name == expected


@pytest.mark.parametrize("nothing", ["", " ", "\u200b", "\ud800", "\u202e", None, 7])
def test_somebody_without_any_name_is_greeted(nothing):
    """A person without name and user name is "there"."""
    assert person(name=nothing, preferred_username=nothing).name == "there"


@pytest.mark.parametrize(
    ("username", "expected"),
    [
        ("ada_contoso.example#EXT#@fabrikam.onmicrosoft.com", "ada@contoso.example"),
        ("ada_b_contoso.example#ext#@fabrikam.onmicrosoft.com", "ada_b@contoso.example"),
        ("ada@contoso.example", "ada@contoso.example"),
        ("ada#EXT#@fabrikam.onmicrosoft.com", "ada#EXT#@fabrikam.onmicrosoft.com"),
        ("a_b" * 5_000, ("a_b" * 5_000)[:200]),
    ],
)
def test_a_guests_user_name_is_readable(username, expected):
    """A guest has the user name of their own organisation."""
    assert person(preferred_username=username).username == expected


@given(ANYTHING)
@example("\ud83d\ude00")
@example("\u200d a \u200d")
def test_a_page_can_show_every_name(text):
    """A cleaned text can be sent as JSON, is visible or empty, and does not change when it is cleaned again."""
    cleaned = shown(text)
    assert json.loads(json.dumps(cleaned).encode()) == cleaned
    assert cleaned.encode().decode() == cleaned
    assert shown(cleaned) == cleaned
    assert not cleaned or any(unicodedata.category(character)[0] in "LNPS" for character in cleaned)
    who = person(name=text, preferred_username=text, login_hint=text, sid=text)
    assert who.name.strip()
    for kept in (who.name, who.username, who.logout_hint, who.sid, who.initials):
        assert kept.encode().decode() == kept
