"""The person who signed in."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST_SHOWN = 200
_JOINERS = "\u200c\u200d"
"""Persian, Hindi and emoji need them between characters. Alone, they are invisible."""
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols that are invisible."""
_GUEST = re.compile(r"(.+)_([^_@]+)#EXT#@.+", re.IGNORECASE)
"""How Entra writes the user name of a guest: that of their own organisation, with `_` for `@`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person. Tenant and object id are the key; a user name or e-mail address can pass to another person."""

    tenant_id: str  # the GUID of the person's tenant (`tid`)
    object_id: str  # the person's id in it (`oid`)
    name: str = "there"  # the display name, or the user name where there is none
    username: str = ""  # the name that the person types to sign in (`preferred_username`); for display only
    logout_hint: str = ""  # the `login_hint` claim, which skips the account picker at sign-out; empty if there is none
    sid: str = ""  # the `sid` claim, Entra's session id, which front-channel logout sends; empty if there is none

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> "Identity":
        """Return the person of a *validated* ID token."""
        username = _GUEST.sub(r"\1@\2", shown(_text(claims, "preferred_username")))
        name, hint, sid = shown(_text(claims, "name")), _text(claims, "login_hint"), _text(claims, "sid").lower()
        return cls(claims["tid"].lower(), claims["oid"].lower(), name or username or "there", username, hint, sid)

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and object id, which identify a person."""
        return self.tenant_id, self.object_id

    @property
    def initials(self) -> str:
        """Up to two letters for an avatar."""
        words = [word for word in self.name.split("@")[0].replace(".", " ").split() if word[0].isalnum()]
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()


def shown(text: str) -> str:
    """Return an untrusted text in a form that a page can show; empty if nothing of it is visible.

    This removes lone surrogates, which JSON cannot carry, control characters, and marks that change the text direction
    (Unicode TR36). Each letter keeps at most three combining marks.
    """
    kept, marks = "", 0
    for character in text[: 10 * _LONGEST_SHOWN]:
        if character.isspace() or character in _JOINERS or unicodedata.category(character)[0] != "C":
            marks = marks + 1 if unicodedata.combining(character) else 0
            kept += character if marks <= 3 else ""
    kept = re.sub(rf"[\s{_BLANKS}]+", " ", kept)[:_LONGEST_SHOWN].strip(f" {_JOINERS}")
    return kept if any(unicodedata.category(character)[0] in "LNPS" for character in kept) else ""


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value.encode(errors="ignore").decode().strip() if isinstance(value, str) else ""
