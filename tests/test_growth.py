"""What must not grow: the cost of a sign-in and a sign-out with ended sessions, and what is kept of those who left."""

import asyncio
import gc
import time
from statistics import median

import pytest
import redis
import reflex as rx
from behind import connections
from conftest import KEYS, Clock
from redis_server import running_redis
from reflex_base.registry import RegistrationContext
from tab import State

from azure_auth.auth.gate.gate import Gate
from azure_auth.auth.gate.tabs import Tab, Tabs
from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.auth.web.streams import Streams
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
TENANT = "11111111-1111-1111-1111-111111111111"
ADA = Identity(TENANT, "ada", "Ada Lovelace")
SETTINGS = Settings.load(
    {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": TENANT, "AZURE_CLIENT_SECRET": "s", "REFLEX_ENV_MODE": "prod"}
)
FEW, MANY = 1_000, 100_000


@pytest.fixture
def clock():
    return Clock(time.time())


@pytest.fixture(params=["embedded", "Redis"])
async def make(request, tmp_path, clock):
    """Makes sessions in a store of their own in which many have ended before."""
    made: list[Sessions] = []
    until = time.time() + 3600

    async def make(ended: int) -> Sessions:
        if request.param == "embedded":
            store = EmbeddedStore(tmp_path / f"{ended}.sqlite", clock)
            await store.version("")
            rows = ((f"{number:032}", until, "idle") for number in range(ended))
            store._db.executemany("INSERT INTO ended VALUES (?, ?, ?)", rows)
        else:
            store = RedisStore(servers[ended].url, KEYS)
            with redis.Redis.from_url(servers[ended].url) as client, client.pipeline(transaction=False) as pipeline:
                for number in range(ended):
                    pipeline.set(f"azure_auth:ended:{number:032}", "idle", ex=3600)
                pipeline.execute()
        sessions = Sessions(store, SETTINGS, KEYS, clock)
        sessions._ended = {f"{number:016}": until for number in range(ended)}
        made.append(sessions)
        return sessions

    if request.param == "embedded":
        yield make
    else:
        with running_redis(tmp_path) as few, running_redis(tmp_path) as many:
            servers = {FEW: few, MANY: many}
            yield make
    for sessions in made:
        await sessions._store.close()


async def test_signing_in_and_out_costs_the_same_after_many_ends(make):
    """Sign-in, look-up, sign-out and what a process notes of it take as long after 100,000 ends as after 1,000."""
    crowds = [await make(ended) for ended in (FEW, MANY)]
    steps = "sign-in", "look-up", "sign-out", "note"
    took = {step: ([], []) for step in steps}
    for number in range(80):
        for crowd, place in zip(crowds, (0, 1), strict=True):
            times = [time.perf_counter()]
            cookie = await crowd.start(Identity(TENANT, f"ada {number}"), KEYS.new_name(), None)
            times.append(time.perf_counter())
            session = (await crowd.find(cookie)).session
            times.append(time.perf_counter())
            await crowd.end(session, "signed_out")
            times.append(time.perf_counter())
            crowd._end_here(f"a reference of number {number}", "idle")
            times.append(time.perf_counter())
            for step, begun, ended in zip(steps, times, times[1:], strict=False):
                took[step][place].append(ended - begun)
    for step, (few, many) in took.items():
        assert median(many) < 2 * median(few) + 0.0003, (step, median(few), median(many))
    assert all(len(crowd._ended) == ended + 160 for crowd, ended in zip(crowds, (FEW, MANY), strict=True))


def test_a_process_forgets_what_ended_long_ago(tmp_path, clock):
    """The next end after its time takes it along."""
    sessions = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite", clock), SETTINGS, KEYS, clock)
    for number in range(FEW):
        sessions._end_here(f"{number}", "idle")
    assert len(sessions._ended) == FEW
    clock.now += SETTINGS.session_max.total_seconds()
    sessions._end_here("one more", "idle")
    assert len(sessions._ended) == 1


async def test_every_look_up_of_the_file_has_its_index(tmp_path):
    """SQLite reads no table from end to end."""
    store = EmbeddedStore(tmp_path / "sessions.sqlite")
    await store.version("")
    for query in (
        "DELETE FROM ended WHERE until < 1",
        "DELETE FROM sessions WHERE ends < 1",
        "DELETE FROM handles WHERE reference = 'x'",
        "UPDATE handles SET until = 1 WHERE reference = 'x'",
        *(f"SELECT reference FROM sessions WHERE {of} = 'x' AND {of} != ''" for of in ("person", "sid", "browser")),
    ):
        plan = str(store._db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
        assert "SCAN" not in plan, plan
        assert "SEARCH" in plan, plan
    await store.close()


async def test_no_statement_of_a_sessions_life_reads_a_whole_table(tmp_path, clock):
    """Whatever the store is asked, from sign-in to tidying, SQLite finds by an index."""
    store, said = EmbeddedStore(tmp_path / "sessions.sqlite", clock), list[str]()
    sessions = Sessions(store, SETTINGS, KEYS, clock)
    await store.version("")
    store._db.set_trace_callback(said.append)
    name = KEYS.new_name()
    person = Identity(TENANT, "ada", "Ada", sid="5e551011-0000-4000-8000-000000000001")
    cookie = await sessions.start(person, name, None)
    twin = await sessions.start(person, name, None)
    clock.now += 61
    cookie = await sessions.start(person, name, cookie)
    session = (await sessions.find(cookie)).session
    await sessions.touch(session)
    assert await sessions.is_active(session)
    await sessions._end_twins((session.reference, (await sessions.find(twin)).session.reference))
    await sessions.start(Identity(TENANT, "grace"), name, cookie)
    await sessions.end_everywhere(session)
    await sessions.end_by_directory(person.sid)
    clock.now += 13 * 3600
    await sessions.start(person, name, None)
    store._db.set_trace_callback(None)
    asked = {line for line in said if line.startswith(("SELECT", "\nSELECT", "UPDATE", "DELETE", "INSERT"))}
    assert {line.split()[0] for line in asked} == {"SELECT", "UPDATE", "DELETE", "INSERT"}
    for line in asked:
        plan = [step for *_, step in store._db.execute(f"EXPLAIN QUERY PLAN {line}").fetchall()]
        assert [step for step in plan if "SCAN" in step] == [], line
    await store.close()


async def test_what_is_empty_is_no_index_entry(make, clock):
    """A person without `sid`, in a browser without a name, is found by neither."""
    sessions = await make(FEW)
    cookies = [await sessions.start(Identity(TENANT, name), "", None) for name in ("ada", "grace")]
    assert await sessions._store.end_all("sid", [""], time.time() + 60, "directory") == []
    assert all([await sessions.find(cookie) for cookie in cookies])
    with_sid = await sessions.start(Identity(TENANT, "hedy", sid="of Entra"), "", None)
    clock.now += 31
    without = await sessions.start(Identity(TENANT, "hedy"), "", with_sid)  # signs in again, and has none any more
    assert await sessions._store.end_all("sid", ["", *sessions._records.sids("")], time.time() + 60, "directory") == []
    assert await sessions.find(without)
    if isinstance(sessions._store, RedisStore):
        keys = await sessions._store._redis.keys("azure_auth:*:")
        assert keys == []


async def test_a_person_who_signs_in_a_thousand_times_has_few_handles(make, clock):
    """Outdated values leave record and store."""
    sessions = await make(FEW)
    cookie = await sessions.start(ADA, "", None)
    for _ in range(200):
        clock.now += 31
        cookie = await sessions.start(ADA, "", cookie)
    session = (await sessions.find(cookie)).session
    assert len(session.handles) == 2
    if isinstance(sessions._store, EmbeddedStore):
        assert sessions._store._db.execute("SELECT count(*) FROM handles").fetchone() == (2,)


def kept_of(tabs: Tabs) -> tuple[object, ...]:
    return tabs._holders, tabs._uploads, tabs._by_socket, tabs._by_session, tabs._anonymous


async def test_nobody_is_kept_who_left(tmp_path):
    """With its last connection a session, its data key and its timers are gone; also where one ends by exception."""
    sessions, tabs = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite"), SETTINGS, KEYS), Tabs()
    streams = Streams(sessions)
    held = await sessions.find(await sessions.start(ADA, "", None))
    await sessions.touch(held.session)
    assert sessions._expiry_timers
    assert sessions._save_timers
    for failure in (ZeroDivisionError, asyncio.CancelledError):
        two = Tab.of("one", held), Tab.of("two", None)
        with pytest.raises(failure), tabs.connected(two[0]), tabs.connected(two[1]), streams.answering(held):
            raise failure
    assert not any(
        (tabs._holders, tabs._uploads, tabs._by_socket, tabs._by_session, tabs._anonymous, streams._by_session)
    )
    del held, two
    gc.collect()
    assert not any((len(sessions._open), sessions._expiry_timers, sessions._save_timers))
    await sessions._store.close()


async def test_a_sessions_tabs_are_found_among_many(tmp_path):
    """Without looking at those of others."""
    sessions = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite"), SETTINGS, KEYS)
    ada, grace = [await sessions.find(await sessions.start(Identity(TENANT, n), "", None)) for n in ("ada", "grace")]

    def look(others: int) -> float:
        tabs, mine = Tabs(), Tab.of("mine", ada)
        connections = [tabs.connected(mine), *(tabs.connected(Tab.of(f"{n}", grace)) for n in range(others))]
        for connection in connections:
            connection.__enter__()
        took: list[float] = []
        for _ in range(50):
            begun = time.perf_counter()
            assert tabs.of(ada.session) == [mine]
            assert tabs.at(mine.state_key) is mine
            took.append(time.perf_counter() - begun)
        for connection in connections:
            connection.__exit__(None, None, None)
        return median(took)

    few, many = look(20), look(20_000)
    assert many < 5 * few + 0.00005, (few, many)
    await sessions._store.close()


@pytest.fixture
async def gate(sign_in):
    """A gate of an app of its own."""
    context = RegistrationContext.set(RegistrationContext.ensure_context().fork())
    app = rx.App()
    app._enable_state()
    yield Gate(app, sign_in.sessions, Tabs(), State, sign_in.start_url)
    await app.state_manager.close()
    RegistrationContext.reset(context)


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_socket_that_ends_by_exception_leaves_nothing(gate, sign_in, failure, signed_in):
    """However its connection ends, neither the tab nor its timers nor its session are kept."""
    seen: list[Tab] = []

    async def reflex(scope, receive, send):
        tab = scope["azure_auth.tab"]
        tab.stall_timer = asyncio.get_running_loop().call_later(60, seen.clear)
        seen.append(tab)
        assert gate._tabs.at(tab.state_key) is tab
        raise failure

    site = connections(reflex, sign_in, gate, gate._tabs)
    cookie = await sign_in.sessions.start(ADA, "", None) if signed_in else "x" * 43
    headers = [(b"cookie", f"azure_auth_session={cookie}".encode())]
    scope = {"type": "websocket", "path": "/_event/", "query_string": b"token=tab", "headers": headers}
    with pytest.raises(failure):
        await site(scope, None, None)
    (tab,) = seen
    tabs = gate._tabs
    await asyncio.sleep(0)
    assert not any(
        (tabs._holders, tabs._uploads, tabs._by_socket, tabs._by_session, tabs._anonymous, site._streams._by_session)
    )
    assert tab.stall_timer.cancelled()
    assert tab.timer is None or tab.timer.cancelled()
    assert bool(gate.cleanup._left) is not signed_in  # a stranger's state waits a while for its tab
    gc.collect()
    assert not any((len(sign_in.sessions._open), sign_in.sessions._expiry_timers, sign_in.sessions._save_timers))
    for timer in gate.cleanup._left.values():
        timer.cancel()


async def nothing_comes():
    return {"type": "http.request"}


@pytest.mark.parametrize("failure", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_request_that_ends_by_exception_leaves_nothing(sign_in, failure):
    """Streams are forgotten like sockets."""

    async def inner(scope, receive, send):
        assert site._streams._by_session
        raise failure

    site = connections(inner, sign_in)

    cookie = await sign_in.sessions.start(ADA, "", None)
    headers = [(b"cookie", f"azure_auth_session={cookie}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/figures", "query_string": b"", "headers": headers}
    with pytest.raises(failure):
        await site(scope, nothing_comes, None)
    assert not site._streams._by_session


async def test_a_tab_that_leaves_takes_its_timers_along(gate):
    """The one that would close its socket, and the one that waits for its event."""
    tab = Tab.of("tab", None, browser=KEYS.new_name())
    with gate._tabs.connected(tab):
        gate.welcome(tab)
        tab.stall_timer = asyncio.get_running_loop().call_later(60, lambda: None)
    await gate.left(tab)
    await asyncio.sleep(0)
    assert tab.timer.cancelled()
    assert tab.stall_timer.cancelled()
    gate.cleanup._left[tab.state_key].cancel()


async def test_a_stranger_who_comes_back_is_not_forgotten(gate):
    """The timer that would forget the state goes, and one more departure has one timer, not two."""
    name = KEYS.new_name()
    first, second = Tab.of("tab", None, browser=name), Tab.of("tab", None, browser=name)
    assert first.state_key == second.state_key
    gate.welcome(first)
    await gate.left(first)
    (forgetting,) = gate.cleanup._left.values()
    gate.welcome(second)
    assert forgetting.cancelled()
    assert gate.cleanup._left == {}
    await gate.left(second)
    await gate.left(second)
    (again,) = gate.cleanup._left.values()
    waiting = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
    assert waiting == [again]
    again.cancel()


def test_a_session_that_is_open_is_small():
    """An open session takes no more than a few kilobytes of a process."""
    session, _ = Session.begun(ADA, 0.0, "b" * 64, 0.0)
    assert len(str(session.record())) < 2_000
