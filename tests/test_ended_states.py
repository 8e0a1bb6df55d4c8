"""What a tab had in Reflex's state goes for good with its session, also under a handler that still works on it."""

import pytest
import redis as client
import reflex as rx
from redis.asyncio import Redis
from redis_server import running_redis
from reflex.istate.manager.memory import StateManagerMemory
from reflex.istate.manager.redis import StateManagerRedis
from reflex.state import State

from azure_auth.auth.states import LocalStates, SharedStates, forget, instead_of

pytestmark = pytest.mark.anyio
KEY = "f" * 64
TOKEN = rx.BaseStateToken(ident=KEY, cls=rx.State)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as running, client.Redis.from_url(running.url) as server:
        yield server


@pytest.fixture
def over() -> set[str]:
    """The keys of tabs whose sessions have ended."""
    return set()


@pytest.fixture(params=["memory", "Redis"])
async def states(request, over):
    if request.param == "memory":
        made = instead_of(StateManagerMemory(), over.__contains__)
        assert isinstance(made, LocalStates)
        yield made
    else:
        port = request.getfixturevalue("server").get_connection_kwargs()["port"]
        request.getfixturevalue("server").flushall()
        manager = StateManagerRedis(Redis.from_url(f"redis://127.0.0.1:{port}"))
        made = instead_of(manager, over.__contains__)
        assert isinstance(made, SharedStates)
        yield made
        await manager.close()
    await made.close()


async def kept(states) -> bool:
    """Whether anything lies under the tab's key."""
    if isinstance(states, LocalStates):
        return KEY in states.states or KEY in states._token_expires_at
    return bool([name for name in await states.redis.keys("*") if name.startswith(KEY.encode())])


@pytest.mark.parametrize("ends", [True, False])
async def test_a_handler_that_holds_the_lock_brings_nothing_back(states, over, ends):
    """Its state is forgotten at the end of the session, and leaving the handler keeps it no more; else it is kept."""
    async with states.modify_state(TOKEN) as state:
        state.is_hydrated = True
        if ends:
            over.add(KEY)
            await forget(states, {KEY})
    assert await kept(states) is not ends


@pytest.mark.parametrize("ends", [True, False])
async def test_a_background_handler_works_on_a_state_that_is_kept_nowhere(states, over, ends):
    """It opens the state after the end: it gets one of its own, with nothing of before in it."""
    async with states.modify_state(TOKEN) as state:
        state.is_hydrated = True
    if ends:
        over.add(KEY)
        await forget(states, {KEY})
    for _ in range(2):
        async with states.modify_state(TOKEN) as state:
            assert state.is_hydrated is not ends
            state.is_hydrated = True
    await states.set_state(TOKEN, await states.get_state(TOKEN))
    assert await kept(states) is not ends


@pytest.mark.parametrize("states", ["Redis"], indirect=True)
async def test_a_state_of_another_release_begins_anew_and_says_so_once(states, server):
    """All of the tab's state is let go of, so that it is found unreadable once and not at each event."""
    told: list[str] = []
    states.on_unreadable = told.append
    async with states.modify_state(TOKEN) as state:
        state.is_hydrated = True
    names = [name for name in server.keys("*") if name.startswith(KEY.encode())]
    for name in names:
        server.set(name, b"a pickle of another release")
    async with states.modify_state(TOKEN) as state:
        assert state.is_hydrated is False
    assert told == [KEY]
    async with states.modify_state(TOKEN) as state:
        assert isinstance(state, State)
    assert told == [KEY]
    assert not any(server.get(name) == b"a pickle of another release" for name in names)
