"""Reflex's token managers, changed: which socket has which tab, on this worker and on others.

Reflex gives a second socket of a tab a new key. Here it takes the tab over; `namespace` decides whether it may.
"""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import cast

from azure_auth.auth.gate.reflex_internals import LocalTokenManager, RedisTokenManager, SocketRecord
from azure_auth.auth.gate.states import DELETE_IF_SAME, is_anonymous
from azure_auth.bounds import ANSWER_SECONDS

_KEPT = "azure_auth:kept:"
_CLAIM = """
local held = redis.call('GET', KEYS[1]) or ''
if held ~= '' and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class LocalTokens(LocalTokenManager):
    """Knows which socket has which tab."""

    def is_elsewhere(self, token: str) -> bool:  # noqa: ARG002
        """Tell whether a tab may be connected to another worker."""
        return False

    async def take_over(self, token: str, sid: str, ask: Callable[[], Awaitable[None]]) -> bool:  # noqa: ARG002
        """Make a tab a socket's of this worker; there is no other."""
        return True

    async def keep(self, token: str) -> None:
        """Say that this worker has a tab: there is no other that asks."""

    async def link_token_to_sid(self, token: str, sid: str) -> str | None:
        """Link a tab to its socket."""
        self.token_to_socket[token] = SocketRecord(instance_id=self.instance_id, sid=sid)
        self.sid_to_token[sid] = token
        return None

    async def disconnect_token(self, token: str, sid: str) -> None:
        """Unlink a socket; the tab stays another's that has come since."""
        self.sid_to_token.pop(sid, None)
        if self._has(token, sid):
            del self.token_to_socket[token]

    def _has(self, token: str, sid: str) -> bool:
        return self.token_to_socket.get(token) == SocketRecord(instance_id=self.instance_id, sid=sid)


class SharedTokens(LocalTokens, RedisTokenManager):
    """Keeps in Redis which worker has which tab. Anonymous tabs stay in memory."""

    async def link_token_to_sid(self, token: str, sid: str) -> str | None:
        """Link a tab to its socket."""
        await super().link_token_to_sid(token, sid)
        self._ensure_socket_record_task()
        if not is_anonymous(token):
            await self._store_socket_record(token, self.token_to_socket[token])
        return None

    async def disconnect_token(self, token: str, sid: str) -> None:
        """Unlink a socket; the tab stays another's that has come since."""
        had = self._has(token, sid)
        await super().disconnect_token(token, sid)
        if had and not is_anonymous(token):
            drop = self.redis.eval(DELETE_IF_SAME, 1, self._get_redis_key(token), cast("str", self._own(sid)))
            await cast("Awaitable[int]", drop)

    def is_elsewhere(self, token: str) -> bool:
        """Tell whether a tab may be connected to another worker; Reflex passes updates on between them."""
        record = self.token_to_socket.get(token)
        return not is_anonymous(token) and (record is None or record.instance_id != self.instance_id)

    async def take_over(self, token: str, sid: str, ask: Callable[[], Awaitable[None]]) -> bool:
        """Make a tab a socket's of this worker; False if another worker has it, and its client answers.

        `ask` asks the worker that has it. That worker calls `keep` if the client answers, else it drops its record. A
        worker that has ended does neither.
        """
        record = self._get_redis_key(token)
        while True:
            held = cast("bytes", await self.redis.get(record) or b"")
            if held and not await self._is_given_up(token, held, ask):
                return False
            # Another worker may be faster. Then it has the tab, and is asked next.
            claimed = cast("str", held), cast("str", self._own(sid)), str(self.token_expiration)
            claim = self.redis.eval(_CLAIM, 1, record, *claimed)
            if await cast("Awaitable[int]", claim):
                return True

    def _own(self, sid: str) -> bytes:
        """Return what Reflex keeps in Redis for a socket of this worker."""
        return pickle.dumps(SocketRecord(instance_id=self.instance_id, sid=sid))

    async def _is_given_up(self, token: str, held: bytes, ask: Callable[[], Awaitable[None]]) -> bool:
        record, kept = self._get_redis_key(token), _KEPT + token
        await self.redis.delete(kept)
        await ask()
        until, wait = asyncio.get_running_loop().time() + 1.2 * ANSWER_SECONDS, 0.01
        while asyncio.get_running_loop().time() < until and await self.redis.get(record) == held:
            if await self.redis.exists(kept):
                return False
            await asyncio.sleep(wait)
            wait = min(2 * wait, 0.2)
        return True

    async def keep(self, token: str) -> None:
        """Say that this worker has a tab, and that its client answers."""
        await self.redis.set(_KEPT + token, "", px=round(2_000 * ANSWER_SECONDS))

    async def is_token_connected(self, token: str) -> bool:
        """Tell whether a worker has the tab."""
        return token in self.token_to_socket if is_anonymous(token) else await super().is_token_connected(token)


def instead_of(manager: LocalTokenManager) -> LocalTokens | SharedTokens:
    """Return the manager that takes the place of Reflex's own."""
    return SharedTokens(manager.redis) if isinstance(manager, RedisTokenManager) else LocalTokens()
