"""What every store can do; one suite for all of them."""

import asyncio
import json
import sqlite3
import time
from dataclasses import replace

import pytest
import redis
from conftest import KEYS
from redis.asyncio.connection import AbstractConnection
from redis_server import running_redis

from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.store.contract import (
    KNOWN,
    OVER,
    WAITING,
    Changed,
    Gone,
    Handle,
    OneTimeEntry,
    Record,
    Start,
    Started,
    Store,
    TabWanted,
)
from azure_auth.auth.sessions.store.one_time import OneTimeEntries
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.bounds import SESSION_STATES
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, StoreUnavailable, TooManyRequests

pytestmark = pytest.mark.anyio
NOW = time.time()
LATER = NOW + 1000


def record(name: str, *, person: str = "p", browser: str = "", ends: float = LATER) -> Record:
    ends = round(ends, 3)  # Redis counts milliseconds
    return Record(name, 1, ends, person, f"sid of {person}", browser or f"browser of {name}", b"sealed")


async def start(store: Store, new: Record, **more: object) -> Started:
    """Start a session with one handle, in the browser that its record names."""
    handle = Handle(f"handle of {new.reference}", b"data key")
    return await store.start(Start(new, handle, persons=[new.person], browsers=[new.browser], **more))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Embedded:
    """The embedded store, as its process, another process and somebody with the file see it."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "folder/sessions.sqlite"

    def open(self):
        return EmbeddedStore(self.path)

    def steal(self):
        file = sqlite3.connect(self.path)
        rows = [(t, row) for t in ("sessions", "handles") for row in file.execute(f"SELECT * FROM {t}").fetchall()]
        file.close()
        return rows

    def put_back(self, rows):
        file = sqlite3.connect(self.path)
        with file:
            for table, row in rows:
                file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        file.close()

    def size(self):
        file = sqlite3.connect(self.path)
        tables = "SELECT 1 FROM sessions UNION ALL SELECT 1 FROM ended UNION ALL SELECT 1 FROM handles"
        size = file.execute(f"SELECT count(*) FROM ({tables})").fetchone()[0]
        file.close()
        return size


class InRedis:
    """The same for Redis."""

    def __init__(self, server):
        self.url = server.url
        self.client = redis.Redis.from_url(server.url)
        self.client.flushall()

    def open(self):
        return RedisStore(self.url, KEYS)

    def steal(self):
        return [
            (k, self.client.dump(k)) for kind in ("session", "handle") for k in self.client.keys(f"azure_auth:{kind}:*")
        ]

    def put_back(self, rows):
        for key, value in rows:
            self.client.restore(key, 0, value, replace=True)

    def size(self):
        return self.client.dbsize()


@pytest.fixture(params=["embedded", "Redis"])
def place(request, tmp_path):
    """Where a store lies."""
    if request.param == "embedded":
        yield Embedded(tmp_path)
    else:
        place = InRedis(request.getfixturevalue("server"))
        yield place
        place.client.close()


@pytest.fixture
async def store(place):
    store = place.open()
    yield store
    await store.close()


async def test_what_was_put_is_there(store):
    """A record comes back as it was; one that never was does not."""
    assert await start(store, record("a")) == Started([], [])
    assert await store.read("a") == record("a")
    assert await store.version("a") == 1
    assert await store.read("b") == ""
    assert await store.version("b") == ""


async def test_a_start_ends_other_peoples_sessions_of_its_browser(store):
    """In the same step, by browser and by reference; the person's own stand beside the new one."""
    await start(store, record("old", person="grace"))
    await start(store, record("twin", browser="mine"))
    await start(store, record("other"))
    started = await start(store, record("new", browser="mine"), others=["old"])
    assert started == Started([Gone("old", "grace")], ["twin"])
    started = await start(store, record("hers", person="grace", browser="mine"))
    assert set(started.gone) == {Gone("twin", "p"), Gone("new", "p")}
    standing = [isinstance(await store.read(name), Record) for name in ("old", "twin", "new", "other", "hers")]
    assert standing == [False, False, False, True, True]
    assert await store.version("old") == await store.version("new") == "replaced"
    assert await store.find("handle of new") is None


async def test_a_write_compares(store):
    """The second of two writers with one version loses, and nothing of it is kept."""
    await start(store, record("a"))
    first, second = replace(record("a"), version=2, sealed=b"1"), replace(record("a"), version=2, sealed=b"2")
    assert await store.replace(first, 1)
    assert not await store.replace(second, 1)
    assert (await store.read("a")).sealed == b"1"
    assert await store.version("a") == 2


async def test_what_has_ended_stays_ended(store, place):
    """A late write revives nothing, and neither does a record that somebody puts back."""
    await start(store, record("a"))
    stolen = place.steal()
    assert len(stolen) == 2  # the record and its handle
    assert await store.end(["a"], LATER, "idle") == [Gone("a", "p")]
    assert await store.end(["a"], LATER, "signed_out") == []
    assert not await store.replace(replace(record("a"), version=2), 1)
    assert await store.read("a") == "idle"
    place.put_back(stolen)
    assert await store.read("a") == await store.version("a") == "idle"
    assert await store.find("handle of a") is None
    assert not await store.replace(replace(record("a"), version=2), 1)


@pytest.mark.parametrize(("of", "value"), [("person", "ada"), ("sid", "sid of ada")])
async def test_all_of_one_kind_end(store, of, value):
    """All records of one person, or of one of Entra's sessions, end, and nobody else's."""
    for name, person in (("a", "ada"), ("b", "ada"), ("c", "grace")):
        await start(store, record(name, person=person))
    gone = await store.end_all(of, [value, "another hash of it"], LATER, "directory")
    assert {one.reference for one in gone} == {"a", "b"}
    assert await store.end_all(of, [value], LATER, "directory") == []
    assert [await store.version(name) for name in "abc"] == ["directory", "directory", 1]


async def test_what_is_over_is_swept(store, place):
    """Records and the memory of ended ones go when their time is over, so the store does not grow for ever."""
    for number in range(20):
        await start(store, record(str(number), ends=time.time() + 0.3))
    await store.end(["0"], time.time() + 0.3, "idle")
    await asyncio.sleep(0.4)
    await start(store, record("new", ends=LATER))
    end = time.monotonic() + 5
    while place.size() > 5 and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert place.size() <= 5  # the new record and its handle, and in Redis its three indexes
    assert await store.end_all("person", ["p"], LATER, "signed_out") == [Gone("new", "p")]


async def test_it_survives_a_restart(store, place):
    """Another process finds what was written, and what has ended."""
    await start(store, record("a"))
    await start(store, record("b"))
    await store.end(["b"], LATER, "idle")
    again = place.open()
    assert await again.read("a") == record("a")
    assert await again.read("b") == "idle"
    assert (await again.find("handle of a")).record == record("a")
    await again.close()


async def test_the_file_is_its_owners_alone(tmp_path):
    """Neither folder nor file can be read by other accounts of the machine."""
    store = EmbeddedStore(tmp_path / "folder/sessions.sqlite")
    await start(store, record("a"))
    assert (tmp_path / "folder").stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "folder").iterdir())
    await store.close()


async def test_a_broken_file_says_so(tmp_path):
    """A corrupt file is an error of ours, not of SQLite's."""
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 1000)
    store = EmbeddedStore(tmp_path / "broken.sqlite")
    with pytest.raises(StoreUnavailable):
        await store.read("a")
    with pytest.raises(StoreUnavailable):
        await start(store, record("a"))


async def test_a_redis_that_is_gone_says_so_and_heals(tmp_path):
    """While it is gone or hangs it is an error of ours, in bounded time; back again, it works without a restart."""
    with running_redis(tmp_path) as server:
        store = RedisStore(server.url, KEYS)
        await start(store, record("a"))
        server.pause(on=True)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.version("a")
        assert time.monotonic() - begun < 10
        server.pause(on=False)
        assert await store.version("a") == 1
        server.stop()
        with pytest.raises(StoreUnavailable):
            await store.read("a")
        server.start()
        assert await store.version("a") == ""  # it came back empty
        await start(store, record("a"))
        assert await store.version("a") == 1
        await store.close()


def once(address: str = "", owner: str = "me", rank: int = WAITING) -> OneTimeEntry:
    return OneTimeEntry(owner, address, f"for {address}".encode(), rank)


async def test_a_connection_that_is_closed_under_a_command_says_so(tmp_path, monkeypatch):
    """As at the end of the app, while sockets still leave: redis-py then writes to what is not there any more."""
    send = AbstractConnection._send_packed_command

    async def closed(self, command):
        await self.disconnect(nowait=True)
        await send(self, command)

    with running_redis(tmp_path) as running:
        store = RedisStore(running.url, KEYS)
        monkeypatch.setattr(AbstractConnection, "_send_packed_command", closed)
        with pytest.raises(StoreUnavailable):
            await store.note_tab("reference", "key", time.time() + 60)
        monkeypatch.undo()
        assert await store.note_tab("reference", "key", time.time() + 60) == []
        await store.close()


async def test_a_thing_is_taken_once_and_by_its_owner(store):
    """Another browser's attempt leaves it in place; of two that race, one takes it."""
    await store.put("flow", "a", once("here"), 60)
    for thief in ("you", ""):
        with pytest.raises(FlowForeign):
            await store.consume("flow", "a", thief)
    taken = await asyncio.gather(*(store.consume("flow", "a", "me") for _ in range(5)), return_exceptions=True)
    assert [sealed for sealed, _ in (one for one in taken if isinstance(one, tuple))] == [b"for here"]
    assert sum(isinstance(outcome, FlowUnknown) for outcome in taken) == 4
    with pytest.raises(FlowUnknown):
        await store.consume("ticket", "a", "me")


async def test_it_is_known_for_a_while_that_a_thing_was_taken(place, monkeypatch):
    """To its owner alone; looking leaves it in place, and afterwards nobody remembers."""
    monkeypatch.setattr("azure_auth.auth.sessions.store.contract.CONSUMED_SECONDS", 0.3)
    store = place.open()
    await store.put("flow", "a", once("here"), 60)
    assert [(await store.peek("flow", "a", "me"))[0] for _ in range(2)] == [b"for here"] * 2
    with pytest.raises(FlowForeign):
        await store.peek("flow", "a", "you")
    await store.consume("flow", "a", "me")
    for way in (store.peek, store.consume):
        with pytest.raises(FlowTaken):
            await way("flow", "a", "me")
        with pytest.raises(FlowForeign):
            await way("flow", "a", "you")
    await asyncio.sleep(0.4)
    for owner in ("me", "you"):
        with pytest.raises(FlowUnknown) as forgotten:
            await store.peek("flow", "a", owner)
        assert not isinstance(forgotten.value, FlowTaken)
    await store.close()


async def test_a_thing_lasts_its_time(store):
    """What is not fetched in time is gone."""
    await store.put("ticket", "a", once(), 0.2)
    await asyncio.sleep(0.3)
    with pytest.raises(FlowUnknown):
        await store.consume("ticket", "a", "me")


@pytest.fixture
async def small(place, monkeypatch):
    """A store that keeps ten things of a kind."""
    monkeypatch.setattr("azure_auth.auth.sessions.store.contract.MAX_ENTRIES", 10)
    store = place.open()
    if isinstance(store, EmbeddedStore):
        store._one_time.default_factory = lambda: OneTimeEntries(10)
    yield store
    await store.close()


async def waits(store, kind: str, name: str) -> bool:
    try:
        return bool(await store.peek(kind, name, "me"))
    except FlowUnknown:
        return False


async def test_the_heaviest_address_loses_first(small):
    """When it is full, whoever keeps most loses the oldest, and nobody else loses anything."""
    await small.put("flow", "mine", once("office"), 60)
    for number in range(30):
        await small.put("flow", f"flood {number}", once("flood"), 60)
    assert (await small.consume("flow", "mine", "me"))[0] == b"for office"
    assert [number for number in range(30) if await waits(small, "flow", f"flood {number}")] == [*range(21, 30)]


async def test_a_known_browser_loses_last(small):
    """What is over goes first, then strangers' flows; where all is a known browser's, a stranger is refused."""
    for number in range(4):
        await small.put("flow", f"known {number}", once(f"known {number}", rank=KNOWN), 60)
        await small.put("flow", f"over {number}", once(f"over {number}", rank=OVER), 60)
    for number in range(30):
        await small.put("flow", f"flood {number}", once(f"flood {number}"), 60)
    assert not any([await waits(small, "flow", f"over {number}") for number in range(4)])
    assert sum([await waits(small, "flow", f"flood {number}") for number in range(30)]) == 6
    with pytest.raises(TooManyRequests):
        await small.put("flow", "over", once("elsewhere", rank=OVER), 60)
    for number in range(4, 10):
        await small.put("flow", f"known {number}", once(f"known {number}", rank=KNOWN), 60)
    with pytest.raises(TooManyRequests):
        await small.put("flow", "a stranger's", once("elsewhere"), 60)
    assert all([await waits(small, "flow", f"known {number}") for number in range(10)])


async def test_no_address_takes_more_than_its_share(small):
    """Known or not: whoever floods loses their own, of the lowest rank first, and strangers elsewhere get in."""
    await small.put("flow", "elsewhere", once("elsewhere"), 60)
    await small.put("flow", "neighbour", once("flood"), 60)
    for number in range(30):
        await small.put("flow", f"flood {number}", once("flood", rank=KNOWN), 60)
    await small.put("flow", "newcomer", once("another"), 60)
    assert await waits(small, "flow", "elsewhere")
    assert await waits(small, "flow", "newcomer")
    assert not await waits(small, "flow", "neighbour")
    assert [number for number in range(30) if await waits(small, "flow", f"flood {number}")] == [*range(22, 30)]


async def test_each_kind_has_room_of_its_own(small):
    """Flows cost nobody a ticket."""
    await small.put("ticket", "mine", once("office"), 60)
    for number in range(30):
        await small.put("flow", f"flood {number}", once("office"), 60)
    assert await waits(small, "ticket", "mine")


async def test_a_session_notes_its_last_tabs(store):
    """Those that came before are told, once, and a tab that connects again is the last one."""
    names = [f"tab {number}" for number in range(SESSION_STATES)]
    until = time.time() + 100
    for name in (*names, names[0]):
        assert await store.note_tab("ada", name, until) == []
        await asyncio.sleep(0.002)  # Redis orders them by its clock, in milliseconds
    assert await store.note_tab("ada", "one more", until) == [names[1]]
    assert await store.note_tab("grace", "hers", until) == []
    assert await store.tabs("ada") == {*names, "one more"} - {names[1]}
    assert await store.tabs("ada") == set()


async def test_counting_is_exact_and_forgets(store):
    """So many within the time and no more, by name; afterwards, or when told to, it begins anew."""
    for _ in range(3):
        assert await store.admit({"tab": 3}, 0.3) is None
    assert await store.admit({"tab": 3}, 0.3) == "tab"
    assert await store.admit({"another": 3}, 0.3) is None
    await asyncio.sleep(0.4)
    assert await store.admit({"tab": 3}, 60) is None
    await store.forget("tab")
    for _ in range(3):
        assert await store.admit({"tab": 3}, 60) is None


@pytest.mark.parametrize("off", [-30, 30])
async def test_what_is_for_a_while_goes_by_nobodys_clock(place, monkeypatch, off):
    """A process that is half a minute off loses no ticket of its own or of others, and lets nobody in more often."""
    ours, theirs, real = place.open(), place.open(), time.time
    if isinstance(ours, EmbeddedStore):
        theirs = ours  # one process has it
    await ours.put("ticket", "ours", once(), 30)
    assert await ours.admit({"tab": 2}, 30) is None
    monkeypatch.setattr(time, "time", lambda: real() + off)
    await theirs.put("ticket", "theirs", once(), 30)
    assert await theirs.admit({"tab": 2}, 30) is None
    assert await theirs.admit({"tab": 2}, 30) == "tab"
    monkeypatch.undo()
    await ours.put("ticket", "another", once(), 30)
    assert await ours.admit({"tab": 2}, 30) == "tab"
    for name in ("ours", "theirs", "another"):
        assert (await ours.consume("ticket", name, "me"))[0] == b"for "
    await ours.close()
    await theirs.close()


async def test_several_counts_are_taken_in_turn_up_to_the_first_that_is_full(store):
    """The one that is full is told and not counted, nor are those behind it; those before it are."""
    assert await store.admit({"first": 3, "full": 1, "behind": 1}, 60) is None
    assert await store.admit({"first": 3, "full": 1, "last": 1}, 60) == "full"
    assert await store.admit({"last": 1, "first": 3}, 60) is None
    assert await store.admit({"first": 3}, 60) == "first"


@pytest.mark.parametrize(
    "said",
    [
        b"no JSON",
        b"\xff\xfe",
        b"[]",
        b"{}",
        json.dumps({"v": 1, "ended": None, "why": "idle"}).encode(),
        json.dumps({"v": 1, "ended": ["a tab alone"], "why": "asked"}).encode(),
    ],
)
@pytest.mark.parametrize("known", [False, True])
async def test_a_message_that_is_none_is_passed_over(server, said, known):
    """Forged, unauthenticated or malformed, it does nothing, and the next one is heard."""
    place = InRedis(server)
    store = place.open()
    proof = KEYS.proof(said) if known else "\u00e9".encode() * 64
    heard = store.receive()
    assert await anext(heard) == Changed()
    place.client.publish("azure_auth:ended", proof + b" " + said)
    forged = json.dumps({"v": 1, "ended": ["b"], "why": "idle"}).encode()
    place.client.publish("azure_auth:ended", ServerKeys(lambda: [b"another"]).proof(forged) + b" " + forged)
    for message in (Changed(["a"]), TabWanted("key of a tab", "socket")):
        await store.send(message)
        assert await asyncio.wait_for(anext(heard), 5) == message
    await heard.aclose()
    await store.close()
    place.client.close()


@pytest.mark.parametrize("fault", ["max_page_count = 1", "query_only = ON"])
async def test_a_full_or_read_only_file_says_so_and_heals(tmp_path, fault):
    """Nothing new is kept, which is an error of ours; what is there is still told; with room again all is well."""
    store = EmbeddedStore(tmp_path / "sessions.sqlite")
    await start(store, record("a"))
    store._db.execute(f"PRAGMA {fault}")
    big = replace(record("b"), sealed=b"s" * 100_000)
    with pytest.raises(StoreUnavailable):
        await start(store, big)
    assert await store.version("a") == 1
    assert await store.read("b") == ""
    store._db.execute("PRAGMA max_page_count = 1000000")
    store._db.execute("PRAGMA query_only = OFF")
    await start(store, big)
    assert await store.version("b") == 1
    await store.close()


async def test_a_start_costs_the_same_however_many_sessions_a_person_has(server):
    """What Redis does at a start does not grow with them: it tidies some up, not all."""
    place = InRedis(server)
    store = place.open()

    async def asked(count):
        before = place.client.info("commandstats").get("cmdstat_exists", {"calls": 0})["calls"]
        for number in range(count):
            await start(store, record(f"{before} {number}"))
        return place.client.info("commandstats").get("cmdstat_exists", {"calls": 0})["calls"] - before

    await asked(50)
    few = await asked(10)
    await asked(200)
    assert await asked(10) == few
    await store.close()
    place.client.close()
