"""The websockets of developers' own endpoints: what comes is read ahead, so it is noticed when the client has left."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from azure_auth.bounds import GONE_SECONDS, MESSAGE_CHARACTERS, MESSAGES_AHEAD, SEND_SECONDS


class Conversation:
    """Lets an endpoint speak with a client, until either of them is gone."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket.

        Servers do not tell a handler that only sends or waits that its client has left (Granian), so it is cancelled
        a moment later. So is one whose messages are too long, or are not taken.
        """
        speaking = _Speaking(receive, send)
        reader = asyncio.create_task(speaking.read())
        handler = asyncio.create_task(self._handle(scope, speaking))
        try:
            await asyncio.wait({reader, handler}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({handler}, timeout=GONE_SECONDS)
        finally:
            speaking.is_over = True
            reader.cancel()
            handler.cancel()  # one that swallows this goes on, but says nothing any more
        with suppress(asyncio.CancelledError):
            await asyncio.wait({handler}, timeout=GONE_SECONDS)
        if handler.done() and not handler.cancelled():
            handler.result()

    async def _handle(self, scope: Scope, speaking: "_Speaking") -> None:
        try:
            await self._app(scope, speaking.receive, speaking.send)
        except (WebSocketDisconnect, OSError) as end:  # a client that leaves is no error, and fills no log
            if isinstance(end, OSError) and not speaking.is_left:
                raise


class _Speaking:
    """What both say."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._ahead: asyncio.Queue[Message] = asyncio.Queue(MESSAGES_AHEAD)
        self._gone: Message | None = None
        self.is_over = False

    @property
    def is_left(self) -> bool:
        """Whether the client has left, or is to leave."""
        return self.is_over or self._gone is not None

    async def read(self) -> None:
        """Read until the client has left, or is to leave."""
        while True:
            message = await self._receive()
            if len(message.get("text") or message.get("bytes") or "") > MESSAGE_CHARACTERS:
                message = await self._end(1009)
            if message["type"] == "websocket.disconnect":
                break
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._ahead.put(message)
            except TimeoutError:
                message = await self._end(1008)
                break
        self._gone = message
        with suppress(asyncio.QueueFull):
            self._ahead.put_nowait(message)

    async def receive(self) -> Message:
        """Return what the client said next."""
        if self._gone and self._ahead.empty():
            return self._gone
        return await self._ahead.get()

    async def send(self, message: Message) -> None:
        """Tell the client something.

        Raises:
            OSError: When the conversation is over; Starlette makes a `WebSocketDisconnect` of it (ASGI, "Disconnected
                client").
        """
        if self.is_over or (self._gone and message["type"] == "websocket.send"):
            raise OSError("the websocket is closed")
        if not self._gone:
            await self._send(message)

    async def _end(self, code: int) -> Message:
        await self._send({"type": "websocket.close", "code": code})
        return {"type": "websocket.disconnect", "code": code}
