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
from azure_auth.auth.sessions.store.contract import OneTimeEntry, OneTimeStore
from azure_auth.errors import AuthError, FlowUnknown

_log = logging.getLogger(__name__)
FLOW_SECONDS = 600
TICKET_SECONDS = 30
_T = TypeVar("_T", bound="Flow | Outcome")


@dataclass(frozen=True, slots=True, repr=False)
class Flow:
    """What is remembered between leaving for the directory and coming back.

    Attributes:
        msal: What MSAL wants to see again: state, nonce, PKCE verifier, redirect URI.
        return_to: The page that the sign-in leads to.
        browser: The browser's name when the flow began.
        begun: When it began, by the store's clock; seconds since 1970. The store says so, nothing here.
    """

    msal: dict[str, Any]
    return_to: str
    browser: str = ""
    begun: float = 0.0

    def packed(self) -> dict[str, Any]:
        """Return it as a record."""
        return {"msal": self.msal, "return_to": self.return_to, "browser": self.browser}

    @classmethod
    def unpacked(cls, record: dict[str, Any], put: float) -> "Flow":
        """Return what `packed` was made of; it was put into the store at the time `put`."""
        return cls(record["msal"], str(record["return_to"]), str(record.get("browser", "")), begun=put)


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """How a sign-in ended.

    Attributes:
        return_to: The page to go to.
        identity: Who signed in.
        failure: Why nobody did.
        asked: When the directory was asked; seconds since 1970.
        begun: When the flow began, by the store's clock.
        browser: The browser's name at that time.
    """

    return_to: str
    identity: Identity | None = None
    failure: AuthError | None = None
    asked: float = 0.0
    begun: float = 0.0
    browser: str = ""

    def packed(self) -> dict[str, Any]:
        """Return it as a record."""
        return {
            "return_to": self.return_to,
            "identity": asdict(self.identity) if self.identity else None,
            "failure": self.failure.packed() if self.failure else None,
            "asked": self.asked,
            "begun": self.begun,
            "browser": self.browser,
        }

    @classmethod
    def unpacked(cls, record: dict[str, Any], put: float) -> "Outcome":  # noqa: ARG003
        """Decode a record. A missing `begun` becomes 0, so that any remembered sign-out rejects the sign-in."""
        return cls(
            str(record["return_to"]),
            codec.texts(Identity, record["identity"]) if record.get("identity") else None,
            AuthError.unpacked(record["failure"]) if record.get("failure") else None,
            asked=float(record.get("asked", 0.0)),
            begun=float(record.get("begun", 0.0)),
            browser=str(record.get("browser", "")),
        )


class OneTime(Generic[_T]):
    """Things of one kind, each taken once."""

    def __init__(
        self, store: OneTimeStore, kind: str, seconds: float, unpacked: Callable[[dict[str, Any], float], _T]
    ) -> None:
        """Keep things of a kind in `store` for so long; `unpacked` makes one of its record."""
        self._store = store
        self._kind = kind
        self._seconds = seconds
        self._unpacked = unpacked

    def name(self, secret: str) -> str:
        """Return the name under which a thing lies in the store."""
        return Seal.of(self._kind, secret).name

    async def put(self, secret: str, owner: str, thing: _T, address: str, rank: int) -> None:
        """Keep a thing until its secret and its owner are presented.

        Args:
            secret: Its flow's state, or its ticket.
            owner: The binding of its flow's cookie.
            thing: What to keep.
            address: The client's.
            rank: Its rank; see `contract.RANKS`.

        Raises:
            StoreUnavailable: When it cannot be kept.
            TooManyRequests: When there is no room for it.
        """
        seal = Seal.of(self._kind, secret)
        entry = OneTimeEntry(hashed(owner), address, seal.seal(codec.packed(thing.packed())), rank)
        await self._store.put(self._kind, seal.name, entry, self._seconds)

    async def consume(self, secret: str, owner: str) -> _T:
        """Return a thing and forget it; another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowTaken: When it was taken a moment ago.
            FlowUnknown: When it expired, was taken before, never was, or is of another release.
            StoreUnavailable: When that cannot be told.
        """
        return await self._found(self._store.consume, secret, owner)

    async def peek(self, secret: str, owner: str) -> _T:
        """Return a thing and leave it in place; raises what `consume` raises."""
        return await self._found(self._store.peek, secret, owner)

    async def _found(
        self, way: Callable[[str, str, str], Awaitable[tuple[bytes, float]]], secret: str, owner: str
    ) -> _T:
        seal = Seal.of(self._kind, secret)
        sealed, put = await way(self._kind, seal.name, hashed(owner))
        try:
            return self._unpacked(codec.unpacked(seal.open(sealed)), put)
        except SealBroken:
            raise FlowUnknown("it was changed") from None
        except (codec.Unreadable, AttributeError, KeyError, TypeError, ValueError):
            _log.warning("a %s of another release cannot be read: a new sign-in is needed", self._kind)
            raise FlowUnknown("it is of another release") from None
