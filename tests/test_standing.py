"""Sessions stand: many tabs, several processes, signing in again, and sign-outs that come at the wrong moment."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256

import pytest
import redis
from conftest import KEYS, Clock
from redis_server import running_redis

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions.records import Arrival
from azure_auth.auth.sessions.sealing import handle_of
from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import GRACE_SECONDS, OneTimeEntry, Store
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.errors import FlowTaken, SignedOutMeanwhile, StoreUnavailable
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
TENANT = "11111111-1111-1111-1111-111111111111"
SID = "22222222-2222-2222-2222-222222222222"
ADA = Identity(TENANT, "object-of-ada", "Ada Lovelace", "ada@contoso.example", "hint", SID)
GRACE = Identity(TENANT, "object-of-grace", "Grace Hopper", "grace@contoso.example", "hint")
SETTINGS = Settings.load(
    {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": TENANT, "AZURE_CLIENT_SECRET": "s", "REFLEX_ENV_MODE": "prod"}
)
BROWSER, FLOW = KEYS.new_name(), "f" * 43


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["embedded", "Redis"])
def open_store(request, tmp_path) -> Iterator[Callable[[], Store]]:
    """Opens the one store that all processes have; embedded, there is one process and one store."""
    if request.param == "embedded":
        store = EmbeddedStore(tmp_path / "sessions.sqlite", request.getfixturevalue("clock"))
        yield lambda: store
    else:
        server = request.getfixturevalue("server")
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        yield lambda: RedisStore(server.url, KEYS)


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
async def make(open_store, clock):
    """Makes a process on the store."""
    stores: list[Store] = []

    def make(keys: ServerKeys = KEYS) -> Sessions:
        stores.append(open_store())
        return Sessions(stores[-1], SETTINGS, keys, clock)

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
def ours(make) -> Sessions:
    return make()


@pytest.fixture
def theirs(make) -> Sessions:
    return make()


@pytest.fixture
def trail(caplog) -> Callable[[], list[dict[str, object]]]:
    """The lines of the audit trail so far."""
    caplog.set_level(logging.INFO, "azure_auth.audit")
    return lambda: [json.loads(r.getMessage()) for r in caplog.records if r.name == "azure_auth.audit"]


async def find(sessions: Sessions, cookie: str) -> Session | None:
    held = await sessions.find(cookie)
    return held and held.session


async def tidied(sessions: Sessions) -> None:
    """Wait until what timers began is done."""
    while sessions._background.tasks:
        await asyncio.sleep(0.01)


async def ticket(sessions: Sessions, name: str = "ticket", **known: object) -> Arrival:
    """A sign-in that came back now, with its ticket."""
    await sessions._store.put("ticket", name, OneTimeEntry("", "", b"sealed"), 30)
    _, put = await sessions._store.peek("ticket", name, "")
    return Arrival(**{"ticket": name, "begun": put, "begun_in": BROWSER, **known})


@pytest.mark.parametrize("tabs", [2, 5, 50])
async def test_tabs_that_ask_at_one_moment_after_anothers_write_stand(ours, theirs, clock, tabs):
    """Several tasks that read a version which is new to all of them take it over; none ends the session."""
    cookie = await ours.start(ADA, BROWSER, None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    for _ in range(10):
        clock.now += 95
        await theirs.touch(there)
        assert await asyncio.gather(*(ours.is_active(here) for _ in range(tabs))) == [True] * tabs
    assert here.version == there.version == 11


@pytest.mark.parametrize("tabs", [2, 5, 50])
async def test_clicks_at_one_moment_a_minute_after_the_last_write_stand(ours, theirs, clock, tabs):
    """Tabs of two processes that are clicked together, each time after a minute of rest, stay signed in."""
    cookie = await ours.start(ADA, BROWSER, None)
    here, there = await find(ours, cookie), await find(theirs, cookie)

    async def click(sessions: Sessions, session: Session) -> bool:
        stands = await sessions.is_active(session)
        await sessions.touch(session)
        return stands and await sessions.is_active(session)

    for _ in range(10):
        clock.now += 61
        clicks = [click(*at) for _ in range(tabs) for at in ((ours, here), (theirs, there))]
        assert await asyncio.gather(*clicks) == [True] * tabs * 2
    assert await find(ours, cookie)


async def test_a_touch_that_loses_is_written_on_top_of_what_won(ours, theirs, clock):
    """Nothing of either write is lost, and nothing is refused."""
    cookie = await ours.start(ADA, BROWSER, None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    clock.now += 70
    await theirs.touch(there)
    clock.now += 5
    await ours.touch(here)
    assert here.version == 3
    assert here.last_saved == clock.now
    assert await theirs.is_active(there)
    assert there.last_activity == clock.now


async def test_a_forgotten_tab_ends_nobody_who_works_elsewhere(ours, theirs, clock):
    """A process whose tab rests asks what others know before its timer ends the session; then it waits anew."""
    cookie = await ours.start(ADA, BROWSER, None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    for _ in range(12):
        clock.now += 6 * 60
        await ours.touch(here)
    await theirs._check_expiry(there.reference)
    await tidied(theirs)
    assert there.ended is None
    assert there.reference in theirs._expiry_timers
    assert await ours.is_active(here)
    clock.now += 60 * 60
    await theirs._check_expiry(there.reference)
    await tidied(theirs)
    assert there.ended == "idle"
    assert not await ours.is_active(here)
    assert here.ended == "idle"


async def test_what_was_done_within_the_minute_is_written_at_its_end(ours, theirs, clock, monkeypatch):
    """A person's last act counts at other processes, also if the store had heard of them a moment before."""
    monkeypatch.setattr("azure_auth.auth.sessions.active._WRITE_SECONDS", 0.2)
    here = await find(ours, await ours.start(ADA, BROWSER, None))
    clock.now += 0.1
    await ours.touch(here)
    assert here.version == 1
    async with asyncio.timeout(5):
        while here.version == 1:
            await asyncio.sleep(0.01)
    assert here.last_saved == clock.now


async def test_the_same_person_keeps_the_session(ours, theirs, clock):
    """Signing in again gives a new cookie value and keeps session and tabs' keys; other processes follow."""
    cookie = await ours.start(ADA, BROWSER, None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    clock.now += 11 * 60 * 60
    here.last_activity = there.last_activity = clock.now
    married = replace(ADA, name="Ada King", sid="33333333-3333-3333-3333-333333333333", logout_hint="")
    new = await ours.start(married, BROWSER, cookie, await ticket(ours, asked=clock.now))
    assert new != cookie
    assert (await find(ours, new)) is here
    assert await theirs.is_active(there)
    assert here.identity == there.identity == married
    assert (await find(theirs, new)).keys.tab_key("t") == here.keys.tab_key("t")
    clock.now += 2 * 60 * 60  # thirteen hours after the first sign-in
    here.last_activity = clock.now
    assert await ours.is_active(here)
    await ours.end_by_directory(SID)
    assert await ours.is_active(here)
    await ours.end_by_directory(married.sid)
    assert here.ended == "directory"


async def test_an_earlier_value_dies_within_its_grace_everywhere(ours, theirs, make, clock):
    """For 30 s it opens the session; afterwards no process takes it, open there or not, and neither is it restored."""
    cookie = await ours.start(ADA, BROWSER, None)
    there = await find(theirs, cookie)
    clock.now += 60
    stolen = await _dumped(ours._store, cookie)
    new = await ours.start(ADA, BROWSER, cookie)
    old, handle = handle_of(cookie).name, handle_of(new).name
    clock.now += GRACE_SECONDS - 1
    assert await find(theirs, cookie) is there
    assert await theirs.is_active(there, old)
    clock.now += 1
    await _put_back(ours._store, cookie, stolen)
    for sessions in (ours, theirs, make()):
        assert await sessions.find(cookie) is None
    assert not await theirs.is_active(there, old)
    assert await theirs.is_active(there, handle)
    assert (await find(make(), new)).identity == ADA


async def _dumped(store: Store, cookie: str) -> object:
    name = handle_of(cookie).name
    if isinstance(store, EmbeddedStore):
        return store._db.execute("SELECT * FROM handles WHERE name = ?", (name,)).fetchone()
    return await store._redis.dump(f"azure_auth:handle:{name}")


async def _put_back(store: Store, cookie: str, stolen: object) -> None:
    name = handle_of(cookie).name
    if isinstance(store, EmbeddedStore):
        store._db.execute("INSERT OR REPLACE INTO handles VALUES (?, ?, ?, ?, ?)", stolen)
    else:
        await store._redis.restore(f"azure_auth:handle:{name}", 0, stolen, replace=True)


async def test_every_earlier_value_gets_the_deadline(ours, clock):
    """A rotation ends all values before it, not only the one that was presented."""
    cookie = await ours.start(ADA, BROWSER, None)
    session = await find(ours, cookie)
    values = [cookie]
    for _ in range(3):
        clock.now += GRACE_SECONDS + 1
        values.append(await ours.start(ADA, BROWSER, values[-1]))
    assert [session.admits(handle_of(value).name, clock.now) for value in values] == [False, False, True, True]
    clock.now += GRACE_SECONDS
    assert [session.admits(handle_of(value).name, clock.now) for value in values] == [False, False, False, True]


@pytest.mark.parametrize("exchanges", [2, 5, 50])
async def test_exchanges_within_the_grace_get_one_value(ours, theirs, clock, exchanges):
    """However many come at once to two processes, with the old value or the new one, all get the same new value."""
    cookie = await ours.start(ADA, BROWSER, None)
    clock.now += 60
    first = await asyncio.gather(*((ours, theirs)[n % 2].start(ADA, BROWSER, cookie) for n in range(exchanges)))
    again = await asyncio.gather(*(theirs.start(ADA, BROWSER, value) for value in (cookie, first[0])))
    assert len({cookie, *first, *again}) == 2
    session = await find(ours, first[0])
    assert [d is None for d in session.handles.values()].count(True) == 1
    assert len(session.handles) == 2


async def test_no_other_answer_gives_the_new_value_to_the_old_one(ours, clock):
    """Another person's exchange that comes with the old value gets a session of its own, and the first one ends."""
    cookie = await ours.start(ADA, BROWSER, None)
    clock.now += 60
    new = await ours.start(ADA, BROWSER, cookie)
    other = await ours.start(GRACE, BROWSER, cookie)
    assert other not in (cookie, new)
    assert (await find(ours, other)).identity == GRACE
    assert await find(ours, new) is None


async def test_the_identity_that_was_asked_last_counts(ours, clock):
    """Two answers of Microsoft that land in either order: the later question decides, and both get the same value."""
    for swapped in (False, True):
        cookie = await ours.start(ADA, BROWSER, None, Arrival(asked=clock.now))
        clock.now += 60
        answers = [(replace(ADA, name="earlier"), clock.now + 1), (replace(ADA, name="later"), clock.now + 2)]
        clock.now += 3
        for identity, asked in reversed(answers) if swapped else answers:
            new = await ours.start(identity, BROWSER, cookie, Arrival(asked=asked))
        assert (await find(ours, new)).identity.name == "later"
        await ours.end(await find(ours, new), "signed_out")
        clock.now += 60


async def test_a_data_key_lasts_seven_days(ours, clock):
    """A sign-in after that starts another session; the one before ends half a minute later, as a twin."""
    cookie = await ours.start(ADA, BROWSER, None)
    session = await find(ours, cookie)
    for _ in range(7 * 3):
        clock.now += 8 * 60 * 60
        session.last_activity = clock.now
        cookie, before = await ours.start(ADA, BROWSER, cookie), cookie
    assert await find(ours, cookie) is not session
    assert await find(ours, before) is session
    (twins,) = [timer for timer in ours._twin_timers.values() if not timer.cancelled()]
    twins.cancel()


async def test_exchanges_of_one_browser_without_a_session_join(ours, theirs):
    """The first leaves its value for the others, sealed under its flow's cookie, which they have too: one session."""
    flows = [f"{number:043}" for number in range(4)]
    arrivals = [Arrival(bindings=[own, *(flow for flow in flows if flow != own)]) for own in flows]
    workers = zip((ours, theirs, ours, theirs), arrivals, strict=True)
    given = await asyncio.gather(*(worker.start(ADA, BROWSER, None, arrival) for worker, arrival in workers))
    assert len(set(given)) == 1
    assert not ours._twin_timers | theirs._twin_timers


async def test_an_exchange_without_the_others_cookie_joins_nothing(ours, theirs):
    """The control: what is left opens for no other flow cookie."""
    first = await ours.start(ADA, "", None, Arrival(bindings=["a" * 43]))
    assert await theirs.start(ADA, "", None, Arrival(bindings=["b" * 43])) != first


async def test_what_is_left_to_join_goes_with_its_first_use(ours, theirs):
    """Once the browser presented the value, the flow's cookie alone fetches it no more."""
    cookie = await ours.start(ADA, BROWSER, None, Arrival(bindings=[FLOW]))
    assert await find(theirs, cookie)
    assert await theirs.start(ADA, BROWSER, None, Arrival(bindings=[FLOW])) != cookie


async def test_what_is_left_to_join_is_another_persons_in_vain(ours):
    """Somebody else who signs in with the same flow cookie gets a session of their own; the first one ends."""
    ada = await ours.start(ADA, BROWSER, None, Arrival(bindings=[FLOW]))
    grace = await ours.start(GRACE, BROWSER, None, Arrival(bindings=[FLOW]))
    assert (await find(ours, grace)).identity == GRACE
    assert await find(ours, ada) is None


async def test_of_two_sessions_in_one_browser_the_presented_one_stays(ours, theirs, clock, trail):
    """Half a minute after both came about, the other ends as replaced; who has the browser's cookie notices nothing."""
    cookies = [await s.start(ADA, BROWSER, None) for s in (ours, theirs)]
    first, second = [await find(ours, cookie) for cookie in cookies]
    clock.now += 1
    await asyncio.sleep(0.01)  # the store's clock counts milliseconds
    assert await find(theirs, cookies[0])
    (timer,) = theirs._twin_timers.values()
    timer._run()
    await tidied(theirs)
    assert await ours.is_active(first)
    assert not await ours.is_active(second)
    assert second.ended == "joined"
    assert [line["reason"] for line in trail() if line["event"] == "signed_out"] == ["replaced"]
    timer.cancel()


@pytest.mark.parametrize("order", ["the sign-out first", "the rotation first", "at once"])
async def test_a_rotation_does_nothing_to_a_session_that_ended(ours, theirs, clock, order):
    """Whichever comes first: after a sign-out neither value opens anything, and no exchange starts a session."""
    cookie = await ours.start(ADA, BROWSER, None)
    here = await find(ours, cookie)
    clock.now += 60
    arrival = await ticket(ours)
    await asyncio.sleep(0.01)
    rotation, sign_out = theirs.start(ADA, BROWSER, cookie, arrival), ours.end(here, "signed_out")
    if order == "at once":
        new, _ = await asyncio.gather(rotation, sign_out, return_exceptions=True)
    elif order == "the rotation first":
        new = await rotation
        await sign_out
    else:
        await sign_out
        (new,) = await asyncio.gather(rotation, return_exceptions=True)
    assert isinstance(new, str | SignedOutMeanwhile)
    for value in (cookie, new if isinstance(new, str) else cookie):
        assert await find(ours, value) is await find(theirs, value) is None


@pytest.mark.parametrize("way", ["everywhere", "at Microsoft", "in this browser", "in this browser, with another name"])
async def test_a_sign_out_stops_sign_ins_that_began_before_it(ours, theirs, clock, way):
    """A flow that was under way starts no session, and its ticket stays; one that begins afterwards does."""
    session = await find(ours, await ours.start(ADA, BROWSER, None))
    arrival = await ticket(ours)
    clock.now += 1
    await asyncio.sleep(0.01)
    if way == "everywhere":
        await ours.end_everywhere(session)
    elif way == "at Microsoft":
        await ours.end_by_directory(SID)
    else:
        await ours.end(session, "signed_out")
    name = KEYS.new_name() if way == "in this browser, with another name" else BROWSER
    with pytest.raises(SignedOutMeanwhile):
        await theirs.start(ADA, name, None, arrival)
    clock.now += 1
    await asyncio.sleep(0.01)
    assert await find(theirs, await theirs.start(GRACE, KEYS.new_name(), None, await ticket(ours, begun_in="")))
    assert await find(theirs, await theirs.start(ADA, name, None, await ticket(ours, "another")))


async def test_an_end_by_itself_stops_no_sign_in(ours, clock):
    """A session that idled out leaves no mark: the sign-in that is under way is its person's way back."""
    session = await find(ours, await ours.start(ADA, BROWSER, None))
    arrival = await ticket(ours)
    await ours.end(session, "idle")
    assert await ours.start(ADA, BROWSER, None, arrival)


async def test_a_ticket_is_spent_once(ours, theirs):
    """Of exchanges of one ticket that race, one starts a session."""
    arrival = await ticket(ours)
    exchanges = [s.start(ADA, KEYS.new_name(), None, arrival) for s in (ours, theirs) * 5]
    given = await asyncio.gather(*exchanges, return_exceptions=True)
    assert sum(isinstance(one, FlowTaken) for one in given) == 9


async def test_no_ticket_is_spent_without_a_session(tmp_path, clock):
    """While the store takes no write, an exchange fails and can be tried again with the same ticket."""
    sessions = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite", clock), SETTINGS, KEYS, clock)
    arrival = await ticket(sessions)
    await sessions.ping()
    sessions._store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable):
        await sessions.start(ADA, BROWSER, None, arrival)
    sessions._store._db.execute("PRAGMA query_only = OFF")
    assert await find(sessions, await sessions.start(ADA, BROWSER, None, arrival))
    await sessions._store.close()


@pytest.mark.parametrize("open_here", [True, False])
async def test_a_sign_out_at_microsoft_is_told_once(ours, theirs, trail, open_here):
    """With tabs at two processes, or with none: one line, with the person or else a hash, and the reason."""
    cookie = await ours.start(ADA, BROWSER, None)
    sessions = [await find(s, cookie) for s in (ours, theirs)] if open_here else []
    await ours.end_by_directory(SID)
    if open_here:
        assert not await theirs.is_active(sessions[1])
        assert [session.ended for session in sessions] == ["directory"] * 2
    (line,) = [line for line in trail() if line["event"] == "signed_out"]
    assert line["reason"] == "directory"
    who = {"tid": ADA.tenant_id, "oid": ADA.object_id}
    assert (line.get("person"), line.get("person_hash")) == ((who, None) if open_here else (None, line["person_hash"]))
    assert open_here or len(line["person_hash"]) == 64


@pytest.mark.parametrize("why", ["signed_out", "directory", "idle", "expired", "replaced"])
async def test_whoever_finds_out_by_themselves_knows_the_reason(ours, theirs, clock, trail, why):
    """A process that no message reached tells its tabs why the session ended, and tells the trail nothing."""
    cookie = await ours.start(ADA, BROWSER, None)
    here, there = await find(ours, cookie), await find(theirs, cookie)
    if why == "replaced":
        await ours.start(GRACE, BROWSER, cookie)
    elif why == "directory":
        await ours.end_by_directory(SID)
    else:
        await ours.end(here, why)
    assert not await theirs.is_active(there)
    assert there.ended == here.ended == why
    assert [line["reason"] for line in trail() if line["event"] == "signed_out"] == [why]


async def test_a_session_that_is_lost_without_a_trace_is_refused(ours, clock):
    """A store that came back empty ends it, and not as if its person had signed out."""
    session = await find(ours, await ours.start(ADA, BROWSER, None))
    if isinstance(ours._store, EmbeddedStore):
        ours._store._db.execute("DELETE FROM sessions")
    else:
        await ours._store._redis.flushall()
    assert not await ours.is_active(session)
    assert session.ended == "refused"


async def test_a_secret_changes_in_two_steps(make, trail):
    """With both values all is found and ended as before; without the first one's value its sessions are refused."""
    old, new = b"the old secret of thirty-two bytes", b"the new secret of thirty-two bytes"
    before, both, after = (make(ServerKeys(lambda s=s: s)) for s in ([old], [new, old], [new]))
    ada = await before.start(ADA, BROWSER, None)
    grace = await before.start(GRACE, "", None)
    here, there = await find(before, ada), await find(both, ada)
    assert there.identity == ADA
    await both.end_by_directory(SID)
    assert not await before.is_active(here)
    assert here.ended == "directory"
    assert await find(after, grace) is None
    assert [line["reason"] for line in trail() if line["event"] == "signed_out"] == ["directory", "refused"]
    again = await both.start(ADA, BROWSER, None)
    await both.end_everywhere(await find(both, again))
    assert await find(both, again) is None


async def test_a_sign_in_again_moves_a_session_to_the_new_secret(make, clock):
    """After it the old secret is not needed for that session any more."""
    old, new = b"the old secret of thirty-two bytes", b"the new secret of thirty-two bytes"
    before, both, after = (make(ServerKeys(lambda s=s: s)) for s in ([old], [new, old], [new]))
    cookie = await before.start(ADA, BROWSER, None)
    clock.now += 60
    cookie = await both.start(ADA, BROWSER, cookie)
    assert (await find(after, cookie)).identity == ADA
    await after.end_everywhere(await find(after, cookie))
    assert await find(both, cookie) is None


async def test_a_handle_of_one_session_opens_no_other(ours, make):
    """Whoever writes into the store leads a cookie to nobody else's session, and ends nobody's."""
    ada, grace = [await ours.start(*who, None) for who in ((ADA, BROWSER), (GRACE, ""))]
    names = [handle_of(cookie).name for cookie in (ada, grace)]
    if isinstance(ours._store, EmbeddedStore):
        query = "UPDATE handles SET reference = (SELECT reference FROM handles WHERE name = ?) WHERE name = ?"
        ours._store._db.execute(query, names)
    else:
        reference = await ours._store._redis.hget(f"azure_auth:handle:{names[0]}", "session")
        await ours._store._redis.hset(f"azure_auth:handle:{names[1]}", "session", reference)
    assert await make().find(grace) is None
    assert (await find(make(), ada)).identity == ADA


async def test_nothing_at_rest_opens_anything(ours, open_store, tmp_path, server):
    """Neither value nor data key nor id of a person lies in the store in clear, nor do plain hashes of them."""
    cookie = await ours.start(ADA, BROWSER, None, Arrival(bindings=[FLOW]))
    session = await find(ours, cookie)
    if isinstance(ours._store, EmbeddedStore):
        rest = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    else:
        keys = await ours._store._redis.keys("*")
        rest = b"".join([*keys, *[await ours._store._redis.dump(key) for key in keys]])
    plain = sha256(f"{ADA.tenant_id}\0{ADA.object_id}".encode()).hexdigest()
    assert session.reference.encode() in rest  # the control
    for secret in (cookie.encode(), session.keys.data_key, ADA.object_id.encode(), BROWSER.encode(), plain.encode()):
        assert secret not in rest


async def test_the_listener_survives_what_a_callback_raises(ours, theirs, monkeypatch, caplog):
    """One session whose end goes wrong here keeps nobody from hearing of the next one's."""
    monkeypatch.setattr("azure_auth.auth.sessions.active._CHECK_SECONDS", 0.05)
    first, second = [await find(ours, await ours.start(who, "", None)) for who in (ADA, GRACE)]
    heard: list[str] = []

    def on_end(session: Session) -> None:
        heard.append(session.identity.name)
        raise ValueError("a fault of whoever listens")

    ours.on_end.append(on_end)
    listening = asyncio.create_task(ours.listen())
    await ours._store.end([first.reference, second.reference], ours._until(), "signed_out")
    async with asyncio.timeout(5):
        while len(heard) < 2:
            await asyncio.sleep(0.01)
    assert not listening.done()
    listening.cancel()
    assert "background work failed" in caplog.text


async def test_a_session_at_work_is_not_ended_by_a_twin_that_nobody_has(ours, clock):
    """Where the answer with the second cookie was lost, the session whose cookie the browser has stays."""
    first = await find(ours, await ours.start(ADA, BROWSER, None))
    clock.now += 5
    await asyncio.sleep(0.01)
    await ours.start(ADA, BROWSER, None)
    clock.now += 25
    (timer,) = ours._twin_timers.values()
    timer._run()
    await tidied(ours)
    assert await ours.is_active(first)
    timer.cancel()


async def test_of_three_sessions_in_one_browser_the_presented_one_stays(ours, clock):
    """Two settlings, one after the other, keep the same one."""
    cookies = []
    for _ in range(3):
        clock.now += 1
        await asyncio.sleep(0.01)
        cookies.append(await ours.start(ADA, BROWSER, None))
    sessions = [await find(ours, cookie) for cookie in cookies]
    clock.now += 1
    await asyncio.sleep(0.01)
    assert await find(ours, cookies[0])
    for timer in list(ours._twin_timers.values()):
        timer._run()
        timer.cancel()
        await tidied(ours)
    assert [await ours.is_active(session) for session in sessions] == [True, False, False]


async def test_a_cancelled_sign_out_is_told_all_the_same(ours, trail):
    """Whoever waits for it may leave: the session ends, with its line in the trail."""
    session = await find(ours, await ours.start(ADA, BROWSER, None))
    store = ours._store.end

    async def slow(*asked, **known):
        gone = await store(*asked, **known)
        await asyncio.sleep(0.05)
        return gone

    ours._store.end = slow
    leaving = asyncio.create_task(ours.end(session, "signed_out"))
    await asyncio.sleep(0.02)
    leaving.cancel()
    async with asyncio.timeout(5):
        while not trail():
            await asyncio.sleep(0.01)
    assert [line["reason"] for line in trail()] == ["signed_out"]
    while ours._background.tasks:
        await asyncio.sleep(0.01)


async def test_the_listener_survives_a_retry_that_goes_wrong(ours, monkeypatch, caplog):
    """A sign-out that could not be written, and whose retry raises, keeps nobody from hearing of others."""
    monkeypatch.setattr("azure_auth.auth.sessions.active._CHECK_SECONDS", 0.02)
    tried: list[str] = []

    async def breaks(references, *_):
        tried.extend(references)
        raise ZeroDivisionError

    ours._store.end = breaks
    ours._unsaved["reference"] = "signed_out"
    listening = asyncio.create_task(ours.listen())
    async with asyncio.timeout(5):
        while len(tried) < 3:
            await asyncio.sleep(0.01)
    assert not listening.done()
    listening.cancel()
    assert "background work failed" in caplog.text


async def test_a_sign_out_at_microsoft_that_the_store_missed_is_told_later(ours, theirs, monkeypatch):
    """It is written when the store is back, and reaches the other process."""
    monkeypatch.setattr("azure_auth.auth.sessions.active._CHECK_SECONDS", 0.02)
    there = await find(theirs, await ours.start(ADA, BROWSER, None))
    end_all = ours._store.end_all

    async def fails(*_):
        raise StoreUnavailable("gone")

    ours._store.end_all = fails
    with pytest.raises(StoreUnavailable):
        await ours.end_by_directory(SID)
    ours._store.end_all = end_all
    assert await theirs.is_active(there)
    listening = asyncio.create_task(ours.listen())
    async with asyncio.timeout(5):
        while await theirs.is_active(there):
            await asyncio.sleep(0.01)
    listening.cancel()
    assert there.ended == "directory"


async def test_a_touch_that_failed_is_tried_again(ours, clock):
    """The next act is written, though the store had heard of none within the minute."""
    session = await find(ours, await ours.start(ADA, BROWSER, None))
    replace_ = ours._store.replace

    async def fails(*_):
        raise StoreUnavailable("gone")

    clock.now += 61
    ours._store.replace = fails
    with pytest.raises(StoreUnavailable):
        await ours.touch(session)
    ours._store.replace = replace_
    await ours.touch(session)
    assert session.version == 2


async def test_an_earlier_value_leaves_the_file_at_its_deadline(tmp_path, clock):
    """After it, no byte of the file or of SQLite's log leads from the old cookie to the session."""
    sessions = Sessions(EmbeddedStore(tmp_path / "sessions.sqlite", clock), SETTINGS, KEYS, clock)
    cookie = await sessions.start(ADA, BROWSER, None, Arrival(bindings=[FLOW]))
    session = await find(sessions, cookie)
    clock.now += 60
    await sessions.start(ADA, BROWSER, cookie)
    name = handle_of(cookie).name.encode()
    assert name in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    clock.now += GRACE_SECONDS
    await sessions._check_expiry(session.reference)
    await tidied(sessions)
    assert sessions._store._db.execute("SELECT 1 FROM handles WHERE name = ?", (name.decode(),)).fetchone() is None
    assert b"".join(file.read_bytes() for file in tmp_path.iterdir() if "wal" in file.name) == b""
    await sessions.end(session, "signed_out")
    assert sessions._store._joins == {}
    await sessions._store.close()
