"""What a tab had in Reflex's state goes for good with its session, also under a handler that still works on it."""

import pytest
import redis as client
import reflex as rx
from redis.asyncio import Redis
from redis_server import running_redis
from reflex.istate.manager.memory import StateManagerMemory
from reflex.istate.manager.redis import StateManagerRedis
from reflex.state import State

from azure_auth.auth.gate.states import LocalStates, SharedStates, instead_of

pytestmark = pytest.mark.anyio
KEY = "f" * 64
TOKEN = rx.BaseStateToken(ident=KEY, cls=rx.State)


class Note(rx.State):
    text: str = ""


class Draft(rx.State):
    text: str = ""


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
        return any(KEY in kept for kept in (states.states, states._token_expires_at, states._states_locks))
    return bool([name for name in await states.redis.keys("*") if name.startswith(KEY.encode())])


@pytest.mark.parametrize("ends", [True, False])
async def test_a_handler_that_holds_the_lock_brings_nothing_back(states, over, ends):
    """Its state is forgotten at the end of the session, and leaving the handler keeps it no more; else it is kept."""
    async with states.modify_state(TOKEN) as state:
        state.is_hydrated = True
        if ends:
            over.add(KEY)
            await states.forget({KEY})
    assert await kept(states) is not ends


@pytest.mark.parametrize("ends", [True, False])
async def test_a_background_handler_works_on_a_state_that_is_kept_nowhere(states, over, ends):
    """It opens the state after the end: it gets one of its own, with nothing of before in it."""
    async with states.modify_state(TOKEN) as state:
        state.is_hydrated = True
    if ends:
        over.add(KEY)
        await states.forget({KEY})
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


async def written(states) -> None:
    """Let a handler write something into each of a tab's states."""
    async with states.modify_state(TOKEN) as state:
        (await state.get_state(Note)).text = "a note"
        (await state.get_state(Draft)).text = "a draft"


async def texts(state) -> tuple[str, str]:
    """What a tab's states have."""
    return (await state.get_state(Note)).text, (await state.get_state(Draft)).text


@pytest.mark.parametrize("states", ["Redis"], indirect=True)
async def test_reading_alone_lets_go_of_what_is_unreadable(states, server):
    """Before anything is written, no key of the tab is left, and the next read has nothing to tell."""
    told: list[str] = []
    states.on_unreadable = told.append
    await written(states)
    for name in server.keys(f"{KEY}*"):
        server.set(name, b"a pickle of another release")
    assert await texts(await states.get_state(TOKEN)) == ("", "")
    assert server.keys(f"{KEY}*") == []
    assert told == [KEY]
    assert await texts(await states.get_state(TOKEN)) == ("", "")
    assert told == [KEY]


@pytest.mark.parametrize("states", ["Redis"], indirect=True)
@pytest.mark.parametrize("way", ["get", "modify"])
async def test_a_tab_begins_anew_as_a_whole(states, server, way):
    """Where one of its states is of another release, whoever finds that out sees none of the others' values either."""
    told: list[str] = []
    states.on_unreadable = told.append
    await written(states)
    (name,) = server.keys(f"{KEY}*note")
    server.set(name, b"a pickle of another release")
    if way == "get":
        found = await texts(await states.get_state(TOKEN))
    else:
        async with states.modify_state(TOKEN) as state:
            found = await texts(state)
    assert told == [KEY]
    assert await texts(await states.get_state(TOKEN)) == ("", "")
    assert found == ("", "")


@pytest.mark.parametrize("states", ["Redis"], indirect=True)
async def test_an_unreadable_state_of_one_tab_touches_no_other(states, server):
    """Another tab's states stay, and nothing is told of it."""
    other, told = rx.BaseStateToken(ident="e" * 64, cls=rx.State), list[str]()
    states.on_unreadable = told.append
    await written(states)
    async with states.modify_state(other) as state:
        (await state.get_state(Note)).text = "another tab's"
    for name in server.keys(f"{KEY}*"):
        server.set(name, b"a pickle of another release")
    await states.get_state(TOKEN)
    assert (await texts(await states.get_state(other)))[0] == "another tab's"
    assert told == [KEY]


async def test_a_late_write_under_an_end_keeps_nothing_of_any_state(states, over):
    """A handler that wrote before and after the end of its session leaves no substate behind, old or new."""
    await written(states)
    async with states.modify_state(TOKEN) as state:
        (await state.get_state(Note)).text = "before the end"
        over.add(KEY)
        await states.forget({KEY})
        (await state.get_state(Draft)).text = "after the end"
    assert not await kept(states)
    assert await texts(await states.get_state(TOKEN)) == ("", "")
    assert not await kept(states)
