"""Developers' websockets: the app notices a client that has left, and disconnects one that breaks a limit."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from behind import connections
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from azure_auth import bounds
from azure_auth.auth.policy import public
from azure_auth.auth.web import streams
from azure_auth.auth.web.streams import Conversation

pytestmark = pytest.mark.anyio
GONE = {"type": "websocket.disconnect", "code": 1001}


class Client:
    """What a client sends, and what it was sent."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[dict] = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})
        self.heard: list[dict] = []

    async def hears(self, message: dict) -> None:
        self.heard.append(message)

    async def with_(self, endpoint: Callable[[WebSocket], object]) -> None:
        async def app(scope, receive, send) -> None:
            await endpoint(WebSocket(scope, receive, send))

        await Conversation(app)({"type": "websocket", "headers": []}, self.says.get, self.hears)


async def pushes(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text("tick")
        await asyncio.sleep(0.01)


async def waits(socket: WebSocket) -> None:
    await socket.accept()
    await asyncio.sleep(60)


async def swallows(socket: WebSocket) -> None:
    await socket.accept()
    for _ in range(300):
        with suppress(asyncio.CancelledError, Exception):
            await socket.send_text("still here")
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("endpoint", [pushes, waits, swallows])
async def test_a_handler_does_not_outlive_its_client(monkeypatch, endpoint):
    """A handler that only sends or waits is cancelled; one that swallows its cancellation can send nothing more."""
    monkeypatch.setattr(streams, "GONE_SECONDS", 0.1)
    client = Client()
    talk = asyncio.create_task(client.with_(endpoint))
    while not client.heard:
        await asyncio.sleep(0)
    client.says.put_nowait(GONE)
    await asyncio.wait_for(talk, 2)
    heard = len(client.heard)
    await asyncio.sleep(0.05)
    assert len(client.heard) == heard


async def test_what_was_said_before_leaving_is_heard():
    """In order, then the disconnect, as often as the handler asks."""
    client, heard = Client(), []

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        heard.extend([await socket.receive() for _ in range(3)])
        heard.append(await socket._receive())

    for text in ("one", "two"):
        client.says.put_nowait({"type": "websocket.receive", "text": text})
    client.says.put_nowait(GONE)
    await client.with_(endpoint)
    assert [message.get("text") for message in heard] == ["one", "two", None, None]
    assert heard[-1] == GONE


async def test_an_error_of_a_handler_is_told():
    """It is raised; a client that leaves is no error."""

    async def broken(socket: WebSocket) -> None:
        await socket.accept()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Client().with_(broken)

    async def reads(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()

    client = Client()
    client.says.put_nowait(GONE)
    await client.with_(reads)


async def longest_message(most: int) -> None:
    client, heard = Client(), []

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            heard.append(len(text))

    talk = asyncio.create_task(client.with_(endpoint))
    while not client.heard:
        await asyncio.sleep(0)
    for size in (most, most + 1):
        client.says.put_nowait({"type": "websocket.receive", "text": "x" * size})
    await talk
    assert heard == [most]
    assert client.heard[-1] == {"type": "websocket.close", "code": 1009}


async def messages_ahead(most: int) -> None:
    """So many messages wait for their handler; one more that waits too long ends the websocket."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "SEND_SECONDS", 0.1)
        patch.setattr(streams, "GONE_SECONDS", 0.1)
        for number, is_ended in ((most - 1, False), (most + 1, True)):
            client = Client()
            for _ in range(number):
                client.says.put_nowait({"type": "websocket.receive", "text": "x"})
            talk = asyncio.create_task(client.with_(waits))
            await asyncio.wait({talk}, timeout=0.5)
            assert talk.done() is is_ended
            assert ({"type": "websocket.close", "code": 1008} in client.heard) is is_ended
            talk.cancel()


async def opened(endpoint: Callable[[WebSocket], object], client: Client) -> None:
    """Open a websocket of a public endpoint, without a session, through the connections of an app."""
    from test_bounds import connections_of

    api = Starlette(routes=[WebSocketRoute("/open", public(endpoint))])
    site = connections(api, connections_of()[0]._sign_in, api=api)
    scope = {"type": "websocket", "path": "/open", "query_string": b"", "client": ("127.0.0.1", 1)}
    await site({**scope, "headers": [(b"origin", b"http://localhost:3000")]}, client.says.get, client.hears)


async def a_strangers_websocket(_: float) -> None:
    """A websocket of an anonymous client lasts so long."""
    client = Client()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "STRANGER_WEBSOCKET_SECONDS", 0.1)
        await asyncio.wait_for(opened(waits, client), 2)
    assert client.heard[-1] == {"type": "websocket.close", "code": 1001}


async def test_a_time_out_of_a_handlers_own_is_its_error():
    """It is raised like any other, and not confused with the end of an anonymous websocket."""

    async def late(socket: WebSocket) -> None:
        await socket.accept()
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await opened(late, Client())
