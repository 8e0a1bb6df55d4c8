"""What is given out for one use: the flows of sign-ins under way, and the tickets at their end."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Generic, TypeVar

from azure_auth.auth.sealing import hashed
from azure_auth.errors import AuthError, FlowForeign, FlowUnknown

FLOW_SECONDS = 600
TICKET_SECONDS = 30
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
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


class Once(Generic[_T]):
    """Things that are taken once, by the browser that they are bound to, before their time is over.

    They lie under hashes of their secret and of their browser's cookie. All methods run on the event loop and never
    wait, so nothing is taken twice. When it is full, the address with most things loses its oldest.
    """

    def __init__(self, seconds: float, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty; `most` things last `seconds`, and `clock` counts them."""
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._things: dict[str, _Thing[_T]] = {}
        self._of_address: Counter[str] = Counter()

    def put(self, secret: str, browser: str, thing: _T, address: str = "") -> None:
        """Keep a thing for the browser that holds the cookie value `browser`, at the client's address."""
        now = self._clock()
        while self._things and next(iter(self._things.values())).expires <= now:  # all last equally long
            self._drop(next(iter(self._things)))
        if len(self._things) >= self._most:
            heaviest, _ = self._of_address.most_common(1)[0]
            self._drop(next(key for key, thing in self._things.items() if thing.address == heaviest))
        self._things[hashed(secret)] = _Thing(now + self._seconds, hashed(browser), address, thing)
        self._of_address[address] += 1

    def take(self, secret: str, browser: str | None) -> _T:
        """Return a thing and forget it; another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowUnknown: When it expired, was taken before, or never was.
        """
        found = self._things.get(hashed(secret))
        if found is None:
            raise FlowUnknown("nothing waits under it")
        if browser is None or not compare_digest(found.browser, hashed(browser)):
            raise FlowForeign("no flow cookie" if browser is None else "the flow cookie of another browser")
        self._drop(hashed(secret))
        if found.expires <= self._clock():
            raise FlowUnknown("expired")
        return found.thing

    def _drop(self, key: str) -> None:
        address = self._things.pop(key).address
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]


@dataclass(frozen=True, slots=True)
class _Thing(Generic[_T]):
    expires: float
    browser: str
    address: str
    thing: _T
