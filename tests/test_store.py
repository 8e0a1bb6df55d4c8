"""What every store can do; one suite for all of them."""

import sqlite3
from dataclasses import replace

import pytest

from azure_auth.auth.store import EmbeddedStore, Record
from azure_auth.errors import StoreUnavailable

pytestmark = pytest.mark.anyio


def record(name: str, *, person: str = "p", browser: str = "", ends: float = 1000.0) -> Record:
    return Record(name, 1, ends, person, f"sid of {person}", browser or f"browser of {name}", b"sealed")


@pytest.fixture
async def store(tmp_path):
    store = EmbeddedStore(tmp_path / "folder/sessions.sqlite")
    yield store
    await store.close()


async def test_what_was_put_is_there(store):
    """A record comes back as it was; one that never was does not."""
    assert await store.start(record("a"), None, 0) == []
    assert await store.read("a") == record("a")
    assert await store.version("a") == 1
    assert await store.read("b") is None
    assert await store.version("b") is None


async def test_a_start_ends_what_it_replaces_and_its_browsers_others(store):
    """The old cookie's record, and all of the same browser, end in the same step; others stay."""
    await store.start(record("old"), None, 0)
    await store.start(record("twin", browser="mine"), None, 0)
    await store.start(record("other"), None, 0)
    assert set(await store.start(record("new", browser="mine"), "old", 0)) == {"old", "twin"}
    assert [bool(await store.read(name)) for name in ("old", "twin", "other", "new")] == [False, False, True, True]


async def test_a_write_compares(store):
    """The second of two writers with one version loses, and nothing of it is kept."""
    await store.start(record("a"), None, 0)
    first, second = replace(record("a"), version=2, sealed=b"1"), replace(record("a"), version=2, sealed=b"2")
    assert await store.replace(first, 1)
    assert not await store.replace(second, 1)
    assert (await store.read("a")).sealed == b"1"


async def test_what_has_ended_stays_ended(store, tmp_path):
    """A late write revives nothing, and neither does a row that somebody puts back."""
    await store.start(record("a"), None, 0)
    with sqlite3.connect(tmp_path / "folder/sessions.sqlite") as thief:
        rows = thief.execute("SELECT * FROM sessions").fetchall()
    assert await store.end("a", 1000)
    assert not await store.end("a", 1000)
    assert not await store.replace(replace(record("a"), version=2), 1)
    with sqlite3.connect(tmp_path / "folder/sessions.sqlite") as thief:
        thief.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    thief.close()
    assert await store.read("a") is None
    assert await store.version("a") is None
    assert not await store.replace(replace(record("a"), version=2), 1)


@pytest.mark.parametrize(("of", "value"), [("person", "ada"), ("sid", "sid of ada")])
async def test_all_of_one_kind_end(store, of, value):
    """All records of one person, or of one of Entra's sessions, end, and nobody else's."""
    for name, person in (("a", "ada"), ("b", "ada"), ("c", "grace")):
        await store.start(record(name, person=person), None, 0)
    assert set(await store.end_all(of, value, 1000)) == {"a", "b"}
    assert [bool(await store.read(name)) for name in "abc"] == [False, False, True]


async def test_what_is_over_is_swept(store, tmp_path):
    """Records and the memory of ended ones go when their time is over, so the store does not grow for ever."""
    for number in range(20):
        await store.start(record(str(number), ends=10), None, 0)
    await store.end("0", 10)
    await store.start(record("new"), None, 11)
    with sqlite3.connect(tmp_path / "folder/sessions.sqlite") as file:
        assert file.execute("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM ended)").fetchone() == (1, 0)
    file.close()


async def test_it_survives_a_restart(store, tmp_path):
    """Another process finds what was written, and what has ended."""
    await store.start(record("a"), None, 0)
    await store.start(record("b"), None, 0)
    await store.end("b", 1000)
    again = EmbeddedStore(tmp_path / "folder/sessions.sqlite")
    assert await again.read("a")
    assert await again.read("b") is None
    await again.close()


async def test_it_is_its_owners_alone(store, tmp_path):
    """Neither folder nor file can be read by other accounts of the machine."""
    await store.start(record("a"), None, 0)
    assert (tmp_path / "folder").stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "folder").iterdir())


async def test_a_store_that_cannot_be_asked_says_so(tmp_path):
    """A corrupt file is an error of ours, not of SQLite's."""
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 1000)
    store = EmbeddedStore(tmp_path / "broken.sqlite")
    with pytest.raises(StoreUnavailable):
        await store.read("a")
    with pytest.raises(StoreUnavailable):
        await store.start(record("a"), None, 0)
