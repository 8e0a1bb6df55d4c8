"""What Engine.IO has to send through one socket: its own queue has no limit."""

from asyncio import Event, Queue
from collections.abc import Callable
from typing import Any

from azure_auth.bounds import OUTGOING_CHARACTERS, UNREAD_CHARACTERS


class Outgoing(Queue[Any]):
    """The queue of one socket. It counts characters until they are sent, and ends the socket above the maximum.

    Attributes:
        characters: How much is not sent yet. Engine.IO empties the queue before it sends the first item.
        on_full: Called above the maximum.
    """

    characters = 0
    on_full: Callable[[], None] = staticmethod(lambda: None)

    async def drained(self) -> None:
        """Wait until little is left."""
        while self.characters > UNREAD_CHARACTERS:
            self._room.clear()
            await self._room.wait()

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._room = Event()

    def _put(self, item: Any) -> None:
        if self.characters > OUTGOING_CHARACTERS:  # one update alone may have more
            self.on_full()
        super()._put(item)
        data = getattr(item, "data", None)
        if isinstance(data, str):
            self.characters += len(data) + 1  # and its type

    def sent(self, characters: int) -> None:
        """Subtract what was sent."""
        self.characters = max(self.characters - characters, 0)  # a ping, say, has no text and was not counted
        self._room.set()
