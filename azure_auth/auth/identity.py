"""Who signed in, as far as this app needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """A person, keyed by tenant and object id; a user name or e-mail address is never a key, for it can change hands.

    Attributes:
        tenant_id: The GUID of the person's tenant (`tid`).
        object_id: The person's id in it (`oid`).
        name: The display name, or the user name where there is none.
        username: What the person types to sign in (`preferred_username`); to show, not to decide by.
        logout_hint: The `login_hint` claim, which spares the account picker at sign-out; empty when Entra sends none.
        sid: The `sid` claim, by which Entra names its session when it signs the person out; empty when it sends none.
    """

    tenant_id: str
    object_id: str
    name: str = "there"
    username: str = ""
    logout_hint: str = ""
    sid: str = ""

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> "Identity":
        """Read a person from the claims of a *validated* ID token."""
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
        """Tenant and object id, by which a person is known."""
        return self.tenant_id, self.object_id

    @property
    def initials(self) -> str:
        """Up to two letters for an avatar."""
        words = [word for word in self.name.split("@")[0].replace(".", " ").split() if word[0].isalnum()]
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value.strip() if isinstance(value, str) else ""
