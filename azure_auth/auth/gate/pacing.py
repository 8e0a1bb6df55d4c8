"""How fast messages are read, how many of them may wait for their handlers, and how much may wait to be sent."""

import asyncio
from collections.abc import Callable
from typing import Any

from azure_auth import bounds


class Pace:
    """Limits the rate of messages, and how many wait for their handlers. Further messages are read later."""

    def __init__(self, bound: bounds.MessageRate) -> None:
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
            most = max(bound.waiting_characters, size)
            while self._waiting >= bound.waiting or self._waiting_characters + size > most:
                self._room.clear()
                await self._room.wait()
            if (wait := self._due - clock()) > 0:
                await asyncio.sleep(wait)
            self._due = max(self._due, clock() - bounds.BURST_SECONDS) + max(1 / bound.events, size / bound.characters)

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
        self._own, self._short, self._long = Pace(bounds.SOCKET), short, long

    def of(self, size: int) -> tuple[Pace, Pace]:
        """Return the two that a message of that many characters must pass."""
        return self._own, self._short if size <= bounds.SHORT_CHARACTERS else self._long


class Outgoing(asyncio.Queue[Any]):
    """What Engine.IO has to send through one socket: its own queue has no limit.

    This one counts characters until they are sent, and ends the socket above the maximum.

    Attributes:
        characters: How much is not sent yet. Engine.IO empties the queue before it sends the first item.
        on_full: Called above the maximum.
    """

    characters = 0
    on_full: Callable[[], None] = staticmethod(lambda: None)

    async def drained(self) -> None:
        """Wait until at most `UNREAD_CHARACTERS` are left."""
        while self.characters > bounds.UNREAD_CHARACTERS:
            self._room.clear()
            await self._room.wait()

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._room = asyncio.Event()

    def _put(self, item: Any) -> None:
        if self.characters > bounds.OUTGOING_CHARACTERS:  # one update alone may have more
            self.on_full()
        super()._put(item)
        data = getattr(item, "data", None)
        if isinstance(data, str):
            self.characters += len(data) + 1  # and its type

    def sent(self, characters: int) -> None:
        """Subtract what was sent."""
        self.characters = max(self.characters - characters, 0)  # a ping, say, has no text and was not counted
        self._room.set()
