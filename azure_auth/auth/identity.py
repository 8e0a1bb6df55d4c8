"""The person who signed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """A person. Tenant and object id are the key; a user name or e-mail address can pass to another person.

    Attributes:
        tenant_id: The GUID of the person's tenant (`tid`).
        object_id: The person's id in it (`oid`).
        name: The display name, or the user name where there is none.
        username: The name that the person types to sign in (`preferred_username`); for display only.
        logout_hint: The `login_hint` claim, which skips the account picker at sign-out; empty if Entra sends none.
        sid: The `sid` claim, Entra's session id, which front-channel logout sends; empty if Entra sends none.
    """

    tenant_id: str
    object_id: str
    name: str = "there"
    username: str = ""
    logout_hint: str = ""
    sid: str = ""

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> "Identity":
        """Return the person of a *validated* ID token."""
        username = _text(claims, "preferred_username")
        return cls(
            tenant_id=claims["tid"].lower(),
            object_id=claims["oid"].lower(),
            name=_text(claims, "name") or username or "there",
            username=username,
            logout_hint=_text(claims, "login_hint"),
            sid=_text(claims, "sid").lower(),
        )

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
