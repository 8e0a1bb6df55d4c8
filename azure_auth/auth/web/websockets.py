"""The websockets of developers' own endpoints: messages are read ahead, so it is noticed when the client has left."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from azure_auth.bounds import GONE_SECONDS, MESSAGE_CHARACTERS, MESSAGES_AHEAD, SEND_SECONDS


class Conversation:
    """One websocket: lets an endpoint speak with a client, until either of them is gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ahead: asyncio.Queue[Message] = asyncio.Queue(MESSAGES_AHEAD)
        self._gone: Message | None = None
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the websocket.

        Some servers (Granian) do not tell a handler that only sends or waits that its client has left, so it is
        cancelled a moment later. The same happens if messages are too long, or if the handler does not take them.
        """
        reader = asyncio.create_task(self._read(receive, send))
        handler = asyncio.create_task(self._handle(scope, send))
        try:
            await asyncio.wait({reader, handler}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({handler}, timeout=GONE_SECONDS)
        finally:
            self._is_over = True
            reader.cancel()
            handler.cancel()  # one that swallows this goes on, but can send nothing any more
        with suppress(asyncio.CancelledError):
            await asyncio.wait({handler}, timeout=GONE_SECONDS)
        if handler.done() and not handler.cancelled():
            handler.result()

    async def _handle(self, scope: Scope, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if self._is_over or (self._gone and message["type"] == "websocket.send"):
                # Starlette makes a `WebSocketDisconnect` of it (ASGI, "Disconnected client").
                raise OSError("the websocket is closed")
            if not self._gone:
                await send(message)

        try:
            await self._app(scope, self._receive, send_on)
        except WebSocketDisconnect:  # a client that leaves is no error, and fills no log
            pass
        except OSError:
            if not (self._is_over or self._gone):
                raise

    async def _receive(self) -> Message:
        """Return the next message; after the last one, the disconnect again and again."""
        return self._gone if self._gone and self._ahead.empty() else await self._ahead.get()

    async def _read(self, receive: Receive, send: Send) -> None:
        """Read until the client has left, or is made to leave."""
        while (message := await receive())["type"] != "websocket.disconnect":
            is_short = len(message.get("text") or message.get("bytes") or "") <= MESSAGE_CHARACTERS
            if is_short:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._ahead.put(message)
                    continue
            code = 1008 if is_short else 1009
            await send({"type": "websocket.close", "code": code})
            message = {"type": "websocket.disconnect", "code": code}
            break
        self._gone = message
        with suppress(asyncio.QueueFull):
            self._ahead.put_nowait(message)
