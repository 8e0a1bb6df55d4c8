"""Reflex's states, as far as we end them: what a tab had in them goes when its session ends."""

# Reflex's state managers are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from collections.abc import Iterable
from contextlib import suppress

import reflex as rx
from redis.exceptions import RedisError
from reflex.istate.manager import StateManager
from reflex.istate.manager.memory import StateManagerMemory
from reflex.istate.manager.redis import StateManagerRedis
from reflex.state import BaseState


async def forget(manager: StateManager, keys: Iterable[str]) -> None:
    """Delete the states that lie under the keys of tabs."""
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


async def shorten(manager: StateManager, key: str, seconds: int) -> None:
    """Let the states under a key end after so many seconds, in Redis; in memory whoever knows the time forgets them."""
    if isinstance(manager, StateManagerRedis):
        with suppress(RedisError):
            async with manager.redis.pipeline(transaction=False) as pipeline:
                for name in _names([key]):
                    pipeline.expire(name, seconds)
                await pipeline.execute()


def _names(keys: Iterable[str]) -> list[str]:
    """Return the names of all substates under the keys, as Reflex stores them one by one."""
    kinds: list[type[BaseState]] = [rx.State]
    for kind in kinds:
        kinds += kind.get_substates()
    return [str(rx.BaseStateToken(ident=key, cls=kind)) for key in keys for kind in kinds]
