"""What a sign-in leaves behind for later: the flow while the person is at the directory, the ticket at the end.

Each lies sealed in the store, is bound to one browser, and is taken once.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from azure_auth.auth.identity import Identity
from azure_auth.auth.sealing import Seal, SealBroken, hashed
from azure_auth.auth.store import Once, Store
from azure_auth.errors import AuthError, FlowUnknown

FLOW_SECONDS = 600
TICKET_SECONDS = 30
_T = TypeVar("_T", bound="Flow | Outcome")


@dataclass(frozen=True, slots=True, repr=False)
class Flow:
    """What is remembered between leaving for the directory and coming back.

    Attributes:
        msal: What MSAL wants to see again: state, nonce, PKCE verifier, redirect URI.
        return_to: The page that the sign-in leads to.
        failure: Set when the flow could not even begin; the return then tells of it.
    """

    msal: dict[str, Any]
    return_to: str
    failure: AuthError | None = None

    def packed(self) -> dict[str, Any]:
        """Return it in a form for JSON."""
        failure = self.failure.packed() if self.failure else None
        return {"msal": self.msal, "return_to": self.return_to, "failure": failure}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> "Flow":
        """Return what `packed` was made of."""
        failure = AuthError.unpacked(packed["failure"]) if packed["failure"] else None
        return cls(packed["msal"], packed["return_to"], failure)


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """How a sign-in ended.

    Attributes:
        return_to: The page to go to.
        identity: Who signed in.
        failure: Why nobody did.
    """

    return_to: str
    identity: Identity | None = None
    failure: AuthError | None = None

    def packed(self) -> dict[str, Any]:
        """Return it in a form for JSON."""
        identity = asdict(self.identity) if self.identity else None
        failure = self.failure.packed() if self.failure else None
        return {"return_to": self.return_to, "identity": identity, "failure": failure}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> "Outcome":
        """Return what `packed` was made of."""
        identity = Identity(**packed["identity"]) if packed["identity"] else None
        failure = AuthError.unpacked(packed["failure"]) if packed["failure"] else None
        return cls(packed["return_to"], identity, failure)


class OnceOnly(Generic[_T]):
    """Things of one kind, each taken once."""

    def __init__(self, store: Store, kind: str, seconds: float, unpacked: Callable[[dict[str, Any]], _T]) -> None:
        """Keep things of a kind in `store` for so long; `unpacked` makes one of what its `packed` returned."""
        self._store = store
        self._kind = kind
        self._seconds = seconds
        self._unpacked = unpacked

    async def put(self, secret: str, browser: str, thing: _T, address: str = "") -> None:
        """Keep a thing for whoever brings its secret from the browser with the flow cookie `browser`.

        Raises:
            StoreUnavailable: When it cannot be kept.
        """
        seal = Seal(self._kind, secret)
        sealed = seal.seal(json.dumps(thing.packed()).encode())
        await self._store.put(self._kind, seal.name, Once(hashed(browser), address, sealed), self._seconds)

    async def take(self, secret: str, browser: str | None) -> _T:
        """Return a thing and forget it; another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowTaken: When it was taken a moment ago.
            FlowUnknown: When it expired, was taken before, or never was.
            StoreUnavailable: When that cannot be told.
        """
        return await self._found(self._store.take, secret, browser)

    async def look(self, secret: str, browser: str | None) -> _T:
        """Return a thing and leave it in place; raises what `take` raises."""
        return await self._found(self._store.look, secret, browser)

    async def _found(
        self, way: Callable[[str, str, str | None], Awaitable[bytes]], secret: str, browser: str | None
    ) -> _T:
        seal = Seal(self._kind, secret)
        sealed = await way(self._kind, seal.name, hashed(browser) if browser else None)
        try:
            return self._unpacked(json.loads(seal.open(sealed)))
        except SealBroken:
            raise FlowUnknown("it was changed") from None
