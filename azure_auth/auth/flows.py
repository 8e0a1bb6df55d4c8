"""Sign-ins under way: each is bound to one browser, lasts ten minutes and is taken once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from azure_auth.errors import AuthError, FlowForeign, FlowUnknown

LIFETIME_SECONDS = 600


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


class Flows:
    """The flows of this process, under hashes of their `state` and of their browser's cookie.

    All methods run on the event loop and never wait, so a flow cannot be taken twice.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty; `clock` counts seconds."""
        self._clock = clock
        self._flows: dict[bytes, tuple[float, bytes, Flow]] = {}

    def put(self, state: str, browser: str, flow: Flow) -> None:
        """Remember a flow for the browser that holds the cookie value `browser`."""
        now = self._clock()
        for key, (expires, _, _) in list(self._flows.items()):  # oldest first, as all last equally long
            if expires > now:
                break
            del self._flows[key]
        self._flows[_hash(state)] = (now + LIFETIME_SECONDS, _hash(browser), flow)

    def take(self, state: str, browser: str | None) -> Flow:
        """Return a flow and forget it; another browser's attempt leaves it in place.

        Raises:
            FlowForeign: When it is another browser's.
            FlowUnknown: When it expired, was taken before, or never was.
        """
        expires, owner, flow = self._flows.get(_hash(state), (0.0, b"", None))
        if flow is None:
            raise FlowUnknown("no such flow")
        if browser is None or not compare_digest(owner, _hash(browser)):
            raise FlowForeign("no flow cookie" if browser is None else "the flow cookie of another browser")
        del self._flows[_hash(state)]
        if expires <= self._clock():
            raise FlowUnknown("expired")
        return flow


def _hash(value: str) -> bytes:
    return sha256(value.encode()).digest()
