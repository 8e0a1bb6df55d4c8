"""One-time records of a sign-in: the flow while the user is at Microsoft, then the ticket for the session.

Each is encrypted in the store, bound to its flow's cookie, and can be used once.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions import codec
from azure_auth.auth.sessions.sealing import Seal, SealBroken, hashed
from azure_auth.auth.sessions.store.contract import OneTimeEntry, Store
from azure_auth.errors import AuthError, FlowUnknown

_log = logging.getLogger(__name__)
FLOW_SECONDS = 600
TICKET_SECONDS = 30
_T = TypeVar("_T", bound="Flow | Outcome")


@dataclass(frozen=True, slots=True, repr=False)
class Flow:
    """What the app keeps while the user is at Microsoft."""

    msal: dict[str, Any]  # MSAL's data: state, nonce, PKCE verifier, redirect URI
    return_to: str  # the page that the sign-in leads to
    browser: str = ""  # the browser's name when the flow began
    begun: float = 0.0  # when it began, by the store's clock; seconds since 1970

    def packed(self) -> dict[str, Any]:
        """Return it as a record; the store adds when it began."""
        return {"msal": self.msal, "return_to": self.return_to, "browser": self.browser}

    @classmethod
    def unpacked(cls, record: dict[str, Any]) -> "Flow":
        """Decode a record."""
        return cls(record["msal"], str(record["return_to"]), str(record.get("browser", "")), record["put"])


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """How a sign-in ended."""

    return_to: str  # the page to go to
    identity: Identity | None = None  # who signed in; None if it failed
    failure: AuthError | None = None
    asked: float = 0.0  # when the app redeemed the code; seconds since 1970
    begun: float = 0.0  # when the flow began, by the store's clock
    browser: str = ""  # the browser's name at that time

    def packed(self) -> dict[str, Any]:
        """Return it as a record."""
        record = {field: getattr(self, field) for field in ("return_to", "asked", "begun", "browser")}
        identity = asdict(self.identity) if self.identity else None
        return {**record, "identity": identity, "failure": self.failure.packed() if self.failure else None}

    @classmethod
    def unpacked(cls, record: dict[str, Any]) -> "Outcome":
        """Decode a record. A missing `begun` becomes 0, so that any remembered sign-out rejects the sign-in."""
        identity = codec.texts(Identity, record["identity"]) if record.get("identity") else None
        failure = AuthError.unpacked(record["failure"]) if record.get("failure") else None
        asked, begun = float(record.get("asked", 0.0)), float(record.get("begun", 0.0))
        return cls(str(record["return_to"]), identity, failure, asked, begun, str(record.get("browser", "")))


class OneTime(Generic[_T]):
    """Encrypted things of one kind, each consumed once."""

    def __init__(self, store: Store, kind: str, seconds: float, unpacked: Callable[[dict[str, Any]], _T]) -> None:
        """Keep things of a kind in `store` for `seconds`; `unpacked` decodes a record, with the time `put`."""
        self._store, self._kind, self._seconds, self._unpacked = store, kind, seconds, unpacked

    def name(self, secret: str) -> str:
        """Return the name of a thing in the store."""
        return Seal.of(self._kind, secret).name

    async def put(self, secret: str, owner: str, thing: _T, address: str, rank: int) -> None:
        """Keep a thing, as `Store.put` does. `secret` is a flow's state or a ticket; `owner`, its cookie's binding."""
        seal = Seal.of(self._kind, secret)
        entry = OneTimeEntry(hashed(owner), address, seal.seal(codec.packed(thing.packed())), rank)
        await self._store.put(self._kind, seal.name, entry, self._seconds)

    async def consume(self, secret: str, owner: str) -> _T:
        """Return a thing, and delete it in the same step. One that cannot be read raises `FlowUnknown`."""
        return await self._opened(self._store.consume, secret, owner)

    async def peek(self, secret: str, owner: str) -> _T:
        """Return a thing and leave it in place; else like `consume`."""
        return await self._opened(self._store.peek, secret, owner)

    async def _opened(
        self, fetch: Callable[[str, str, str], Awaitable[tuple[bytes, float]]], secret: str, owner: str
    ) -> _T:
        seal = Seal.of(self._kind, secret)
        sealed, put = await fetch(self._kind, seal.name, hashed(owner))
        try:
            return self._unpacked({**codec.unpacked(seal.open(sealed)), "put": put})
        except SealBroken:
            raise FlowUnknown("it was changed") from None
        except (codec.Unreadable, AttributeError, KeyError, TypeError, ValueError):
            _log.warning("a %s of another release cannot be read: a new sign-in is needed", self._kind)
            raise FlowUnknown("it is of another release") from None
