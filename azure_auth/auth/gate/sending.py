"""What Engine.IO has to send through one socket: its own queue has no limit."""

from asyncio import Event, Queue
from collections.abc import Callable
from typing import Any

from azure_auth.bounds import OUTGOING_CHARACTERS, UNREAD_CHARACTERS


class Outgoing(Queue[Any]):
    """What Engine.IO has to send through one socket: counted until it is sent; if it is too much, the socket is over.

    Attributes:
        characters: How much is not sent yet; Engine.IO takes all of it out of the queue before it sends the first.
        on_full: Called when it is too much.
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
        """Take off what was sent."""
        self.characters = max(self.characters - characters, 0)  # what has no text, such as a ping, was not counted
        self._room.set()
