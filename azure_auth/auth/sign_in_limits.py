"""Rate limits of sign-ins: for each browser, address and tab, in the store, so that all workers count together."""

from typing import Literal

from azure_auth import audit
from azure_auth.auth.cookies.flow_cookies import MOST
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.store.contract import Store
from azure_auth.errors import TooManyRequests, TooManyStarts

_MINUTE = 60.0
# Per minute; the next one is refused. A whole office may share one address, so its limit is high. A browser may restore
# all its tabs at once, so its limit is twice its maximum number of flows.
_MOST = {"browser": 2 * MOST, "known": 2 * MOST, "old": 600, "nameless": 12_000, "address": 12_000, "tab": 2}
_MOST_SIDS = 600  # of an address: fewer than the store remembers, or a flood could make it forget sign-outs
_SAID = {"known": "browser", "nameless": "address, without a browser's name", "old": "address, without Fetch Metadata"}


class SignInLimits:
    """Counts starts, answers of Microsoft, and front-channel sign-outs."""

    def __init__(self, store: Store, keys: ServerKeys) -> None:
        """Count in `store`, under hashes that `keys` make."""
        self._store, self._keys = store, keys

    async def admit(self, what: Literal["start", "callback"], browser: str, address: str, **others: str) -> None:
        """Count a request under each key that is not empty; `others` are more keys of `_MOST`.

        Browsers without a name, such as those without cookies, share their address's.

        Raises:
            TooManyStarts: If there were too many of this tab.
            TooManyRequests: If there were too many of another key.
        """
        keys = {"browser": browser, "address": address, "nameless": "" if browser else address, **others}
        most = {self._name(f"{what} {of}", keys[of]): limit for of, limit in _MOST.items() if keys.get(of)}
        if full := await self._store.admit(most, _MINUTE):
            of = full.split()[1]
            audit.record("limited", reason=f"{what}s of one {_SAID.get(of, of)}", address=address)
            raise TooManyStarts if of == "tab" else TooManyRequests

    async def admit_sid(self, address: str) -> bool:
        """Count a front-channel sign-out; return False if there were too many of the address."""
        if await self._store.admit({self._name("sid address", address): _MOST_SIDS}, _MINUTE):
            audit.record("limited", reason="front-channel sign-outs of an address", address=address)
            return False
        return True

    async def forget_tab(self, tab: str) -> None:
        """Reset the count of a tab's starts."""
        await self._store.forget(self._name("start tab", tab))

    def _name(self, what: str, key: str) -> str:
        return f"{what} {self._keys.hashed(what, key)}"
