"""The cookies of sign-ins under way: each flow has its own, and only that one opens the flow and its ticket.

The name is a hash of the flow's `state`. The value is a random binding of 256 bits, followed by encrypted data that is
still needed after the store has dropped the flow. So many tabs can sign in at the same time.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from secrets import token_bytes
from typing import Any, cast

from azure_auth.auth.cookies.cookie import cookie_name, pairs, set_cookie
from azure_auth.auth.sessions.sealing import FLOW_ID_LENGTH, SEAL_BYTES, SealBroken, encoded, flow_id, hashed
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.errors import AuthError

SECONDS = 3600
"""How long a browser keeps a flow cookie that nothing deletes."""
MOST = 24
"""Maximum number of flow cookies of one browser."""
_MOST_BYTES = 4090
"""Maximum size of all flow cookies in a request. Many proxies refuse more than 8 kB of headers."""
_LONGEST_TARGET = 200
_BINDING_BYTES, _LONGEST_VALUE = 32, 600


@dataclass(frozen=True, slots=True, repr=False)
class FlowCookie:
    """The cookie of one flow."""

    id: str  # a hash of the flow's `state`; the end of the cookie's name
    binding: str  # 256 random bits as 43 characters; the flow and its ticket need them
    begun: int  # when the flow began; seconds since 1970. 0 once it is finished.
    return_to: str = ""  # the page that was asked for; empty if there was no room for it
    session_hash: str = ""  # a hash of the session cookie that the flow led to; empty until then
    failure: AuthError | None = None  # why the flow could not begin, or start a session; None for a running flow

    @classmethod
    def begin(cls, state: str, now: float, return_to: str, failure: AuthError | None = None) -> "FlowCookie":
        """Return the cookie of a new flow, or of one that failed already."""
        target = return_to if len(return_to) <= _LONGEST_TARGET else ""
        return cls(flow_id(state), encoded(token_bytes(_BINDING_BYTES)), int(now), target, failure=failure)

    def age(self, now: float) -> float:
        """Return how long ago the flow began; 0 for a finished one."""
        return 0.0 if self.session_hash else now - self.begun

    @property
    def rank(self) -> int:
        """If there are too many, the lowest goes first. 0: a finished flow. 1: a failed one. 2: a running one."""
        return 0 if self.session_hash else 1 if self.failure else 2


class FlowCookies:
    """Reads and writes the flow cookies of one app."""

    def __init__(self, public_url: str, keys: ServerKeys) -> None:
        """Write them for the app at `public_url`; `keys` encrypt them."""
        self._public_url, self._keys = public_url, keys
        self._prefix = cookie_name("azure_auth_flow_", public_url)
        self._name = re.compile(f"{self._prefix}[0-9a-f]{{{FLOW_ID_LENGTH}}}")

    def read(self, headers: Iterable[str]) -> list[FlowCookie]:
        """Return the flow cookies of a request that this app wrote, oldest first.

        Browsers send the oldest first (RFC 6265, section 5.4), but Chromium counts one whose value changed as new.
        """
        found = (self._opened(name.removeprefix(self._prefix), value) for name, value in self._pairs(headers))
        return sorted((cookie for cookie in found if cookie), key=lambda cookie: cookie.begun)

    def add(
        self, new: FlowCookie, headers: Sequence[str], session_cookie: str | None, instead_of: FlowCookie | None = None
    ) -> list[str]:
        """Return the Set-Cookie headers that add a flow cookie to those of a request, which may have a session cookie.

        The new one replaces `instead_of`, the cookie of the same flow. The result is empty if `new` is a failure and
        running flows take all room.
        """
        present = self.read(headers)
        young = [cookie for cookie in present if cookie != instead_of and cookie.age(new.begun) < SECONDS]
        kept = self._fitted([*young, new], session_cookie)
        return self._changes(headers, present, kept, new.begun) if kept[-1] == new else []

    def tidied(self, headers: Sequence[str], session_cookie: str | None, now: float) -> list[str]:
        """Return the Set-Cookie headers that delete the cookies of finished flows, and those above the maximum.

        A flow is finished if the request has the session cookie that it led to.
        """
        present = self.read(headers)
        kept = self._fitted(present, session_cookie)
        return self._changes(headers, present, kept, now) if kept != present else []

    def finished(self, cookie: FlowCookie, session_cookie: str, now: float) -> str:
        """Return the Set-Cookie header that notes the session cookie that a flow led to."""
        done = replace(cookie, begun=0, return_to="", session_hash=_session_hash(session_cookie))
        return self._set(done, cookie.begun + SECONDS - now)

    def _fitted(self, present: Sequence[FlowCookie], session_cookie: str | None) -> list[FlowCookie]:
        """Return the flow cookies that stay.

        Above `MOST`, the lowest rank is deleted, the oldest first. Above `_MOST_BYTES`, the oldest lose their page,
        then the lowest rank is deleted.
        """
        finished = _session_hash(session_cookie) if session_cookie else None
        kept = [cookie for cookie in present if cookie.session_hash != finished]
        while len(kept) > MOST:
            kept.remove(min(kept, key=lambda cookie: cookie.rank))
        room = sum(map(self._room, kept))
        for place, cookie in enumerate(kept[:-1]):
            if room > _MOST_BYTES and cookie.return_to:
                kept[place] = replace(cookie, return_to="")
                room += self._room(kept[place]) - self._room(cookie)
        while room > _MOST_BYTES and len(kept) > 1:
            kept.remove(first := min(kept, key=lambda cookie: cookie.rank))
            room -= self._room(first)
        return kept

    def _changes(
        self, headers: Sequence[str], present: Sequence[FlowCookie], kept: Sequence[FlowCookie], now: float
    ) -> list[str]:
        names = {name for name, _ in self._pairs(headers)}
        gone = names - {self._prefix + cookie.id for cookie in kept}
        deleted = [set_cookie(name, "", 0, self._public_url) for name in sorted(gone)]
        return deleted + [self._set(cookie, cookie.begun + SECONDS - now) for cookie in kept if cookie not in present]

    def _pairs(self, headers: Iterable[str]) -> list[tuple[str, str]]:
        """Return the cookies that may be flow cookies. Their number and length are those that a browser may have."""
        ours = (pair for pair in pairs(headers) if len(pair[1]) <= _LONGEST_VALUE and self._name.fullmatch(pair[0]))
        return list(islice(dict.fromkeys(ours), 4 * MOST))

    def _opened(self, id_: str, value: str) -> FlowCookie | None:
        try:
            raw = urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except ValueError:
            return None
        binding, sealed = encoded(raw[:_BINDING_BYTES]), raw[_BINDING_BYTES:]
        for seal in self._keys.seals("flow cookie", f"{id_} {binding}"):
            try:
                return _unpacked(id_, binding, seal.open(sealed))
            except (SealBroken, ValueError, TypeError, AttributeError):  # forged, or of another release
                continue
        return None

    def _set(self, cookie: FlowCookie, seconds: float) -> str:
        seal = self._keys.seals("flow cookie", f"{cookie.id} {cookie.binding}")[0]
        value = encoded(urlsafe_b64decode(f"{cookie.binding}=") + seal.seal(_packed(cookie)))
        return set_cookie(self._prefix + cookie.id, value, int(seconds), self._public_url)

    def _room(self, cookie: FlowCookie) -> int:
        """Return how many bytes a cookie and its separator take in a request."""
        sealed = len(_packed(cookie)) + SEAL_BYTES
        return len(f"{self._prefix}{cookie.id}=; ") + -(-(_BINDING_BYTES + sealed) * 4 // 3)


def _session_hash(session_cookie: str) -> str:
    return hashed("azure_auth session of a flow", session_cookie)[:8]


def _packed(cookie: FlowCookie) -> bytes:
    """Return the cookie's encrypted part, as short as possible: a finished flow's is no longer than a new one's."""
    fields: list[Any] = [cookie.session_hash or cookie.begun, cookie.return_to]
    if cookie.failure:
        fields += [cookie.failure.code, cookie.failure.reference]
    while not fields[-1]:
        fields.pop()
    return json.dumps(fields, separators=(",", ":")).encode()


def _unpacked(id_: str, binding: str, packed: bytes) -> FlowCookie:
    first, return_to, code, reference = [*cast("list[Any]", json.loads(packed)), "", "", ""][:4]
    if isinstance(first, str):
        return FlowCookie(id_, binding, 0, session_hash=first)
    failure = AuthError.unpacked({"code": code, "reference": reference, "return_to": return_to}) if code else None
    return FlowCookie(id_, binding, int(first), str(return_to), failure=failure)
