"""Reflex's state managers, changed: a session's states are deleted when it ends; anonymous ones stay in memory."""

# Reflex's state managers are partly untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import reflex as rx
from redis.exceptions import RedisError

from azure_auth.auth.gate import reflex_internals as seam
from azure_auth.auth.sessions.sealing import STRANGER

DELETE_IF_SAME = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"
"""Deletes a key of Redis if it has this value."""
_unread: ContextVar[list[None] | None] = ContextVar("_unread", default=None)
"""Gets an item for each stored part of a state that could not be read."""


def is_anonymous(key: str) -> bool:
    """Tell whether the key is that of a tab without a session."""
    return key.startswith(STRANGER)


@dataclass
class LocalStates(seam.StateManagerMemory):
    """Keeps states in memory. States of ended sessions are kept nowhere, even if a handler still works on one."""

    is_over: Callable[[str], bool] = lambda _: False
    """Tells whether the session of a tab, given by its key, has ended."""

    def _get_or_create_state(self, token: Any) -> Any:
        if self.is_over(token.ident) and token.cache_key not in self.states:
            return token.cls.get_root_state()(_reflex_internal_init=True)
        return super()._get_or_create_state(token)

    def _track_token(self, token: Any) -> None:
        if self.is_over(token.ident):
            self._states_locks.pop(token.lock_key, None)  # the handler that holds it releases it by itself
        else:
            super()._track_token(token)

    async def set_state(self, token: Any, state: Any, **context: Any) -> None:
        """Keep a state, unless its session has ended."""
        if not self.is_over(token.ident):
            await super().set_state(token, state, **context)

    async def forget(self, keys: Iterable[str]) -> None:
        """Delete the states that lie under the keys of tabs."""
        for key in keys:
            lock = self._states_locks.get(key)
            if lock and lock.locked():  # a handler still has it, and releases it by itself
                self.states.pop(key, None)
                self._token_expires_at.pop(key, None)
            else:
                self._purge_token(rx.BaseStateToken(ident=key, cls=rx.State))


@dataclass
class SharedStates(seam.StateManagerRedis):
    """Keeps states in Redis for all workers, and anonymous states in the memory of one worker.

    So visitors cannot fill Redis, and a sign-in makes a third fewer calls. An anonymous tab that reconnects to another
    worker starts with a new state; no user's data is lost, because anonymous states have none.
    """

    anonymous: LocalStates = field(default_factory=LocalStates)
    is_over: Callable[[str], bool] = lambda _: False
    on_unreadable: Callable[[str], None] | None = None
    """Called with the key of a tab whose state is of another release, and therefore begins anew."""
    _releases: set[asyncio.Task[None]] = field(default_factory=set)

    async def get_state(self, token: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the state under a token."""
        if is_anonymous(token.ident):
            return await self.anonymous.get_state(token)
        unread: list[None] = []
        before = _unread.set(unread)
        try:
            state = await super().get_state(token, *args, **kwargs)
        finally:
            _unread.reset(before)
        if unread:
            await self.forget({token.ident})  # also what no event touches, or it would be found again
            if self.on_unreadable:
                self.on_unreadable(token.ident)
            return await super().get_state(token, *args, **kwargs)  # all of it anew, not in part
        return state

    async def set_state(self, token: Any, state: Any, **context: Any) -> None:
        """Keep a state, unless its session has ended."""
        if not self.is_over(token.ident):
            where = self.anonymous if is_anonymous(token.ident) else super()
            await where.set_state(token, state, **context)

    def modify_state(self, token: Any, **context: Any) -> Any:
        """Lock a state, lend it, and keep it."""
        where = self.anonymous if is_anonymous(token.ident) else super()
        return where.modify_state(token, **context)

    @asynccontextmanager
    async def _lock(self, token: Any, event_name: str | None = None) -> AsyncGenerator[bytes]:
        lock_id = b""
        try:
            async with super()._lock(token, event_name) as lock_id:
                yield lock_id
        except asyncio.CancelledError:
            if lock_id:  # else `_wait_lock` released it
                await self._release_late(self._lock_key(token), lock_id)
            raise

    async def _wait_lock(self, lock_key: bytes, lock_id: bytes) -> None:
        try:
            await super()._wait_lock(lock_key, lock_id)
        except asyncio.CancelledError:
            await self._release_late(lock_key, lock_id)
            raise

    async def _release_late(self, lock_key: bytes, lock_id: bytes) -> None:
        """Release a lock that Reflex leaves behind.

        Reflex cancels an event when its tab leaves. It does not release the lock if it is waiting for Redis at that
        moment, to take the lock or to give it back. The tab's next page would then hang until the lock expires (10 s).
        """
        release = asyncio.create_task(self._release(lock_key, lock_id))
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)
        await asyncio.shield(release)

    async def _release(self, lock_key: bytes, lock_id: bytes) -> None:
        with suppress(RedisError):  # without Redis there is no lock either
            await cast("Any", self.redis.eval(DELETE_IF_SAME, 1, cast("Any", lock_key), cast("Any", lock_id)))

    async def close(self) -> None:
        """Close both managers, also when Redis is gone: Reflex would raise what ended its listening task."""
        await self.anonymous.close()
        listening, self._lock_task = self._lock_task, None
        if listening:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        with suppress(RedisError):
            await super().close()

    async def forget(self, keys: Iterable[str]) -> None:
        """Delete the states that lie under the keys of tabs."""
        keys = set(keys)
        await self.anonymous.forget(filter(is_anonymous, keys))
        if names := _names(key for key in keys if not is_anonymous(key)):
            with suppress(RedisError):  # they expire by themselves, and no tab has their keys any more
                await self.redis.delete(*names)


def instead_of(manager: seam.StateManager, is_over: Callable[[str], bool]) -> LocalStates | SharedStates:
    """Return the manager that takes the place of Reflex's own, with the same settings."""
    if not isinstance(manager, seam.StateManagerRedis):
        return LocalStates(is_over=is_over)
    seam.on_unreadable_state(_note_unread)
    times = manager.token_expiration, manager.lock_expiration, manager.lock_warning_threshold
    return SharedStates(manager.redis, *times, is_over=is_over)


def _note_unread() -> None:
    if (unread := _unread.get()) is not None:
        unread.append(None)


def _names(keys: Iterable[str]) -> list[str]:
    """Return the names of all substates under the keys, as Reflex stores them one by one."""
    kinds: list[type[Any]] = [rx.State]
    for kind in kinds:
        kinds += kind.get_substates()
    return [str(rx.BaseStateToken(ident=key, cls=kind)) for key in keys for kind in kinds]
