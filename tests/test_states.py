"""Reflex's states on Redis, as we keep them there."""

import asyncio

import pytest
import redis as client
import reflex as rx
from redis.asyncio import Redis
from redis_server import running_redis
from reflex.istate.manager.redis import StateManagerRedis
from reflex.utils.token_manager import LocalTokenManager, RedisTokenManager
from reflex_base.event.context import EventContext

from azure_auth.auth.gate import token_managers
from azure_auth.auth.gate.states import SharedStates, instead_of
from azure_auth.auth.gate.updates import hide_from_anonymous
from azure_auth.auth.policy import public
from azure_auth.auth.sessions.sealing import STRANGER

pytestmark = pytest.mark.anyio
TOKEN = rx.BaseStateToken(ident="f" * 64, cls=rx.State)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as running, client.Redis.from_url(running.url) as server:
        yield server


@pytest.fixture(params=["Reflex's", "ours"])
async def states(request, server):
    url = f"redis://127.0.0.1:{server.get_connection_kwargs()['port']}"
    manager = StateManagerRedis(Redis.from_url(url))
    made = manager if request.param == "Reflex's" else instead_of(manager, lambda _: False)
    yield made
    await made.close()
    await manager.close()  # in a running loop Reflex's own listens for locks from the beginning


@pytest.mark.parametrize("states", ["ours"], indirect=True)
async def test_a_strangers_state_is_forgotten_where_it_is(states):
    """It goes from the process; Redis, where it never was, is not asked."""
    stranger = rx.BaseStateToken(ident=STRANGER + "f" * 48, cls=rx.State)
    await states.get_state(stranger)
    assert states.anonymous.states
    redis, states.redis = states.redis, None
    try:
        await states.forget({stranger.ident})
    finally:
        states.redis = redis
    assert not states.anonymous.states


@pytest.mark.parametrize("states", ["ours"], indirect=True)
@pytest.mark.parametrize("end", [ConnectionResetError, TimeoutError, RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize("moment", ["before", "as it is cancelled"])
async def test_states_are_closed_however_the_task_that_listens_to_redis_ends(states, end, moment):
    """With Redis gone it may end by any exception; all the rest is closed all the same."""

    async def listen() -> None:
        try:
            await asyncio.sleep(0 if moment == "before" else 60)
        finally:
            raise end

    states._lock_task = task = asyncio.create_task(listen())
    await asyncio.wait({task}, timeout=0.05)
    await states.close()
    assert task.done()
    assert states._lock_task is None


@pytest.mark.parametrize("key", [STRANGER + "f" * 48, "f" * 64])
@pytest.mark.parametrize("kind", ["embedded", "Redis"])
async def test_a_late_goodbye_does_not_unlink_the_next_socket(server, kind, key):
    """Reflex forgets a socket in a task of its own, which may come after the tab's next one."""
    redis = Redis.from_url(f"redis://127.0.0.1:{server.get_connection_kwargs()['port']}")
    links = token_managers.instead_of(LocalTokenManager() if kind == "embedded" else RedisTokenManager(redis))
    await links.link_token_to_sid(key, "first")
    await links.link_token_to_sid(key, "second")
    await links.disconnect_token(key, "first")
    assert links.token_to_socket[key].sid == "second"
    assert links.sid_to_token == {"second": key}
    assert await links.is_token_connected(key)
    await links.disconnect_token(key, "second")
    assert (links.token_to_socket, links.sid_to_token) == ({}, {})
    await links.close()
    await redis.aclose()


async def event(states) -> None:
    async with states.modify_state(TOKEN) as state:
        state.is_hydrated = True


@pytest.mark.parametrize("moment", ["set", "getdel"], ids=["taken", "given back"])
async def test_an_event_that_is_cancelled_leaves_no_lock(states, server, monkeypatch, moment):
    """A tab that leaves while its lock is taken or given back has its state at once; Reflex's own lets it wait."""
    ask = getattr(states.redis, moment)

    async def leaving(*arguments, **options):
        if moment == "set":
            await ask(*arguments, **options)
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with monkeypatch.context() as patch:
        patch.setattr(states.redis, moment, leaving)
        task = asyncio.create_task(event(states))
        await asyncio.wait({task})
    assert task.cancelled()
    left = server.delete(f"{TOKEN.ident}_lock")
    assert bool(left) is not isinstance(states, SharedStates)


@pytest.mark.parametrize("states", ["ours"], indirect=True)
async def test_no_step_of_an_event_leaves_a_lock(states, server):
    """At whichever step its tab leaves, its next page has the state at once."""
    await event(states)  # connects
    left = 0
    for steps in range(200):
        task = asyncio.create_task(event(states))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        left += server.delete(f"{TOKEN.ident}_lock")
    assert left == 0


class Costly(rx.State):
    """A state of a page that needs somebody signed in."""

    asked: int = 0

    @rx.var(cache=False)
    def answer(self) -> int:
        _asked.append(None)
        return 42


@public
class CostlyPart(Costly):
    """A part of it that strangers may see."""

    part: int = 7


_asked: list[None] = []


@pytest.mark.parametrize("who", ["a stranger", "somebody"])
@pytest.mark.parametrize("way", ["whole", "changes", "initial"])
def test_vars_of_protected_states_are_not_computed_for_strangers(who, way):
    """Neither when a page loads nor after an event; the compiled defaults, which are everybody's, have them."""
    hide_from_anonymous()
    key = STRANGER + "f" * 48 if who == "a stranger" else "f" * 64
    context = EventContext(token=key, state_manager=None, enqueue_impl=None)
    root = rx.State(_reflex_internal_init=True)
    state = root.get_substate(Costly.get_full_name().split("."))
    part = root.get_substate(CostlyPart.get_full_name().split("."))
    state.asked, part.part = 1, 8
    _asked.clear()
    before = EventContext.set(context)
    told = state.get_delta() if way == "changes" else state.dict(initial=way == "initial")
    EventContext.reset(before)
    seen = who == "somebody" or way == "initial"
    assert (Costly.get_full_name() in told) is seen
    assert bool(_asked) is seen
    assert told[CostlyPart.get_full_name()] == {"part_rx_state_": 8}
