"""Sessions: how they start, go on and end; with a clock in hand."""

import asyncio
import sqlite3
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from conftest import KEYS, Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import running_redis

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.active import _CHECK_SECONDS
from azure_auth.auth.sessions.sealing import Seal, SealBroken, handle_of
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.errors import StoreUnavailable
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
TENANT = "11111111-1111-1111-1111-111111111111"
ADA = Identity(TENANT, "object-of-ada", "Ada Lovelace", "ada@contoso.example", "hint")
GRACE = Identity(TENANT, "grace", "Grace Hopper", "grace@contoso.example", "hint")
ENVIRON = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": TENANT, "AZURE_CLIENT_SECRET": "s", "REFLEX_ENV_MODE": "prod"}


async def find(sessions: Sessions, cookie: str) -> Session | None:
    held = await sessions.find(cookie)
    return held and held.session


@pytest.fixture
def clock():
    return Clock(1_000_000.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.sqlite"


@pytest.fixture
def make(path, clock):
    """Another process with the same store, and perhaps other settings."""

    def make(**changed: str) -> Sessions:
        return Sessions(EmbeddedStore(path, clock), Settings.load({**ENVIRON, **changed}), KEYS, clock)

    return make


@pytest.fixture
def sessions(make):
    return make()


async def test_a_cookie_finds_its_person(sessions):
    """The new cookie is 256 bits of text, and stands for whoever signed in."""
    cookie = await sessions.start(ADA, "browser", None)
    assert len(cookie) == 43
    session = await find(sessions, cookie)
    assert session.identity == ADA
    assert await sessions.is_active(session)
    assert await find(sessions, "x" * 43) is None


async def test_a_sign_in_never_keeps_the_id(sessions):
    """Signing in anew gives another id and ends the old one, also when the old one was somebody's idea (fixation)."""
    first = await sessions.start(ADA, "browser", "p" * 43)
    assert first != "p" * 43
    assert await find(sessions, "p" * 43) is None
    second = await sessions.start(GRACE, "another browser", first)
    assert await find(sessions, first) is None
    assert (await find(sessions, second)).identity == GRACE


async def test_two_racing_sign_ins_of_two_people_leave_one(sessions):
    """Two people in one browser who finish together, both without an old cookie: the later one stands."""
    first, second = await asyncio.gather(sessions.start(ADA, "b", None), sessions.start(GRACE, "b", None))
    assert [bool(await find(sessions, cookie)) for cookie in (first, second)] == [False, True]


@pytest.mark.parametrize(("minutes", "stands"), [(59.9, True), (60, False)])
async def test_a_session_idles_out(sessions, clock, minutes, stands):
    """An hour without anything done ends it, to the second; its record is gone."""
    cookie = await sessions.start(ADA, "browser", None)
    session = await find(sessions, cookie)
    clock.now += minutes * 60
    assert await sessions.is_active(session) is stands
    assert session.ended == (None if stands else "idle")
    clock.now -= 60 * 60
    assert bool(await find(sessions, cookie)) is stands


async def test_doing_something_keeps_it_but_not_for_ever(sessions, clock):
    """Whoever is busy is not signed out for idling, but after twelve hours whatever they do."""
    session = await find(sessions, await sessions.start(ADA, "browser", None))
    for _ in range(23):
        clock.now += 30 * 60
        assert await sessions.is_active(session)
        await sessions.touch(session)
    clock.now += 30 * 60
    assert not await sessions.is_active(session)
    assert session.ended == "expired"


async def test_the_store_hears_once_a_minute(sessions, clock, make):
    """Being seen is written at most once a minute, and another process reads it."""
    cookie = await sessions.start(ADA, "browser", None)
    session = await find(sessions, cookie)
    for _ in range(100):
        clock.now += 1
        await sessions.touch(session)
    assert session.version == 2
    clock.now += 59 * 60
    assert await find(make(), cookie)


async def test_it_survives_a_restart(sessions, make):
    """Another process with the same configuration finds the session by its cookie."""
    assert (await find(make(), await sessions.start(ADA, "browser", None))).identity == ADA


@pytest.mark.parametrize(
    "changed",
    [
        {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"},
        {"AZURE_TENANT_ID": "contoso.example"},
        {"AZURE_CLIENT_ID": "22222222-2222-2222-2222-222222222222"},
    ],
)
async def test_another_configuration_ends_it(sessions, make, changed):
    """Authority, tenant or client changed: the session is over, and stays so when they change back."""
    cookie = await sessions.start(ADA, "browser", None)
    assert await find(make(**changed), cookie) is None
    assert await find(make(), cookie) is None


async def test_the_demo_and_the_real_are_not_one(sessions, make):
    """A session of the demo directory is none of a real one with the same ids."""
    other = make()
    other._records._fingerprint = other._records._fingerprint.replace("real", "demo")
    assert await find(other, await sessions.start(ADA, "browser", None)) is None


async def test_a_tenant_that_may_enter_no_more_is_out(sessions, make):
    """Allowed tenants are looked at again at each connection, not only at the sign-in."""
    many = {"AZURE_TENANT_ID": "organizations"}
    other = "33333333-3333-3333-3333-333333333333"
    cookie = await make(**many, AZURE_ALLOWED_TENANTS=f"{TENANT} {other}").start(ADA, "browser", None)
    assert await find(make(**many, AZURE_ALLOWED_TENANTS=f"{TENANT}"), cookie)
    assert await find(make(**many, AZURE_ALLOWED_TENANTS=other), cookie) is None


async def test_an_end_reaches_who_is_here_at_once(sessions):
    """Whoever has the session open hears of its end, once; sign-out everywhere reaches all of the person's."""
    heard: list[str] = []
    sessions.on_end.append(lambda session: heard.append(f"{session.identity.name} {session.ended}"))
    first = await find(sessions, await sessions.start(ADA, "one", None))
    second = await find(sessions, await sessions.start(ADA, "two", None))
    grace = await find(sessions, await sessions.start(GRACE, "three", None))
    await sessions.end_everywhere(first)
    await sessions.end(first, "signed_out")
    assert heard == ["Ada Lovelace signed_out"] * 2
    assert [await sessions.is_active(session) for session in (first, second, grace)] == [False, False, True]


async def test_an_idle_session_ends_by_itself(sessions, path):
    """Nobody has to do anything for it: who sits before an open page is told."""
    quick = Sessions(EmbeddedStore(path), replace(Settings.load(ENVIRON), session_idle=timedelta(seconds=0.2)), KEYS)
    told = asyncio.Event()
    quick.on_end.append(lambda _: told.set())
    session = await find(quick, await quick.start(ADA, "browser", None))
    async with asyncio.timeout(5):
        await told.wait()
    assert session.ended == "idle"
    while quick._background.tasks:
        await asyncio.sleep(0.01)
    assert await quick._store.read(session.reference) == "idle"


async def test_a_session_has_one_timer(sessions):
    """However often its pages are loaded, one timer looks after it; with the last page it is gone."""
    cookie = await sessions.start(ADA, "browser", None)
    handles = asyncio.get_running_loop()._scheduled
    before = len(handles)
    sessions_of_pages = [await find(sessions, cookie) for _ in range(50)]
    assert len([handle for handle in handles if not handle.cancelled()]) == before + 1
    sessions_of_pages.clear()
    assert len([handle for handle in handles if not handle.cancelled()]) == before


async def test_a_late_write_revives_nothing(sessions, make, clock):
    """A process that still writes after another has ended the session finds out, and nothing comes back."""
    cookie = await sessions.start(ADA, "browser", None)
    here, elsewhere = await find(sessions, cookie), make()
    await elsewhere.end(await find(elsewhere, cookie), "signed_out")
    clock.now += 95  # more than the minute after which the store hears of it, on the slower clock too
    await sessions.touch(here)
    assert not await sessions.is_active(here)
    assert await find(make(), cookie) is None


async def test_two_processes_see_each_others_writes(sessions, make, clock):
    """What one writes, the other takes over; neither ends the session."""
    cookie = await sessions.start(ADA, "browser", None)
    other = make()
    here, there = await find(sessions, cookie), await find(other, cookie)
    for _ in range(3):
        clock.now += 95  # more than the minute after which the store hears of it, on the slower clock too
        await sessions.touch(here)
        assert await other.is_active(there)
        clock.now += 95  # more than the minute after which the store hears of it, on the slower clock too
        await other.touch(there)
        assert await sessions.is_active(here)
    assert here.version == there.version == 7


def first_row(path, query: str, values: tuple = ()) -> tuple:
    file = sqlite3.connect(path)
    row = file.execute(query, values).fetchone()
    file.close()
    return row


def rewritten(path, change: str, values: tuple = ()) -> None:
    file = sqlite3.connect(path)
    with file:
        file.execute(change, values)
    file.close()


async def test_clear_columns_decide_nothing(sessions, make, path, clock):
    """Who edits the database makes nobody's session longer, and nobody somebody else."""
    ada = await sessions.start(ADA, "one", None)
    grace = await sessions.start(GRACE, "two", None)
    rewritten(path, "UPDATE sessions SET ends = ends + 1e9")
    clock.now += 60 * 60
    assert await find(make(), ada) is None
    clock.now -= 60 * 60
    sealed = first_row(
        path,
        "SELECT sessions.sealed FROM sessions JOIN handles USING (reference) WHERE name = ?",
        (handle_of(grace).name,),
    )
    rewritten(path, "UPDATE sessions SET sealed = ?", sealed)
    assert (await find(make(), grace)).identity == GRACE
    other = await sessions.start(ADA, "three", None)
    rewritten(path, "UPDATE sessions SET sealed = ?", (b"x" * 200,))
    assert await find(make(), other) is None


@pytest.mark.parametrize("column", ["person", "browser"])
async def test_a_session_cannot_be_hidden_from_its_end(sessions, make, path, column):
    """Who makes a row another person's or browser's keeps nothing alive: it is refused, or ends with the others."""
    hidden, other = await sessions.start(ADA, "one", None), await sessions.start(ADA, "two", None)
    here = await find(sessions, hidden)
    assert await find(make(), hidden)
    rewritten(path, f"UPDATE sessions SET {column} = 'x' WHERE reference = ?", (here.reference,))
    await sessions.end_everywhere(await find(sessions, other))
    assert here.ended == "signed_out"
    assert await find(make(), hidden) is None


@pytest.mark.parametrize("value", ["'text'", "5", "x''"])
@pytest.mark.parametrize("column", ["version", "sealed"])
async def test_a_row_of_other_types_is_refused(sessions, make, path, column, value):
    """Whatever somebody writes into a row, the answer is that nobody is there, not an error."""
    cookie = await sessions.start(ADA, "one", None)
    assert await find(make(), cookie)
    here = await find(sessions, cookie)
    rewritten(path, f"UPDATE sessions SET {column} = {value}")
    assert await sessions.is_active(here) is (column == "sealed")  # one that is open is asked for its version alone
    assert await find(make(), cookie) is None


async def test_an_older_record_put_back_is_no_way_back(sessions, make, path, clock):
    """A restored row is refused by the process that wrote the newer one, and is none after the end."""
    cookie = await sessions.start(ADA, "browser", None)
    before = first_row(path, "SELECT version, sealed, reference FROM sessions")
    session = await find(sessions, cookie)
    clock.now += 95  # more than the minute after which the store hears of it, on the slower clock too
    await sessions.touch(session)
    rewritten(path, "UPDATE sessions SET version = ?, sealed = ? WHERE reference = ?", before)
    assert not await sessions.is_active(session)
    assert session.ended == "refused"
    assert await find(make(), cookie) is None


async def test_a_store_that_fails_lets_nobody_in(sessions, path):
    """What cannot be told is denied, as an error and not as a person."""
    cookie = await sessions.start(ADA, "browser", None)
    session = await find(sessions, cookie)
    await sessions._store.close()
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(b"no database" * 1000)
    for ask in (find(sessions, cookie), sessions.is_active(session), sessions.start(ADA, "b", None)):
        with pytest.raises(StoreUnavailable):
            await ask
    with pytest.raises(StoreUnavailable):
        await sessions.end(session, "signed_out")
    assert session.ended == "signed_out"  # here it is over all the same


async def test_an_end_that_could_not_be_written_is_an_end(sessions, make, path):
    """A sign-out while the store is locked stays one when it is not locked any more, and is written then."""
    cookie = await sessions.start(ADA, "browser", None)
    session = await find(sessions, cookie)
    busy = sqlite3.connect(path, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await sessions.end(session, "signed_out")
    busy.execute("ROLLBACK")
    busy.close()
    assert await find(make(), cookie)
    del session
    assert await find(sessions, cookie) is None
    assert await find(make(), cookie) is None


async def test_a_forgotten_end_is_an_end_here(sessions, path):
    """A row that is put back without a trace of its end revives nothing in the process that ended it."""
    cookie = await sessions.start(ADA, "browser", None)
    rows = {table: first_row(path, f"SELECT * FROM {table}") for table in ("sessions", "handles")}
    assert await find(sessions, cookie)
    await sessions.end(await find(sessions, cookie), "signed_out")
    rewritten(path, "DELETE FROM ended")
    for table, row in rows.items():
        rewritten(path, f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    assert await find(sessions, cookie) is None


async def test_nothing_at_rest_can_be_read(sessions, path):
    """No name, id, hint or cookie is in any byte of the store; a canary put beside them is found."""
    cookie = await sessions.start(ADA, "a-browser-cookie", None)
    rewritten(path, "UPDATE sessions SET person = 'canary'")
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"canary" in stored
    for secret in (cookie, "Lovelace", "object-of-ada", TENANT, "hint", "a-browser-cookie"):
        assert secret.encode() not in stored, secret


async def test_the_size_of_a_session_is_bounded(sessions, path):
    """A record takes less than 10 kB, and the cookie has one length whoever it is."""
    big = replace(ADA, name="A" * 256, username="u" * 256, logout_hint="h" * 1024)
    assert len(await sessions.start(big, "browser", None)) == 43
    assert first_row(path, "SELECT length(sealed) FROM sessions")[0] < 10_000


@settings(derandomize=True, database=None, max_examples=300)
@given(st.binary(max_size=200), st.text(max_size=60))
def test_nothing_but_the_seal_opens(sealed, cookie):
    """Whatever bytes lie there, and whatever cookie comes: it opens, or it is refused in one way."""
    keys = Seal.of("session", cookie)
    with pytest.raises(SealBroken):
        keys.open(sealed)
    assert keys.open(keys.seal(sealed)) == sealed
    with pytest.raises(SealBroken):
        Seal.of("session", f"{cookie}x").open(keys.seal(sealed))


@pytest.fixture(params=["embedded", "Redis"])
def open_store(request, tmp_path, path):
    """Opens the one store that two processes have; the embedded one goes by the given clock."""
    if request.param == "embedded":
        yield lambda clock=time.time: EmbeddedStore(path, clock)
    else:
        with running_redis(tmp_path) as server:
            yield lambda _=None: RedisStore(server.url, KEYS)


@pytest.fixture(params=[-30, 30])
async def two(request, open_store):
    """Two processes on one store, the second with a clock that is half a minute off; both clocks move together."""
    clock = Clock(time.time())  # Redis has one of its own
    stores = [open_store(clock), open_store(clock)]
    clocks = [clock, lambda: clock() + request.param]
    yield (
        clock,
        *(Sessions(store, Settings.load(ENVIRON), KEYS, now) for store, now in zip(stores, clocks, strict=True)),
    )
    for store in stores:
        await store.close()


@pytest.mark.parametrize("way", ["idle", "expired"])
@pytest.mark.parametrize("begun", ["here", "there"])
async def test_a_clock_that_is_off_ends_nobody_early(two, way, begun):
    """A session of one process is one of the other, and no more than half a minute longer or shorter there."""
    clock, ours, theirs = two
    cookie = await (ours if begun == "here" else theirs).start(ADA, "browser", None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    last = clock.now
    for minutes in range(30, 12 * 60, 30) if way == "expired" else []:
        clock.now = last + minutes * 60
        await (theirs if minutes % 60 else ours).touch(there if minutes % 60 else here)
        assert await ours.is_active(here)
        assert await theirs.is_active(there)
    clock.now = last + (12 if way == "expired" else 1) * 60 * 60 - 31
    assert await ours.is_active(here)
    assert await theirs.is_active(there)
    clock.now += 62
    assert not await ours.is_active(here)
    assert not await theirs.is_active(there)
    assert way in (here.ended, there.ended)  # the other may have found it gone
    assert await find(theirs, cookie) is None


async def test_a_touch_on_a_clock_that_is_off_keeps_it_everywhere(two):
    """What a person does at one process counts at the other, from either side, to within half a minute."""
    clock, ours, theirs = two
    cookie = await ours.start(ADA, "browser", None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    for sessions, session in ((theirs, there), (ours, here), (theirs, there)):
        clock.now += 60 * 60 - 31
        await sessions.touch(session)
        assert await ours.is_active(here)
        assert await theirs.is_active(there)
    clock.now += 60 * 60 + 31
    assert not await ours.is_active(here)
    assert not await theirs.is_active(there)


@pytest.mark.parametrize("way", ["sign out", "everywhere", "anew"])
async def test_an_end_on_a_clock_that_is_off_is_one_everywhere(two, way):
    """Signed out at one process, or replaced by another sign-in there: it is over at the other, which writes on."""
    clock, ours, theirs = two
    for first, second in ((ours, theirs), (theirs, ours)):
        cookie = await first.start(ADA, "browser", None)
        here, there = await find(first, cookie), await find(second, cookie)
        assert await first.is_active(here)
        if way == "sign out":
            await second.end(there, "signed_out")
        elif way == "everywhere":
            await second.end_everywhere(there)
        else:
            await second.start(GRACE, "browser", cookie)
        clock.now += 95
        await first.touch(here)
        assert not await first.is_active(here)
        assert await find(second, cookie) is None


async def test_an_end_of_which_no_message_came_is_found(make, monkeypatch):
    """Somebody who does nothing is signed out by the look that is had at all sessions now and then."""
    monkeypatch.setattr("azure_auth.auth.sessions.active._CHECK_SECONDS", 0.05)
    ours, theirs, told = make(), make(), asyncio.Event()
    cookie = await ours.start(ADA, "browser", None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    ours.on_end.append(lambda _: told.set())
    listening = asyncio.create_task(ours.listen())
    await theirs.end(there, "signed_out")
    await asyncio.wait_for(told.wait(), 5)
    assert here.ended == "signed_out"
    listening.cancel()


def test_the_look_comes_within_half_a_minute():
    """What a lost message would have said is known within 30 s."""
    assert _CHECK_SECONDS + 2 < 30
