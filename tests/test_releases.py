"""Records outlive releases: what an earlier or a later one wrote is read, kept, or asks for a new sign-in."""

import asyncio
import logging
import sqlite3
import time
from dataclasses import asdict, replace

import pytest
import redis
from conftest import KEYS, Clock
from redis_server import running_redis

from azure_auth.auth.identity import Identity
from azure_auth.auth.sessions import codec
from azure_auth.auth.sessions.flows import Flow, OneTime, Outcome
from azure_auth.auth.sessions.records import Arrival
from azure_auth.auth.sessions.sealing import Seal, hashed
from azure_auth.auth.sessions.session import Session
from azure_auth.auth.sessions.sessions import Sessions
from azure_auth.auth.sessions.store.contract import OneTimeEntry
from azure_auth.auth.sessions.store.redis import RedisStore
from azure_auth.auth.sessions.store.sqlite import EmbeddedStore
from azure_auth.errors import AuthError, FlowUnknown, Refused, SignedOutMeanwhile, SignInFailed
from azure_auth.settings import Settings

pytestmark = pytest.mark.anyio
TENANT = "11111111-1111-1111-1111-111111111111"
ADA = Identity(TENANT, "ada", "Ada Lovelace", "ada@contoso.example", "hint", "sid")
SETTINGS = Settings.load(
    {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": TENANT, "AZURE_CLIENT_SECRET": "s", "REFLEX_ENV_MODE": "prod"}
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture(params=["embedded", "Redis"])
async def store(request, tmp_path, clock):
    if request.param == "embedded":
        store = EmbeddedStore(tmp_path / "sessions.sqlite", clock)
    else:
        server = request.getfixturevalue("server")
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        store = RedisStore(server.url, KEYS)
    yield store
    await store.close()


@pytest.fixture
def make(store, clock):
    """A release of the app: a process that has no session open yet."""
    return lambda: Sessions(store, SETTINGS, KEYS, clock)


async def opened(sessions: Sessions, cookie: str) -> Session | None:
    held = await sessions.find(cookie)
    return held and held.session


async def written(sessions: Sessions, session: Session, record: dict[str, object]) -> None:
    """Let another release write a session's record; its indexes stay."""
    row = sessions._records.row(session, session.version + 1, session.record())
    sealed = session.seal(session.version + 1, {**record, "fingerprint": SETTINGS.fingerprint})
    assert await sessions._store.replace(replace(row, sealed=sealed), session.version)


async def contents(sessions: Sessions, session: Session) -> dict[str, object]:
    return codec.unpacked(session.keys.record.open((await sessions._store.read(session.reference)).sealed))


def warnings(caplog) -> list[logging.LogRecord]:
    """What the app said beside its audit trail."""
    ours = [line for line in caplog.records if line.name.startswith("azure_auth") and "audit" not in line.name]
    return [line for line in ours if line.levelno >= logging.WARNING]


async def test_a_later_releases_fields_are_passed_over_and_kept(make, clock):
    """Two releases side by side: the older one reads what it knows, and its touch loses nothing."""
    older, newer = make(), make()
    cookie = await older.start(ADA, "", None)
    here, there = await opened(older, cookie), await opened(newer, cookie)
    record = there.record()
    record |= {"identity": {**record["identity"], "roles": ["Admin"]}, "device": {"kind": "phone"}}
    await written(newer, there, record)
    assert await older.is_active(here)
    assert here.identity == ADA
    clock.now += 61
    await older.touch(here)
    assert await newer.is_active(there)
    kept = await contents(older, here)
    assert (kept["identity"]["roles"], kept["device"], kept["seen"]) == (["Admin"], {"kind": "phone"}, clock.now)
    assert (await opened(make(), cookie)).identity == ADA


async def test_a_new_identity_replaces_the_old_one_with_all_of_it(make, clock):
    """A sign-in at the older release leaves nothing of what the newer one knew of the person: a role may be gone."""
    older, newer = make(), make()
    cookie = await newer.start(ADA, "", None)
    session = await opened(newer, cookie)
    record = session.record()
    await written(newer, session, {**record, "identity": {**record["identity"], "roles": ["Admin"]}})
    clock.now += 60
    await older.start(ADA, "", cookie)
    assert await newer.is_active(session)
    assert (await contents(newer, session))["identity"] == asdict(ADA)


async def test_an_earlier_releases_record_is_read(make):
    """What is missing has its default, which grants least."""
    sessions = make()
    cookie = await sessions.start(replace(ADA, sid="", logout_hint=""), "", None)
    session = await opened(sessions, cookie)
    record = session.record()
    for name in ("asked", "browser", "rotated"):
        del record[name]
    record["identity"] = {name: record["identity"][name] for name in ("tenant_id", "object_id", "name", "username")}
    await written(sessions, session, record)
    read = await opened(make(), cookie)
    assert read.identity == replace(ADA, sid="", logout_hint="")
    assert (read.asked, read.browser) == (0.0, "")


async def test_an_earlier_releases_session_goes_on(make, clock):
    """Its person works on and signs in again in this release, as if it had written the record itself."""
    earlier, now = make(), make()
    cookie = await earlier.start(replace(ADA, sid="", logout_hint=""), "", None)
    session = await opened(earlier, cookie)
    record = session.record()
    for name in ("asked", "browser", "rotated"):
        del record[name]
    record["identity"] = {name: record["identity"][name] for name in ("tenant_id", "object_id")}
    await written(earlier, session, record)
    here = await opened(now, cookie)
    assert here.identity == Identity(TENANT, "ada")
    clock.now += 61
    await now.touch(here)
    assert (await contents(now, here))["seen"] == clock.now
    renewed = await now.start(ADA, KEYS.new_name(), cookie)
    assert await opened(now, renewed) is here
    assert here.identity == ADA
    assert here.browser


async def test_two_releases_work_side_by_side(make, clock):
    """Whatever either writes in turn or at once, the other goes on with it; neither ends the session."""
    older, newer = make(), make()
    cookie = await older.start(ADA, "", None)
    here, there = await opened(older, cookie), await opened(newer, cookie)
    for day in range(5):
        assert await newer.is_active(there)
        record = there.record()
        record |= {"identity": {**record["identity"], "roles": [f"role {day}"]}, f"field of day {day}": day}
        await written(newer, there, record)
        clock.now += 61
        await asyncio.gather(older.touch(here), newer.touch(there))
        assert await older.is_active(here)
        assert await newer.is_active(there)
        assert (here.identity, there.identity) == (ADA, ADA)
    kept = await contents(older, here)
    assert kept["identity"]["roles"] == ["role 4"]
    assert [kept[f"field of day {day}"] for day in range(5)] == [0, 1, 2, 3, 4]
    clock.now += 61
    cookie = await older.start(ADA, "", cookie)
    assert await newer.is_active(there)
    assert await opened(newer, cookie) is there
    assert here.ended is there.ended is None


@pytest.mark.parametrize("fault", ["no JSON", "no text", "another format", "no format", "no tenant", "a tenant of 7"])
async def test_a_record_that_cannot_be_read_is_no_session(make, caplog, fault):
    """Its cookie finds nobody, with one line in the log however often it comes; its person signs in anew."""
    sessions = make()
    cookie = await sessions.start(ADA, "", None)
    session = await opened(sessions, cookie)
    record = {**session.record(), "version": session.version + 1, "fingerprint": SETTINGS.fingerprint}
    without = {name: value for name, value in record["identity"].items() if name != "tenant_id"}
    plain = {
        "no JSON": b'{"v": 1, "identity": {',
        "no text": b"\xff\x00",
        "another format": codec.packed(record).replace(b'"v": 1', b'"v": 2'),
        "no format": codec.packed(record).replace(b'"v": 1', b'"w": 1'),
        "no tenant": codec.packed({**record, "identity": without}),
        "a tenant of 7": codec.packed({**record, "identity": {**without, "tenant_id": 7}}),
    }[fault]
    row = sessions._records.row(session, session.version + 1, session.record())
    assert await sessions._store.replace(replace(row, sealed=session.keys.record.seal(plain)), session.version)
    caplog.set_level(logging.DEBUG)
    now = make()
    assert [await now.find(cookie), await now.find(cookie), await make().find(cookie)] == [None, None, None]
    (line,) = warnings(caplog)
    assert line.exc_info is None
    assert "another release" in line.getMessage()
    assert "Traceback" not in caplog.text
    assert ADA.name not in caplog.text
    assert (await opened(now, await now.start(ADA, "", cookie))).identity == ADA


@pytest.mark.parametrize("fault", ["format", "no person", "no handles", "wrong types", "no record"])
async def test_what_cannot_be_read_asks_for_a_new_sign_in(make, caplog, fault):
    """One line in the log, no traceback, and the next sign-in works; also where the session is open already."""
    sessions, other = make(), make()
    cookie = await sessions.start(ADA, "", None)
    session, there = await opened(sessions, cookie), await opened(other, cookie)
    record = session.record()
    if fault == "no person":
        record["identity"] = {**record["identity"], "object_id": 7}
    elif fault == "no handles":
        del record["handles"]
    elif fault == "wrong types":
        record["started"] = ["x"]
    version, row = session.version + 1, sessions._records.row(session, session.version + 1, session.record())
    plain = {"format": b'{"v": 99}', "no record": b"[]"}.get(fault) or codec.packed(
        {**record, "version": version, "fingerprint": SETTINGS.fingerprint}
    )
    assert await sessions._store.replace(replace(row, sealed=session.keys.record.seal(plain)), session.version)
    caplog.set_level(logging.WARNING)
    assert not await other.is_active(there)
    assert there.ended == "refused"
    assert await make().find(cookie) is None
    lines = [record for record in caplog.records if record.name.startswith("azure_auth") and "audit" not in record.name]
    assert len(lines) == 1
    assert lines[0].exc_info is None
    assert await opened(make(), await make().start(ADA, "", cookie))


async def test_flows_and_tickets_of_other_releases(store):
    """Fields of a later one are passed over, an earlier one's are enough, and what cannot be read is no flow."""
    flows = OneTime(store, "flow", 600, Flow.unpacked)
    tickets = OneTime(store, "ticket", 30, Outcome.unpacked)

    async def put(kind: str, secret: str, plain: bytes) -> None:
        seal = Seal.of(kind, secret)
        await store.put(kind, seal.name, OneTimeEntry(hashed("owner"), "", seal.seal(plain)), 30)

    await put("flow", "later", codec.packed({**Flow({"state": "s"}, "/").packed(), "acr": "c1"}))
    await put("flow", "earlier", codec.packed({"msal": {}, "return_to": "/"}))
    assert (await flows.consume("later", "owner")).msal == {"state": "s"}
    assert (await flows.consume("earlier", "owner")).browser == ""
    outcome = Outcome("/", ADA, asked=1.0, begun=2.0).packed()
    await put("ticket", "later", codec.packed({**outcome, "identity": {**outcome["identity"], "roles": []}}))
    await put("ticket", "earlier", codec.packed({"return_to": "/", "identity": outcome["identity"]}))
    assert (await tickets.consume("later", "owner")).identity == ADA
    assert (await tickets.consume("earlier", "owner")).begun == 0.0  # any sign-out since stops it
    for plain in (b"no JSON", b"{}", b'{"v": 99, "msal": {}, "return_to": "/"}', codec.packed({"return_to": "/"})):
        await put("flow", "unreadable", plain)
        with pytest.raises(FlowUnknown):
            await flows.consume("unreadable", "owner")


@pytest.mark.parametrize(
    "plain",
    [
        b"no JSON",
        b"\xff",
        b"[]",
        codec.packed({"msal": {}, "return_to": "/"}).replace(b'"v": 1', b'"v": 2'),
        codec.packed({"return_to": "/"}),
        codec.packed({"msal": {}}),
    ],
)
async def test_a_flow_that_cannot_be_read_is_none(store, caplog, plain):
    """It asks for a new sign-in with one line in the log, and never raises anything else."""
    flows = OneTime(store, "flow", 600, Flow.unpacked)
    seal = Seal.of("flow", "secret")
    await store.put("flow", seal.name, OneTimeEntry(hashed("owner"), "", seal.seal(plain)), 30)
    with pytest.raises(FlowUnknown):
        await flows.consume("secret", "owner")
    (line,) = warnings(caplog)
    assert line.exc_info is None


async def test_a_ticket_without_the_time_of_its_start_is_good_until_a_sign_out(make):
    """One of an earlier release starts a session; any sign-out that is remembered stops it."""
    sessions, name = make(), KEYS.new_name()
    cookie = await sessions.start(ADA, name, None, Arrival(begun=0.0, begun_in=name))
    session = await opened(sessions, cookie)
    assert session
    await sessions.end(session, "signed_out")
    with pytest.raises(SignedOutMeanwhile):
        await sessions.start(ADA, name, None, Arrival(begun=0.0, begun_in=name))


def test_failures_of_other_releases():
    """A code that is not known is told as a failure of ours; what is missing is made up for, the reference included."""
    packed = Refused("oauth_error=access_denied AADSTS50105", code="not_assigned").packed()
    known = AuthError.unpacked({**packed, "later": 1})
    assert (type(known), known.code, known.detail) == (Refused, "not_assigned", packed["detail"])
    assert AuthError.unpacked(packed).reference == packed["reference"]
    unknown = AuthError.unpacked({**packed, "code": "of_a_later_release"})
    assert (type(unknown), unknown.reference) == (SignInFailed, packed["reference"])
    bare = AuthError.unpacked({})
    assert type(bare) is SignInFailed
    assert len(bare.reference) == 10
    assert bare.shown("", "")["message"]
    assert bare.reference != AuthError.unpacked({}).reference
    for name, worst in (("code", 7), ("reference", None), ("message", ["x"]), ("detail", {})):
        odd = AuthError.unpacked({**packed, name: worst})
        assert all(type(value) is str for value in odd.shown("", "").values())
        assert str(odd)


@pytest.mark.parametrize("version", [0, 99])
async def test_a_database_of_another_schema_begins_anew(tmp_path, caplog, version):
    """Its tables go, with one line in the log; the next start of the app finds its own."""
    path = tmp_path / "sessions.sqlite"
    file = sqlite3.connect(path)
    file.execute("CREATE TABLE sessions (reference TEXT PRIMARY KEY, version INTEGER, sealed BLOB)")
    file.execute("CREATE TABLE later (name TEXT)")
    file.execute("INSERT INTO sessions VALUES ('old', 1, x'00')")
    file.execute(f"PRAGMA user_version = {version}")
    file.commit()
    file.close()
    for lines in (1, 1):
        sessions = Sessions(EmbeddedStore(path), SETTINGS, KEYS)
        assert await opened(sessions, await sessions.start(ADA, "", None))
        await sessions._store.close()
        assert len([record for record in caplog.records if "schema" in record.getMessage()]) == lines
    file = sqlite3.connect(path)
    assert file.execute("SELECT count(*) FROM sessions").fetchone() == (2,)
    file.close()


THE_EARLIER_SCHEMA = """
CREATE TABLE sessions (
    reference TEXT PRIMARY KEY, version INTEGER NOT NULL, ends REAL NOT NULL,
    person TEXT NOT NULL, sid TEXT NOT NULL, browser TEXT NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_person ON sessions (person);
CREATE INDEX by_sid ON sessions (sid);
CREATE INDEX by_browser ON sessions (browser);
CREATE INDEX by_end ON sessions (ends);
CREATE TABLE ended (reference TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
INSERT INTO sessions VALUES ('old', 1, 9e9, 'p', '', 'b', x'00');
INSERT INTO ended VALUES ('older', 9e9);
"""
"""What the app wrote before its schema had a version."""


@pytest.mark.parametrize("version", [0, 99])
async def test_the_schema_of_before_the_versions_begins_anew(tmp_path, caplog, version):
    """One line in the log, and then an empty database in which people sign in and out."""
    path = tmp_path / "sessions.sqlite"
    file = sqlite3.connect(path)
    file.execute("PRAGMA journal_mode = WAL")
    file.executescript(f"{THE_EARLIER_SCHEMA} PRAGMA user_version = {version};")
    file.close()
    store = EmbeddedStore(path)
    assert [await store.read(name) for name in ("old", "older")] == ["", ""]
    (line,) = warnings(caplog)
    assert str(version) in line.getMessage()
    counts = [store._db.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("sessions", "handles", "ended")]
    assert counts == [(0,), (0,), (0,)]
    sessions = Sessions(store, SETTINGS, KEYS)
    cookie = await sessions.start(ADA, KEYS.new_name(), None)
    await sessions.end(await opened(sessions, cookie), "signed_out")
    assert await sessions.find(cookie) is None
    assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(warnings(caplog)) == 1
    await store.close()


async def test_a_new_database_says_nothing(tmp_path, caplog):
    """The first start of all has no other release's tables to speak of."""
    store = EmbeddedStore(tmp_path / "sessions.sqlite")
    assert await store.read("none") == ""
    assert warnings(caplog) == []
    await store.close()
