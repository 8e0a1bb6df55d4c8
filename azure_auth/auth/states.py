"""Reflex's states: what a tab had in them goes when its session ends, and a stranger's stay in one process."""

# Reflex's state managers are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import reflex as rx
from redis.exceptions import RedisError
from reflex.istate.manager import StateManager
from reflex.istate.manager.memory import StateManagerMemory
from reflex.istate.manager.redis import StateManagerRedis
from reflex.state import BaseState

from azure_auth.auth.sealing import STRANGER

_LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


@dataclass
class SharedStates(StateManagerRedis):
    """Keeps states in Redis for all workers; those of strangers in the one that they are connected to.

    So strangers, whose number nobody knows, fill no Redis, and a sign-in asks it a third less. A stranger who connects
    to another worker begins there anew, which loses nothing: of the person there is nothing in their states.
    """

    strangers: StateManagerMemory = field(default_factory=StateManagerMemory)
    _releases: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def instead_of(cls, manager: StateManagerRedis) -> "SharedStates":
        """Return one with the settings of Reflex's own."""
        return cls(manager.redis, manager.token_expiration, manager.lock_expiration, manager.lock_warning_threshold)

    async def get_state(self, token: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state under a token."""
        if _is_strangers(token.ident):
            return await self.strangers.get_state(token)
        return await super().get_state(token, *args, **kwargs)

    async def set_state(self, token: Any, state: Any, **context: Any) -> None:
        """Keep a state."""
        where = self.strangers if _is_strangers(token.ident) else super()
        await where.set_state(token, state, **context)

    def modify_state(self, token: Any, **context: Any) -> Any:
        """Lend a state to one at a time."""
        where = self.strangers if _is_strangers(token.ident) else super()
        return where.modify_state(token, **context)

    @asynccontextmanager
    async def _lock(self, token: Any, event_name: str | None = None) -> AsyncGenerator[bytes]:
        lock_id = b""
        try:
            async with super()._lock(token, event_name) as lock_id:
                yield lock_id
        except asyncio.CancelledError:
            if lock_id:  # else it was let go of where it was waited for
                await self._let_go(self._lock_key(token), lock_id)
            raise

    async def _wait_lock(self, lock_key: bytes, lock_id: bytes) -> None:
        try:
            await super()._wait_lock(lock_key, lock_id)
        except asyncio.CancelledError:
            await self._let_go(lock_key, lock_id)
            raise

    async def _let_go(self, lock_key: bytes, lock_id: bytes) -> None:
        """Let go of a lock after all.

        Reflex cancels an event when its tab leaves, and does not let go of the lock where that meets one of the two
        moments in which it waits for Redis; the tab's next page would then hang until the lock expires (10 s).
        """
        release = asyncio.create_task(self._release(lock_key, lock_id))
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)
        await asyncio.shield(release)

    async def _release(self, lock_key: bytes, lock_id: bytes) -> None:
        with suppress(RedisError):  # without Redis there is no lock either
            await cast("Any", self.redis.eval(_LET_GO, 1, cast("Any", lock_key), cast("Any", lock_id)))

    async def close(self) -> None:
        """Let go of both."""
        await self.strangers.close()
        await super().close()


async def forget(manager: StateManager, keys: Iterable[str]) -> None:
    """Delete the states that lie under the keys of tabs."""
    if isinstance(manager, SharedStates):
        keys = set(keys)
        strangers = set(filter(_is_strangers, keys))
        await forget(manager.strangers, strangers)
        keys -= strangers
    if isinstance(manager, StateManagerMemory):
        for key in keys:
            lock = manager._states_locks.get(key)
            if lock and lock.locked():  # a handler still has it, and lets go of it by itself
                manager.states.pop(key, None)
            else:
                manager._purge_token(rx.BaseStateToken(ident=key, cls=rx.State))
    elif isinstance(manager, StateManagerRedis) and (names := _names(keys)):
        with suppress(RedisError):  # they expire by themselves, and no key of theirs is derived for anybody any more
            await manager.redis.delete(*names)


def _is_strangers(key: str) -> bool:
    return key.startswith(STRANGER)


def _names(keys: Iterable[str]) -> list[str]:
    """Return the names of all substates under the keys, as Reflex stores them one by one."""
    kinds: list[type[BaseState]] = [rx.State]
    for kind in kinds:
        kinds += kind.get_substates()
    return [str(rx.BaseStateToken(ident=key, cls=kind)) for key in keys for kind in kinds]
