"""The person who signed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
        username = _text(claims, "preferred_username")
        name, hint, sid = _text(claims, "name"), _text(claims, "login_hint"), _text(claims, "sid").lower()
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


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value.strip() if isinstance(value, str) else ""
