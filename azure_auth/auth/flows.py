"""What is given out for one use: the flows of sign-ins under way, and the tickets at their end."""

import time
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
    wait, so nothing is taken twice.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty; things last `seconds`, and `clock` counts them."""
        self._seconds = seconds
        self._clock = clock
        self._things: dict[str, tuple[float, str, _T]] = {}

    def put(self, secret: str, browser: str, thing: _T) -> None:
        """Keep a thing for the browser that holds the cookie value `browser`."""
        now = self._clock()
        for key, (expires, _, _) in list(self._things.items()):  # oldest first, as all last equally long
            if expires > now:
                break
            del self._things[key]
        self._things[hashed(secret)] = (now + self._seconds, hashed(browser), thing)

    def take(self, secret: str, browser: str | None) -> _T:
        """Return a thing and forget it; another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowUnknown: When it expired, was taken before, or never was.
        """
        found = self._things.get(hashed(secret))
        if found is None:
            raise FlowUnknown("nothing waits under it")
        expires, owner, thing = found
        if browser is None or not compare_digest(owner, hashed(browser)):
            raise FlowForeign("no flow cookie" if browser is None else "the flow cookie of another browser")
        del self._things[hashed(secret)]
        if expires <= self._clock():
            raise FlowUnknown("expired")
        return thing
