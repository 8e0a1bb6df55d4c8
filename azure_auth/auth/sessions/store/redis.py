"""The store for several workers: Redis, which Reflex uses for its own states as well.

Each step that must be atomic is a Lua script in `lua/`. Records expire by themselves, so nothing ever scans the keys.
The module is above 200 lines because it has one short method for each method of the contract.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal, cast, final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from typing_extensions import override

from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.store import contract
from azure_auth.auth.sessions.store.contract import Changed, Checks, Found, Gone, Mark, Record, Store, TabWanted
from azure_auth.bounds import SESSION_STATES
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, SignedOutMeanwhile, StoreUnavailable, TooManyRequests

# pyright: reportUnknownMemberType=false

_SECONDS = 2.0
"""The timeout of a call, after which the store is unavailable."""
_RECONNECT_SECONDS = 1.0
_CHANNEL = "azure_auth:ended"
_TAB_WANTED = "asked"
"""The `why` of a message about a tab; that of others says nothing any more."""


@final
class RedisStore(Store):
    """Redis, connected on first use."""

    def __init__(self, url: str, keys: ServerKeys) -> None:
        """Keep records in the Redis at `url`; `keys`, which all processes share, authenticate messages."""
        self._keys = keys
        self._listener: Redis = Redis.from_url(url, socket_connect_timeout=_SECONDS, health_check_interval=10)
        self._redis: Redis = Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        texts = {file.stem: file.read_text() for file in (Path(__file__).parent / "lua").glob("*.lua")}
        constants = {
            "CONSUMED_LASTS": _milliseconds(contract.CONSUMED_SECONDS),
            "GRACE_LASTS": _milliseconds(contract.GRACE_SECONDS),
            "LARGEST_SHARE": contract.LARGEST_SHARE,
            "MARK_LASTS": _milliseconds(contract.MARK_SECONDS),
            "MAX_ENTRIES": contract.MAX_ENTRIES,
            "MAX_MARKS": contract.MAX_MARKS,
            "SESSION_STATES": SESSION_STATES,
        }
        common = "".join(f"local {name} = {value}\n" for name, value in constants.items()) + texts.pop("functions")
        self._scripts = {name: self._redis.register_script(common + text) for name, text in texts.items()}

    @override
    async def start(self, start: contract.Start) -> contract.Started:
        name, sealed, follow = start.join or ("", b"", ())
        others = {"persons": start.persons, "browsers": start.browsers, "others": start.others, "follow": follow}
        given = json.dumps({**others, "checks": _checks(start.checks)})
        outcome, *rest = await self._run("start", *_row(start.record), *start.handle, name, sealed, given)
        _raise_if_rejected(outcome)
        if outcome == b"joined":
            return contract.Started(joined=(rest[0].decode(), rest[1]))
        return contract.Started(_gone(rest[0]), [twin.decode() for twin in rest[1]])

    @override
    async def find(self, name: str, *, presented: bool = True) -> Found | None:
        found = await self._run("find", name, int(presented))
        return Found(found[0], found[1], _record(found[2:])) if found else None

    @override
    async def read(self, reference: str) -> Record | str:
        why, *found = await self._run("read", reference, "ends", "person", "sid", "browser", "sealed")
        return _record([reference.encode(), *found]) if found else why.decode()

    @override
    async def version(self, reference: str) -> int | str:
        why, *version = await self._run("read", reference)
        return int(version[0]) if version else why.decode()

    @override
    async def replace(self, record: Record, version: int) -> bool:
        return bool(await self._run("replace", record.reference, record.version, record.sealed, version))

    @override
    async def renew(self, record: Record, version: int, successor: contract.Successor | None, checks: Checks) -> bool:
        handle, *rest = successor or (("", b""), "", b"")
        outcome = await self._run("renew", *_row(record), version, *handle, *rest, json.dumps(_checks(checks)))
        _raise_if_rejected(outcome)
        return outcome == b"done"

    @override
    async def end(self, references: Sequence[str], until: float, why: str, marks: Sequence[Mark] = ()) -> list[Gone]:
        return _gone(await self._run("end", _milliseconds(until), why, json.dumps(references), json.dumps(marks)))

    @override
    async def end_all(self, of: Literal["person", "sid"], values: Sequence[str], until: float, why: str) -> list[Gone]:
        return _gone(await self._run("end_all", _milliseconds(until), why, of, json.dumps(values)))

    @override
    async def end_twins(self, references: Sequence[str], until: float, why: str) -> list[Gone]:
        return _gone(await self._run("end_twins", _milliseconds(until), why, json.dumps(references)))

    @override
    async def sweep(self) -> None:
        pass  # Redis deletes them

    @override
    async def note_tab(self, reference: str, key: str, until: float) -> list[str]:
        return [over.decode() for over in await self._run("note_tab", reference, key, _milliseconds(until))]

    @override
    async def tabs(self, reference: str) -> set[str]:
        return {key.decode() for key in await self._run("tabs", reference)}

    @override
    async def put(self, kind: str, name: str, entry: contract.OneTimeEntry, seconds: float) -> None:
        if await self._run("put", kind, name, *entry, _milliseconds(seconds)) == b"full":
            raise TooManyRequests("the store is full")

    @override
    async def consume(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        return await self._entry(kind, name, owner, consume=True)

    @override
    async def peek(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        return await self._entry(kind, name, owner, consume=False)

    async def _entry(self, kind: str, name: str, owner: str, *, consume: bool) -> tuple[bytes, float]:
        outcome, *found = await self._run("consume", kind, name, owner, int(consume))
        if outcome == b"foreign":
            raise FlowForeign("the cookie of another flow")
        if outcome == b"unknown":
            raise FlowUnknown("nothing waits under it")
        _raise_if_rejected(outcome)
        return found[0], int(found[1]) / 1000

    @override
    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        counts = (word for count in most.items() for word in count)
        full = await self._run("admit", _milliseconds(seconds), secrets.token_hex(8), *counts)
        return full.decode() if full else None

    @override
    async def forget(self, name: str) -> None:
        with _translated():
            await self._redis.delete(f"azure_auth:limit:{name}")

    @override
    async def send(self, message: Changed | TabWanted) -> None:
        names, why = (message.references, "") if isinstance(message, Changed) else (message, _TAB_WANTED)
        text = json.dumps({"v": 1, "ended": list(names), "why": why}).encode()
        with suppress(StoreUnavailable), _translated():  # a lost message delays what the next check finds out
            await self._redis.publish(_CHANNEL, self._keys.proof(text) + b" " + text)

    @override
    async def receive(self) -> AsyncIterator[Changed | TabWanted]:
        while True:
            with suppress(RedisError, OSError):
                async with self._listener.pubsub() as channel:
                    await channel.subscribe(_CHANNEL)
                    yield Changed()  # earlier messages were missed
                    async for data in cast("AsyncIterator[dict[str, object]]", channel.listen()):
                        if message := self._message(data["data"]):
                            yield message
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _message(self, data: object) -> Changed | TabWanted | None:
        """Return a message; None if it is not from one of our processes, or not in a format that we write."""
        proof, _, text = data.partition(b" ") if isinstance(data, bytes) else (b"", b"", b"")
        if not self._keys.proves(proof, text):
            return None
        try:
            match json.loads(text):
                case {"v": 1, "ended": [tab_key, asking], "why": why} if why == _TAB_WANTED:
                    return TabWanted(str(tab_key), str(asking))
                case {"v": 1, "ended": [*references], "why": str(why)} if why != _TAB_WANTED:
                    return Changed([str(reference) for reference in references])
                case _:
                    return None
        except ValueError:
            return None

    @override
    async def close(self) -> None:
        await self._redis.aclose()
        await self._listener.aclose()

    async def _run(self, name: str, *arguments: str | bytes | int) -> Any:
        with _translated():
            return cast("Any", await self._scripts[name](args=arguments))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _row(record: Record) -> tuple[str | bytes | int, ...]:
    reference, version, ends, *hashes, sealed = astuple(record)
    return reference, version, _milliseconds(ends), *hashes, sealed


def _record(row: Sequence[bytes]) -> Record:
    reference, version, ends, *hashes, sealed = (value or b"" for value in row)
    person, sid, browser = (value.decode() for value in hashes)
    return Record(reference.decode(), int(version), int(ends) / 1000, person, sid, browser, sealed)


def _gone(found: Sequence[bytes]) -> list[Gone]:
    pairs = zip(found[::2], found[1::2], strict=True)
    return [Gone(reference.decode(), person.decode()) for reference, person in pairs]


def _checks(checks: Checks) -> dict[str, object]:
    return {**checks._asdict(), "begun": _milliseconds(checks.begun)}


def _raise_if_rejected(outcome: bytes) -> None:
    if outcome == b"taken":
        raise FlowTaken("just now")
    if outcome == b"late":
        raise SignedOutMeanwhile()


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (RedisError, OSError, AttributeError) as why:
        if isinstance(why, AttributeError) and why.name != "writelines":
            raise  # redis-py raises that one when its connection is closed during a command
        raise StoreUnavailable(type(why).__name__) from why
