"""Reflex's states: what a tab had in them goes when its session ends, and a stranger's stay in one process."""

# Reflex's state managers are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import reflex as rx
from redis.exceptions import RedisError
from reflex.istate.manager import StateManager
from reflex.istate.manager.memory import StateManagerMemory
from reflex.istate.manager.redis import StateManagerRedis
from reflex.istate.manager.token import StateToken
from reflex.state import BaseState

from azure_auth.auth.sealing import STRANGER


@dataclass
class SharedStates(StateManagerRedis):
    """Keeps states in Redis for all workers; those of strangers in the one that they are connected to.

    So strangers, whose number nobody knows, fill no Redis, and a sign-in asks it a third less. A stranger who connects
    to another worker begins there anew, which loses nothing: of the person there is nothing in their states.
    """

    strangers: StateManagerMemory = field(default_factory=StateManagerMemory)

    @classmethod
    def instead_of(cls, manager: StateManagerRedis) -> "SharedStates":
        """Return one with the settings of Reflex's own."""
        return cls(manager.redis, manager.token_expiration, manager.lock_expiration, manager.lock_warning_threshold)

    async def get_state(self, token: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state under a token."""
        if _is_strangers(token):
            return await self.strangers.get_state(token)
        return await super().get_state(token, *args, **kwargs)

    async def set_state(self, token: Any, state: Any, **context: Any) -> None:
        """Keep a state."""
        where = self.strangers if _is_strangers(token) else super()
        await where.set_state(token, state, **context)

    def modify_state(self, token: Any, **context: Any) -> Any:
        """Lend a state to one at a time."""
        where = self.strangers if _is_strangers(token) else super()
        return where.modify_state(token, **context)

    async def close(self) -> None:
        """Let go of both."""
        await self.strangers.close()
        await super().close()


async def forget(manager: StateManager, keys: Iterable[str]) -> None:
    """Delete the states that lie under the keys of tabs."""
    if isinstance(manager, SharedStates):
        keys = set(keys)
        await forget(manager.strangers, {key for key in keys if key.startswith(STRANGER)})
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


def _is_strangers(token: StateToken[Any]) -> bool:
    return token.ident.startswith(STRANGER)


def _names(keys: Iterable[str]) -> list[str]:
    """Return the names of all substates under the keys, as Reflex stores them one by one."""
    kinds: list[type[BaseState]] = [rx.State]
    for kind in kinds:
        kinds += kind.get_substates()
    return [str(rx.BaseStateToken(ident=key, cls=kind)) for key in keys for kind in kinds]
