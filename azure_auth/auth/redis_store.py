"""Where sessions lie when there are several workers: Redis, which Reflex uses for its own states as well.

What two workers could do at once is one script, which Redis runs without interruption. Everything ends by itself when
its time is over, so nothing is ever searched for.
"""

import asyncio
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from azure_auth.auth.store import MOST_ONCE, TAKEN_SECONDS, Once, Record
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, StoreUnavailable

# pyright: reportUnknownMemberType=false

_SECONDS = 2.0
"""The longest wait for an answer; longer means that the store cannot be asked."""
_CHANNEL = "azure_auth:ended"
_FUNCTIONS = """
local function key(kind, name) return 'azure_auth:' .. kind .. ':' .. name end
local function finish(gone, reference, until_)
    local session = key('session', reference)
    local was = redis.call('HMGET', session, 'person', 'sid', 'browser')
    if not was[1] then return end
    redis.call('DEL', session)
    redis.call('SREM', key('person', was[1]), reference)
    redis.call('SREM', key('sid', was[2]), reference)
    redis.call('SREM', key('browser', was[3]), reference)
    redis.call('SET', key('ended', reference), '', 'PXAT', until_)
    table.insert(gone, reference)
end
local function stands(reference)
    return redis.call('EXISTS', key('ended', reference)) == 0
end
local function clock() -- in milliseconds; not the caller's, for half a minute is all that a ticket has
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""
_START = """
local reference, version, ends, person, sid, browser, sealed, replacing = unpack(ARGV)
local gone = {}
finish(gone, replacing, ends)
for _, twin in ipairs(redis.call('SMEMBERS', key('browser', browser))) do finish(gone, twin, ends) end
local session = key('session', reference)
redis.call('HSET', session, 'version', version, 'ends', ends, 'person', person, 'sid', sid, 'browser', browser,
    'sealed', sealed)
redis.call('PEXPIREAT', session, ends)
for kind, name in pairs({person = person, sid = sid, browser = browser}) do
    for _, other in ipairs(redis.call('SRANDMEMBER', key(kind, name), 10)) do -- more go than come, and nobody waits
        if redis.call('EXISTS', key('session', other)) == 0 then redis.call('SREM', key(kind, name), other) end
    end
    redis.call('SADD', key(kind, name), reference)
    redis.call('PEXPIREAT', key(kind, name), ends)
end
return gone
"""
_READ = """
if not stands(ARGV[1]) then return false end
return redis.call('HMGET', key('session', ARGV[1]), 'version', 'ends', 'person', 'sid', 'browser', 'sealed')
"""
_VERSION = """
if not stands(ARGV[1]) then return false end
return redis.call('HGET', key('session', ARGV[1]), 'version')
"""
_REPLACE = """
local reference, version, sealed, before = unpack(ARGV)
local session = key('session', reference)
if not stands(reference) or redis.call('HGET', session, 'version') ~= before then return 0 end
redis.call('HSET', session, 'version', version, 'sealed', sealed)
return 1
"""
_END = """
local gone = {}
finish(gone, ARGV[1], ARGV[2])
return gone
"""
_ONCE = """
local function drop(kind, name, address)
    local at = key(kind .. ':at', address)
    redis.call('DEL', key(kind, name))
    redis.call('ZREM', key(kind, 'all'), name .. '|' .. address)
    redis.call('ZREM', at, name)
    local left = redis.call('ZCARD', at)
    if left == 0 then redis.call('ZREM', key(kind, 'addresses'), address)
    else redis.call('ZADD', key(kind, 'addresses'), left, address) end
end
"""
_PUT = (
    _ONCE
    + """
local kind, name, owner, address, sealed, lasts, most = unpack(ARGV)
local now = clock()
local ends, all = now + lasts, key(kind, 'all')
for _, over in ipairs(redis.call('ZRANGEBYSCORE', all, '-inf', now, 'LIMIT', 0, 100)) do
    drop(kind, over:match('^(.-)|(.*)$'))
end
if redis.call('ZCARD', all) >= tonumber(most) then
    local heaviest = redis.call('ZREVRANGE', key(kind, 'addresses'), 0, 0)[1]
    drop(kind, redis.call('ZRANGE', key(kind .. ':at', heaviest), 0, 0)[1], heaviest)
end
redis.call('HSET', key(kind, name), 'owner', owner, 'address', address, 'sealed', sealed)
redis.call('PEXPIREAT', key(kind, name), ends)
redis.call('ZADD', all, ends, name .. '|' .. address)
redis.call('ZADD', key(kind .. ':at', address), ends, name)
redis.call('ZADD', key(kind, 'addresses'), redis.call('ZCARD', key(kind .. ':at', address)), address)
"""
)
_TAKE = (
    _ONCE
    + """
local kind, name, owner, milliseconds = unpack(ARGV)
local was = redis.call('HMGET', key(kind, name), 'owner', 'address', 'sealed')
local taker = redis.call('GET', key(kind .. ':taken', name))
if (was[1] or taker or owner) ~= owner then return {'foreign'} end
if not was[1] then return {taker and 'taken' or 'unknown'} end
if milliseconds == '0' then return {'there', was[3]} end
redis.call('SET', key(kind .. ':taken', name), owner, 'PX', milliseconds)
drop(kind, name, was[2])
return {'there', was[3]}
"""
)
_ADMIT = """
local lasts, mark = unpack(ARGV)
local now = clock()
for i = 3, #ARGV, 2 do
    local times = key('limit', ARGV[i])
    redis.call('ZREMRANGEBYSCORE', times, '-inf', now - lasts)
    if redis.call('ZCARD', times) >= tonumber(ARGV[i + 1]) then return ARGV[i] end
    redis.call('ZADD', times, now, mark)
    redis.call('PEXPIREAT', times, now + lasts)
end
return false
"""
_NOTE = """
redis.call('SADD', key('tabs', ARGV[1]), ARGV[2])
redis.call('PEXPIREAT', key('tabs', ARGV[1]), ARGV[3])
"""
_TABS = """
local found = redis.call('SMEMBERS', key('tabs', ARGV[1]))
redis.call('DEL', key('tabs', ARGV[1]))
return found
"""
_END_ALL = """
local gone = {}
for _, reference in ipairs(redis.call('SMEMBERS', key(ARGV[1], ARGV[2]))) do finish(gone, reference, ARGV[3]) end
return gone
"""


class RedisStore:
    """Redis, for many workers; connected on first use."""

    def __init__(self, url: str, secret: bytes) -> None:
        """Keep records in the Redis at `url`; by the common `secret` processes know each other's messages."""
        self._secret = secret
        self._listener: Redis = Redis.from_url(url, socket_connect_timeout=_SECONDS, health_check_interval=10)
        self._redis: Redis = Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        texts = {
            "start": _START,
            "read": _READ,
            "version": _VERSION,
            "replace": _REPLACE,
            "end": _END,
            "all": _END_ALL,
            "note": _NOTE,
            "tabs": _TABS,
            "put": _PUT,
            "take": _TAKE,
            "admit": _ADMIT,
        }
        self._scripts = {name: self._redis.register_script(_FUNCTIONS + text) for name, text in texts.items()}

    async def start(self, record: Record, replacing: str | None, now: float) -> list[str]:  # noqa: ARG002
        """Add a record; end the one it replaces and those of its browser."""
        return await self._names(
            "start",
            record.reference,
            record.version,
            _milliseconds(record.ends),
            record.person,
            record.sid,
            record.browser,
            record.sealed,
            replacing or "",
        )

    async def read(self, reference: str) -> Record | None:
        """Return a record that has not ended."""
        found = cast("list[bytes | None] | None", await self._run("read", reference))
        if not found or found[0] is None:
            return None
        version, ends, person, sid, browser, sealed = (value or b"" for value in found)
        return Record(
            reference, int(version), int(ends) / 1000, person.decode(), sid.decode(), browser.decode(), sealed
        )

    async def version(self, reference: str) -> int | None:
        """Return the version of a record that has not ended; one round trip."""
        found = await self._run("version", reference)
        return int(found) if found else None

    async def replace(self, record: Record, version: int) -> bool:
        """Write a record if its `version` is still there."""
        return bool(await self._run("replace", record.reference, record.version, record.sealed, version))

    async def end(self, reference: str, until: float) -> bool:
        """End one record."""
        return bool(await self._names("end", reference, _milliseconds(until)))

    async def end_all(self, of: Literal["person", "sid"], value: str, until: float) -> list[str]:
        """End all records with a hash in one of the indexes."""
        return await self._names("all", of, value, _milliseconds(until))

    async def note_tab(self, reference: str, key: str, until: float) -> None:
        """Remember a tab, as long as its session may last."""
        await self._run("note", reference, key, _milliseconds(until))

    async def tabs(self, reference: str) -> set[str]:
        """Return a session's tabs on all workers."""
        return set(await self._names("tabs", reference))

    async def announce(self, references: Sequence[str], why: str) -> None:
        """Publish it, with a proof that it comes from one of us."""
        text = json.dumps({"v": 1, "ended": list(references), "why": why}).encode()
        with suppress(StoreUnavailable), _translated():  # lost, it is found out by whoever looks next
            await self._redis.publish(_CHANNEL, self._proof(text) + b" " + text)

    async def announced(self) -> AsyncIterator[tuple[list[str], str]]:
        """Hear what is published; connects anew for ever, and what is not ours is passed over."""
        while True:
            with suppress(RedisError, OSError):
                async with self._listener.pubsub() as channel:
                    await channel.subscribe(_CHANNEL)
                    yield [], ""  # whoever listens has missed what came before
                    async for message in cast("AsyncIterator[dict[str, object]]", channel.listen()):
                        if said := self._heard(message["data"]):
                            yield said
            await asyncio.sleep(1)

    def _heard(self, data: object) -> tuple[list[str], str] | None:
        """Return what a message says; None when it is not from one of us, or not in a form that we write."""
        proof, _, text = data.partition(b" ") if isinstance(data, bytes) else (b"", b"", b"")
        if not hmac.compare_digest(proof, self._proof(text)):
            return None
        try:
            match json.loads(text):
                case {"v": 1, "ended": [*references], "why": str(why)}:
                    return [str(reference) for reference in references], why
                case _:
                    return None
        except ValueError:
            return None

    def _proof(self, text: bytes) -> bytes:
        return hmac.digest(self._secret, text, "sha256").hex().encode()

    async def put(self, kind: str, name: str, once: Once, seconds: float) -> None:
        """Keep something for one use; when there are too many, the heaviest address loses its oldest."""
        lasts = _milliseconds(seconds)
        await self._run("put", kind, name, once.owner, once.address, once.sealed, lasts, MOST_ONCE)

    async def take(self, kind: str, name: str, owner: str | None) -> bytes:
        """Take what was put, in one step."""
        return await self._taken(kind, name, owner, TAKEN_SECONDS)

    async def look(self, kind: str, name: str, owner: str | None) -> bytes:
        """Look at what was put."""
        return await self._taken(kind, name, owner, 0)

    async def _taken(self, kind: str, name: str, owner: str | None, seconds: float) -> bytes:
        arguments = kind, name, owner or "", _milliseconds(seconds)
        outcome, *sealed = cast("list[bytes]", await self._run("take", *arguments))
        if outcome == b"foreign":
            raise FlowForeign("the flow cookie of another browser" if owner else "no flow cookie")
        if outcome == b"taken":
            raise FlowTaken("just now")
        if outcome == b"unknown":
            raise FlowUnknown("nothing waits under it")
        return sealed[0]

    async def admit(self, most: Mapping[str, int], seconds: float) -> str | None:
        """Count once more, exactly, over all workers."""
        counts = (word for count in most.items() for word in count)
        full: bytes | None = await self._run("admit", _milliseconds(seconds), secrets.token_hex(8), *counts)
        return full.decode() if full else None

    async def forget(self, name: str) -> None:
        """Begin anew with a count."""
        with _translated():
            await self._redis.delete(f"azure_auth:limit:{name}")

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()
        await self._listener.aclose()

    async def _names(self, name: str, *arguments: str | bytes | int) -> list[str]:
        found: list[bytes] = await self._run(name, *arguments)
        return [name.decode() for name in found]

    async def _run(self, name: str, *arguments: str | bytes | int) -> Any:
        with _translated():
            return cast("Any", await self._scripts[name](args=arguments))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (RedisError, OSError) as why:
        raise StoreUnavailable(type(why).__name__) from why
