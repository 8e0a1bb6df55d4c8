"""Work that goes on without its caller: tasks and timers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from azure_auth.errors import StoreUnavailable

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)


class Background:
    """Tasks that run to their end, also when their caller is cancelled."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()  # those that are running

    def start(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a new task, which goes on if this call is cancelled."""
        return await asyncio.shield(self.start(work))

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it when nobody awaits the task any more


class Timers(dict[_K, asyncio.TimerHandle], Generic[_K]):
    """The running timers, one for each key."""

    def __init__(self, background: Background, work: Callable[[_K], Coroutine[Any, Any, None]]) -> None:
        """Start `work`, with the key of each timer that ends, in the background."""
        super().__init__()
        self._background, self._work = background, work

    def set(self, key: _K, seconds: float) -> None:
        """Start a timer in place of the key's earlier one."""
        self.cancel(key)
        self[key] = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._end, key)

    def cancel(self, key: _K) -> None:
        """Stop a key's timer, if it has one."""
        if timer := self.pop(key, None):
            timer.cancel()

    def _end(self, key: _K) -> None:
        self.pop(key, None)
        self._background.start(attempt(self._work(key)))


async def attempt(work: Awaitable[object]) -> None:
    """Do something whose failure must stop nobody. If the store is unavailable, it is retried or found out later."""
    try:
        await work
    except StoreUnavailable:
        pass
    except Exception:
        _log.exception("background work failed")
