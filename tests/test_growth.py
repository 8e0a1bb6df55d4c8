"""What must not grow: the cost of a sign-in and a sign-out with ended sessions, and what is kept of those who left."""

import asyncio
import gc
import time
from statistics import median

import pytest
import redis
from conftest import KEYS
from redis_server import running_redis

from azure_auth.auth.identity import Identity
from azure_auth.auth.redis_store import RedisStore
from azure_auth.auth.session import Session
from azure_auth.auth.sessions import Sessions
from azure_auth.auth.store import EmbeddedStore
from azure_auth.auth.tabs import Tab, Tabs
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
TENANT = "11111111-1111-1111-1111-111111111111"
ADA = Identity(TENANT, "ada", "Ada Lovelace")
SETTINGS = Settings.load(
    {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": TENANT, "AZURE_CLIENT_SECRET": "s", "REFLEX_ENV_MODE": "prod"}
)
FEW, MANY = 1_000, 100_000


@pytest.fixture(params=["embedded", "Redis"])
async def make(request, tmp_path):
    """Makes sessions in a store of their own in which many have ended before."""
    made: list[Sessions] = []
    until = time.time() + 3600

    async def make(ended: int) -> Sessions:
        if request.param == "embedded":
            store = EmbeddedStore(tmp_path / f"{ended}.sqlite")
            await store.version("")
            rows = ((f"{number:032}", until, "idle") for number in range(ended))
            store._db.executemany("INSERT INTO ended VALUES (?, ?, ?)", rows)
        else:
            store = RedisStore(servers[ended].url, KEYS)
            with redis.Redis.from_url(servers[ended].url) as client, client.pipeline(transaction=False) as pipeline:
                for number in range(ended):
                    pipeline.set(f"azure_auth:ended:{number:032}", "idle", ex=3600)
                pipeline.execute()
        sessions = Sessions(store, SETTINGS, KEYS)
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
    """Sign-in, look-up and sign-out take as long after 100,000 ends as after 1,000."""
    crowds = [await make(ended) for ended in (FEW, MANY)]
    took: list[list[float]] = [[], []]
    for number in range(60):
        for crowd, times in zip(crowds, took, strict=True):
            begun = time.perf_counter()
            cookie = await crowd.start(Identity(TENANT, f"ada {number}"), KEYS.new_name(), None)
            await crowd.end((await crowd.find(cookie)).session, "signed_out")
            times.append(time.perf_counter() - begun)
    few, many = map(median, took)
    assert many < 2 * few + 0.0003, (few, many)


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


async def test_what_is_empty_is_no_index_entry(make):
    """A person without `sid`, in a browser without a name, is found by neither."""
    sessions = await make(FEW)
    cookies = [await sessions.start(Identity(TENANT, name), "", None) for name in ("ada", "grace")]
    await sessions._store.end_all("sid", [""], time.time() + 60, "directory")
    assert all([await sessions.find(cookie) for cookie in cookies])
    if isinstance(sessions._store, RedisStore):
        keys = await sessions._store._redis.keys("azure_auth:*:")
        assert keys == []


async def test_a_person_who_signs_in_a_thousand_times_has_few_handles(make):
    """Outdated values leave record and store."""
    sessions = await make(FEW)
    now = time.time()
    sessions._clock = lambda: now
    if isinstance(sessions._store, EmbeddedStore):
        sessions._store._clock = sessions._clock
    cookie = await sessions.start(ADA, "", None)
    for _ in range(200):
        now += 31
        cookie = await sessions.start(ADA, "", cookie)
    session = (await sessions.find(cookie)).session
    assert len(session.handles) == 2
    if isinstance(sessions._store, EmbeddedStore):
        assert sessions._store._db.execute("SELECT count(*) FROM handles").fetchone() == (2,)


async def test_nobody_is_kept_who_left(tmp_path):
    """With its last connection a session, its data key and its timers are gone; also where one ends by exception."""
    sessions, tabs = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite"), SETTINGS, KEYS), Tabs()
    held = await sessions.find(await sessions.start(ADA, "", None))
    await sessions.touch(held.session)
    assert sessions._wakes
    assert sessions._writes
    for failure in (ZeroDivisionError, asyncio.CancelledError):
        two = Tab.of("one", held, None), Tab.of("two", None, None)
        with pytest.raises(failure), tabs.connected(two[0]), tabs.connected(two[1]), tabs.streaming(held):
            raise failure
    assert not any((tabs._by_key, tabs._by_session, tabs._strangers, tabs._streams))
    del held, two
    gc.collect()
    assert not any((len(sessions._open), sessions._wakes, sessions._writes))
    await sessions._store.close()


async def test_a_sessions_tabs_are_found_among_many(tmp_path):
    """Without looking at those of others."""
    sessions = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite"), SETTINGS, KEYS)
    ada, grace = [await sessions.find(await sessions.start(Identity(TENANT, n), "", None)) for n in ("ada", "grace")]

    def look(others: int) -> float:
        tabs, mine = Tabs(), Tab.of("mine", ada, None)
        connections = [tabs.connected(mine), *(tabs.connected(Tab.of(f"{n}", grace, None)) for n in range(others))]
        for connection in connections:
            connection.__enter__()
        took: list[float] = []
        for _ in range(50):
            begun = time.perf_counter()
            assert tabs.of(ada.session) == [mine]
            assert tabs.at(mine.key) is mine
            took.append(time.perf_counter() - begun)
        for connection in connections:
            connection.__exit__(None, None, None)
        return median(took)

    few, many = look(20), look(20_000)
    assert many < 5 * few + 0.00005, (few, many)
    await sessions._store.close()


def test_a_session_that_is_open_is_small():
    """An open session takes no more than a few kilobytes of a process."""
    session, _, _ = Session.begun(ADA, 0.0, "b" * 64, 0.0)
    assert len(str(session.touched())) < 2_000
