"""How often something may happen, and how fast messages are read."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from azure_auth.bounds import BURST_SECONDS, SHORT_CHARACTERS, SOCKET, Flow

_MOST_KEYS = 5_000


class Limit:
    """Admits each key a number of times within some seconds. Its memory is bounded."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Admit a key `most` times within `seconds`; `clock` counts them."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._passed: dict[str, deque[float]] = {}

    def admit(self, key: str) -> bool:
        """Count the key once; return False, and do not count it, if it has reached its maximum."""
        since = self._clock() - self._seconds
        while self._passed:
            quietest = next(iter(self._passed))  # an admitted key goes to the end
            if self._passed[quietest][-1] > since and len(self._passed) < _MOST_KEYS:
                break
            del self._passed[quietest]
        times = self._passed.pop(key, deque[float](maxlen=self._most))
        while times and times[0] <= since:
            times.popleft()
        admitted = len(times) < self._most
        if admitted:
            times.append(self._clock())
        if times:
            self._passed[key] = times
        return admitted

    def forget(self, key: str) -> None:
        """Reset a key's count."""
        self._passed.pop(key, None)


class Pace:
    """How fast somebody's messages are read, and how many of them may wait for their handlers; more is read later."""

    def __init__(self, bound: Flow) -> None:
        """Read no more than that."""
        self._bound = bound
        self._waiting = self._waiting_characters = 0
        self._due = 0.0
        """From when on the next message may be read, at an even pace."""
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()

    async def admit(self, size: int) -> None:
        """Wait until a message of that many characters may be read; who stops waiting costs the next nothing."""
        bound, clock = self._bound, asyncio.get_running_loop().time
        async with self._turn:
            while self._waiting >= bound.waiting or self._waiting_characters + size > max(
                bound.waiting_characters, size
            ):
                self._room.clear()
                await self._room.wait()
            if (wait := self._due - clock()) > 0:
                await asyncio.sleep(wait)
            self._due = max(self._due, clock() - BURST_SECONDS) + max(1 / bound.events, size / bound.characters)

    def hold(self, size: int) -> Callable[[object], None]:
        """Count a message as waiting; return what is to be called, with anything, when it is done."""
        self._waiting += 1
        self._waiting_characters += size

        def done(_: object) -> None:
            self._waiting -= 1
            self._waiting_characters -= size
            self._room.set()

        return done


class Paces:
    """The paces of one socket: its own, and those that it shares with others; long messages let short ones pass."""

    def __init__(self, short: Pace, long: Pace) -> None:
        """Share a pace for short messages and one for long ones."""
        self._own, self._short, self._long = Pace(SOCKET), short, long

    def of(self, size: int) -> tuple[Pace, Pace]:
        """Return those that count for a message of that many characters."""
        return self._own, self._short if size <= SHORT_CHARACTERS else self._long
