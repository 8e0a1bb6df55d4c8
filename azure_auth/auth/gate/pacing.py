"""How fast messages are read, and how many of them may wait for their handlers."""

import asyncio
from collections.abc import Callable

from azure_auth.bounds import BURST_SECONDS, SHORT_CHARACTERS, SOCKET, MessageRate


class Pace:
    """Limits the rate of messages, and how many wait for their handlers. Further messages are read later."""

    def __init__(self, bound: MessageRate) -> None:
        """Keep to a maximum rate and number."""
        self._bound = bound
        self._waiting = self._waiting_characters = 0
        self._due = 0.0
        """When the next message may be read."""
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()

    async def admit(self, size: int) -> None:
        """Wait until a message of that many characters may be read. A waiter that is cancelled uses up nothing."""
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
        """Count a message as waiting; return the callback that ends that, whatever its argument."""
        self._waiting += 1
        self._waiting_characters += size

        def done(_: object) -> None:
            self._waiting -= 1
            self._waiting_characters -= size
            self._room.set()

        return done


class Paces:
    """The paces of one socket: its own, and one shared by all of its owner. Long messages delay no short ones."""

    def __init__(self, short: Pace, long: Pace) -> None:
        """Share one pace for short messages and one for long ones."""
        self._own, self._short, self._long = Pace(SOCKET), short, long

    def of(self, size: int) -> tuple[Pace, Pace]:
        """Return the two that a message of that many characters must pass."""
        return self._own, self._short if size <= SHORT_CHARACTERS else self._long
