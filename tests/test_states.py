"""Reflex's states on Redis, as we keep them there."""

import asyncio

import pytest
import redis as client
import reflex as rx
from redis.asyncio import Redis
from redis_server import running_redis
from reflex.istate.manager.redis import StateManagerRedis

from azure_auth.auth.states import SharedStates

pytestmark = pytest.mark.anyio
TOKEN = rx.BaseStateToken(ident="f" * 64, cls=rx.State)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as running, client.Redis.from_url(running.url) as server:
        yield server


@pytest.fixture(params=[StateManagerRedis, SharedStates.instead_of], ids=["Reflex's", "ours"])
async def states(request, server):
    url = f"redis://127.0.0.1:{server.get_connection_kwargs()['port']}"
    manager = StateManagerRedis(Redis.from_url(url))
    made = manager if request.param is StateManagerRedis else request.param(manager)
    yield made
    await made.close()


async def test_an_event_that_is_cancelled_leaves_no_lock(states, server):
    """At whichever step its tab leaves, its next page has the state at once; Reflex's own would keep it waiting."""

    async def event():
        async with states.modify_state(TOKEN) as state:
            state.is_hydrated = True

    await event()  # connects
    left = 0
    for steps in range(200):
        task = asyncio.create_task(event())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        left += server.delete(f"{TOKEN.ident}_lock")
    assert bool(left) is not isinstance(states, SharedStates)
