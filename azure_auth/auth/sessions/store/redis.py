"""The store for several workers: Redis, which Reflex uses for its own states as well.

What two workers could do at the same time is one Lua script, which Redis runs atomically. Records expire by themselves,
so nothing ever scans the keys.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from typing import Any, Literal, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from azure_auth.auth.sessions.server_keys import ServerKeys
from azure_auth.auth.sessions.store.store import (
    LARGEST_SHARE,
    MARK_SECONDS,
    MOST_MARKS,
    MOST_ONCE,
    NOTHING,
    TAKEN_SECONDS,
    Found,
    Gone,
    Handle,
    Join,
    MarkKind,
    Once,
    Record,
    Spend,
    Start,
    Started,
    Successor,
)
from azure_auth.bounds import SESSION_STATES
from azure_auth.errors import FlowForeign, FlowTaken, FlowUnknown, SignedOutMeanwhile, StoreUnavailable, TooManyRequests

# pyright: reportUnknownMemberType=false

_SECONDS = 2.0
"""The longest wait for an answer; longer means that the store cannot be asked."""
_NEVER = 1e11
_CHANNEL = "azure_auth:ended"
_FUNCTIONS = """
local function key(kind, name) return 'azure_auth:' .. kind .. ':' .. name end
local function clock() -- in milliseconds; not the caller's, for half a minute is all that a ticket has
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function last(name, ends) -- never shorter than before
    if redis.call('PTTL', name) < ends - clock() then redis.call('PEXPIREAT', name, ends) end
end
local function names(listed) -- of handles, as a record lists them
    local found = {}
    for name in (listed or ''):gmatch('[^ ]+') do table.insert(found, name) end
    return found
end
local function index(kind, name, reference, ends)
    if name == '' then return end
    for _, other in ipairs(redis.call('SRANDMEMBER', key(kind, name), 10)) do -- more go than come, and nobody waits
        if redis.call('EXISTS', key('session', other)) == 0 then redis.call('SREM', key(kind, name), other) end
    end
    redis.call('SADD', key(kind, name), reference)
    last(key(kind, name), ends)
end
local function finish(gone, reference, until_, why)
    local session = key('session', reference)
    local was = redis.call('HMGET', session, 'person', 'sid', 'browser', 'handles')
    if not was[1] then return end
    for _, name in ipairs(names(was[4])) do redis.call('DEL', key('handle', name)) end
    redis.call('DEL', session)
    redis.call('SREM', key('person', was[1]), reference)
    redis.call('SREM', key('sid', was[2]), reference)
    redis.call('SREM', key('browser', was[3]), reference)
    redis.call('SET', key('ended', reference), why, 'PXAT', until_)
    table.insert(gone, reference)
    table.insert(gone, was[1])
end
local function stands(reference)
    return redis.call('EXISTS', key('ended', reference)) == 0
end
local function why(reference) return redis.call('GET', key('ended', reference)) or '' end
local function mark(kind, name, lasts, most)
    local marks, now = key('marks', kind), clock()
    redis.call('ZADD', marks, now, name)
    redis.call('ZREMRANGEBYSCORE', marks, '-inf', now - lasts)
    redis.call('ZREMRANGEBYRANK', marks, 0, -most - 1)
    redis.call('PEXPIRE', marks, lasts)
end
local function stopped(ticket, begun, marks)
    if ticket ~= '' and redis.call('EXISTS', key('ticket', ticket)) == 0 then return 'taken' end
    for i = 1, #marks, 2 do
        local at = redis.call('ZSCORE', key('marks', marks[i]), marks[i + 1])
        if at and tonumber(at) >= tonumber(begun) then return 'late' end
    end
end
"""
_ONCE = """
local function weigh(kind, pool, address)
    local left, all = redis.call('ZCARD', key(pool .. ':at', address)), 0
    if left == 0 then redis.call('ZREM', key(pool, 'addresses'), address)
    else redis.call('ZADD', key(pool, 'addresses'), left, address) end
    for rank = 0, 2 do all = all + redis.call('ZCARD', key(kind .. ':' .. rank .. ':at', address)) end
    if all == 0 then redis.call('ZREM', key(kind, 'addresses'), address)
    else redis.call('ZADD', key(kind, 'addresses'), all, address) end
end
local function drop(kind, name, rank, address)
    local pool = kind .. ':' .. rank
    redis.call('DEL', key(kind, name))
    redis.call('ZREM', key(kind, 'line'), name .. '|' .. rank .. '|' .. address)
    redis.call('ZREM', key(pool .. ':at', address), name)
    weigh(kind, pool, address)
end
local function drop_oldest(kind, rank, address)
    local name = redis.call('ZRANGE', key(kind .. ':' .. rank .. ':at', address), 0, 0)[1]
    if name then drop(kind, name, rank, address) end
    return name
end
local function make_room(kind, rank, most, share)
    local heaviest = redis.call('ZREVRANGE', key(kind, 'addresses'), 0, 0, 'WITHSCORES')
    if tonumber(heaviest[2]) * share > most then
        for lowest = 0, 2 do if drop_oldest(kind, lowest, heaviest[1]) then return true end end
    end
    for lowest = 0, rank do
        local address = redis.call('ZREVRANGE', key(kind .. ':' .. lowest, 'addresses'), 0, 0)[1]
        if address then return drop_oldest(kind, lowest, address) end
    end
end
local function put(kind, name, owner, address, sealed, rank, lasts, most, share)
    local now = clock()
    local ends, line, pool = now + lasts, key(kind, 'line'), kind .. ':' .. rank
    for _, over in ipairs(redis.call('ZRANGEBYSCORE', line, '-inf', now, 'LIMIT', 0, 100)) do
        drop(kind, over:match('^(.-)|(.-)|(.*)$'))
    end
    if redis.call('ZCARD', line) >= tonumber(most)
        and not make_room(kind, tonumber(rank), tonumber(most), tonumber(share)) then return 'full' end
    redis.call('HSET', key(kind, name), 'owner', owner, 'address', address, 'rank', rank, 'sealed', sealed,
        'put', now)
    redis.call('PEXPIREAT', key(kind, name), ends)
    redis.call('ZADD', line, ends, name .. '|' .. rank .. '|' .. address)
    redis.call('ZADD', key(pool .. ':at', address), ends, name)
    weigh(kind, pool, address)
end
local function take(kind, name, lasts)
    local was = redis.call('HMGET', key(kind, name), 'owner', 'rank', 'address')
    if not was[1] then return end
    redis.call('SET', key(kind .. ':taken', name), was[1], 'PX', lasts)
    drop(kind, name, was[2], was[3])
end
"""
_START = (
    _ONCE
    + """
local reference, version, ends, person, sid, browser, sealed, handle, data_key, ticket, begun, taken,
    join, joined, joins, most, share = unpack(ARGV)
local lists = cjson.decode(ARGV[18])
local stop = stopped(ticket, begun, lists.marks)
if stop then return {stop} end
for _, name in ipairs(lists.joins) do
    local earlier = redis.call('HGET', key('join', name), 'sealed')
    if earlier then return {'joined', name, earlier} end
end
take('ticket', ticket, taken)
local same, found, gone, twins = {}, {}, {}, {}
for _, hash in ipairs(lists.persons) do same[hash] = true end
for _, name in ipairs(lists.browsers) do
    if name ~= '' then
        for _, other in ipairs(redis.call('SMEMBERS', key('browser', name))) do found[other] = true end
    end
end
for _, other in ipairs(lists.others) do found[other] = true end
for other in pairs(found) do
    local whose = redis.call('HGET', key('session', other), 'person')
    if whose and same[whose] then
        table.insert(twins, other)
        redis.call('HSET', key('session', other), 'twin', 1, 'presented', clock())
    else
        finish(gone, other, ends, 'replaced')
    end
end
local session = key('session', reference)
redis.call('HSET', session, 'version', version, 'ends', ends, 'person', person, 'sid', sid, 'browser', browser,
    'sealed', sealed, 'handles', handle)
if #twins > 0 then redis.call('HSET', session, 'twin', 1) end
redis.call('PEXPIREAT', session, ends)
redis.call('HSET', key('handle', handle), 'session', reference, 'sealed', data_key)
redis.call('PEXPIREAT', key('handle', handle), ends)
index('person', person, reference, ends)
index('sid', sid, reference, ends)
index('browser', browser, reference, ends)
if join ~= '' then
    put('join', join, '', '', joined, 1, joins, most, share)
    redis.call('HSET', session, 'join', join)
end
return {'started', gone, twins}
"""
)
_FIND = (
    _ONCE
    + """
local handle = redis.call('HMGET', key('handle', ARGV[1]), 'session', 'sealed', 'next')
if not handle[1] or not stands(handle[1]) then return false end
local session = key('session', handle[1])
local was = redis.call('HMGET', session, 'version', 'ends', 'person', 'sid', 'browser', 'sealed', 'twin', 'join')
if not was[1] then return false end
local presented = ARGV[2] == '1'
if presented and was[7] then redis.call('HSET', session, 'presented', clock()) end
if presented and was[8] then -- the browser has its value now
    drop('join', was[8], 1, '')
    redis.call('HDEL', session, 'join')
end
return {handle[2], handle[3] or '', handle[1], was[1], was[2], was[3], was[4], was[5], was[6]}
"""
)
_READ = """
if not stands(ARGV[1]) then return {why(ARGV[1])} end
local was = redis.call('HMGET', key('session', ARGV[1]), 'version', 'ends', 'person', 'sid', 'browser', 'sealed')
if not was[1] then return {''} end
return {ARGV[1], was[1], was[2], was[3], was[4], was[5], was[6]}
"""
_VERSION = """
if not stands(ARGV[1]) then return {why(ARGV[1])} end
local version = redis.call('HGET', key('session', ARGV[1]), 'version')
return version and {'', version} or {''}
"""
_REPLACE = """
local reference, version, sealed, before = unpack(ARGV)
local session = key('session', reference)
if not stands(reference) or redis.call('HGET', session, 'version') ~= before then return 0 end
redis.call('HSET', session, 'version', version, 'sealed', sealed)
return 1
"""
_RENEW = (
    _ONCE
    + """
local reference, version, before, ends, person, sid, browser, sealed, handle, data_key, earlier, next_, grace,
    ticket, begun, taken = unpack(ARGV)
local session = key('session', reference)
if not stands(reference) or redis.call('HGET', session, 'version') ~= before then return 'lost' end
local stop = stopped(ticket, begun, cjson.decode(ARGV[17]))
if stop then return stop end
take('ticket', ticket, taken)
local was = redis.call('HMGET', session, 'person', 'sid', 'browser', 'handles')
for place, kind in ipairs({'person', 'sid', 'browser'}) do redis.call('SREM', key(kind, was[place]), reference) end
index('person', person, reference, ends)
index('sid', sid, reference, ends)
index('browser', browser, reference, ends)
local listed = was[4]
if handle ~= '' then
    listed = handle
    for _, name in ipairs(names(was[4])) do
        local left = redis.call('PTTL', key('handle', name))
        if left > tonumber(grace) then redis.call('PEXPIRE', key('handle', name), grace) end
        if left > 0 then
            listed = listed .. ' ' .. name
            if name == earlier then redis.call('HSET', key('handle', name), 'next', next_) end
        end
    end
    redis.call('HSET', key('handle', handle), 'session', reference, 'sealed', data_key)
    redis.call('PEXPIREAT', key('handle', handle), ends)
end
redis.call('HSET', session, 'version', version, 'ends', ends, 'person', person, 'sid', sid, 'browser', browser,
    'sealed', sealed, 'handles', listed)
last(session, ends)
last(key('tab times', reference), ends)
return 'done'
"""
)
_END = """
local until_, why, marks, lasts, most = unpack(ARGV)
local gone = {}
for i = 6, #ARGV do finish(gone, ARGV[i], until_, why) end
marks = cjson.decode(marks)
for i = 1, #marks, 2 do mark(marks[i], marks[i + 1], lasts, most) end
return gone
"""
_END_ALL = """
local until_, why, kind, lasts, most = unpack(ARGV)
local gone = {}
for i = 6, #ARGV do
    for _, reference in ipairs(redis.call('SMEMBERS', key(kind, ARGV[i]))) do finish(gone, reference, until_, why) end
    mark(kind, ARGV[i], lasts, most)
end
return gone
"""
_SETTLE = """
local until_, why = unpack(ARGV)
local gone, best, keep = {}, -1, nil
for i = 3, #ARGV do
    local was = redis.call('HMGET', key('session', ARGV[i]), 'version', 'presented')
    if was[1] and tonumber(was[2] or 0) >= best then best, keep = tonumber(was[2] or 0), ARGV[i] end
end
for i = 3, #ARGV do if ARGV[i] ~= keep then finish(gone, ARGV[i], until_, why) end end
if keep then redis.call('HDEL', key('session', keep), 'twin') end
return gone
"""
_PUT = _ONCE + "return put(unpack(ARGV))"
_TAKE = (
    _ONCE
    + """
local kind, name, owner, milliseconds = unpack(ARGV)
local was = redis.call('HMGET', key(kind, name), 'owner', 'address', 'sealed', 'put')
local taker = redis.call('GET', key(kind .. ':taken', name))
if (was[1] or taker or owner) ~= owner then return {'foreign'} end
if not was[1] then return {taker and 'taken' or 'unknown'} end
if milliseconds ~= '0' then take(kind, name, milliseconds) end
return {'there', was[3], was[4]}
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
local tabs = key('tab times', ARGV[1])
redis.call('ZADD', tabs, clock(), ARGV[2])
redis.call('PEXPIREAT', tabs, ARGV[3])
local over = redis.call('ZRANGE', tabs, 0, -1 - ARGV[4])
redis.call('ZREMRANGEBYRANK', tabs, 0, -1 - ARGV[4])
return over
"""
_TABS = """
local found = redis.call('ZRANGE', key('tab times', ARGV[1]), 0, -1)
redis.call('DEL', key('tab times', ARGV[1]))
return found
"""


class RedisStore:
    """Redis, for many workers; connected on first use."""

    def __init__(self, url: str, keys: ServerKeys) -> None:
        """Keep records in the Redis at `url`; by the common `keys` processes know each other's messages."""
        self._keys = keys
        self._listener: Redis = Redis.from_url(url, socket_connect_timeout=_SECONDS, health_check_interval=10)
        self._redis: Redis = Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        texts = {
            "start": _START,
            "find": _FIND,
            "read": _READ,
            "version": _VERSION,
            "replace": _REPLACE,
            "renew": _RENEW,
            "end": _END,
            "all": _END_ALL,
            "settle": _SETTLE,
            "note": _NOTE,
            "tabs": _TABS,
            "put": _PUT,
            "take": _TAKE,
            "admit": _ADMIT,
        }
        self._scripts = {name: self._redis.register_script(_FUNCTIONS + text) for name, text in texts.items()}

    async def start(self, start: Start) -> Started:
        """Add a session; end other people's in its browser."""
        join = start.join or Join("", b"", 0.0)
        lists = {
            "marks": _flat(start.spend),
            "persons": list(start.persons),
            "browsers": list(start.browsers),
            "others": list(start.others),
            "joins": list(join.follow),
        }
        outcome, *rest = await self._run(
            "start",
            *_row(start.record),
            start.handle.name,
            start.handle.sealed,
            *_spent(start.spend),
            join.name,
            join.sealed,
            _milliseconds(join.seconds),
            MOST_ONCE,
            LARGEST_SHARE,
            json.dumps(lists),
        )
        _raise_where_stopped(outcome)
        if outcome == b"joined":
            return Started(joined=(rest[0].decode(), rest[1]))
        return Started(_gone(rest[0]), [name.decode() for name in rest[1]])

    async def find(self, name: str, *, presented: bool = True) -> Found | None:
        """Return a session by a handle; one round trip."""
        found = cast("list[bytes] | None", await self._run("find", name, int(presented)))
        return Found(found[0], found[1], _record(found[2:])) if found else None

    async def read(self, reference: str) -> Record | str:
        """Return a record, or why it ended."""
        found = cast("list[bytes]", await self._run("read", reference))
        return _record(found) if len(found) > 1 else found[0].decode()

    async def version(self, reference: str) -> int | str:
        """Return the version of a record, or why it ended; one round trip."""
        why, *version = cast("list[bytes]", await self._run("version", reference))
        return int(version[0]) if version else why.decode()

    async def replace(self, record: Record, version: int) -> bool:
        """Write a record if its `version` is still there."""
        return bool(await self._run("replace", record.reference, record.version, record.sealed, version))

    async def renew(self, record: Record, version: int, successor: Successor | None, spend: Spend = NOTHING) -> bool:
        """Write a whole record if its `version` is still there."""
        reference, new, *rest = _row(record)
        to = successor or Successor(Handle("", b""), "", b"", 0.0)
        outcome = await self._run(
            "renew",
            reference,
            new,
            version,
            *rest,
            to.handle.name,
            to.handle.sealed,
            to.before,
            to.sealed,
            _milliseconds(to.seconds),
            *_spent(spend),
            json.dumps(_flat(spend)),
        )
        _raise_where_stopped(outcome)
        return outcome == b"done"

    async def end(
        self, references: Sequence[str], until: float, why: str, marks: Sequence[tuple[MarkKind, str]] = ()
    ) -> list[Gone]:
        """End records."""
        listed = json.dumps([word for mark in marks for word in mark])
        return _gone(await self._run("end", _milliseconds(until), why, listed, *_LASTS, *references))

    async def end_all(self, of: Literal["person", "sid"], values: Sequence[str], until: float, why: str) -> list[Gone]:
        """End all records with a hash in one of the indexes."""
        return _gone(await self._run("all", _milliseconds(until), why, of, *_LASTS, *values))

    async def settle(self, references: Sequence[str], until: float, why: str) -> list[Gone]:
        """Keep the twin that was presented last."""
        return _gone(await self._run("settle", _milliseconds(until), why, *references))

    async def sweep(self) -> None:
        """Do nothing: here every value ends by itself."""

    async def note_tab(self, reference: str, key: str, until: float) -> list[str]:
        """Remember a tab, as long as its session may last."""
        over: list[bytes] = await self._run("note", reference, key, _milliseconds(until), SESSION_STATES)
        return [key.decode() for key in over]

    async def tabs(self, reference: str) -> set[str]:
        """Return a session's tabs on all workers."""
        found: list[bytes] = await self._run("tabs", reference)
        return {key.decode() for key in found}

    async def announce(self, references: Sequence[str], why: str) -> None:
        """Publish it, with a proof that it comes from one of us."""
        text = json.dumps({"v": 1, "ended": list(references), "why": why}).encode()
        with suppress(StoreUnavailable), _translated():  # lost, it is found out by whoever looks next
            await self._redis.publish(_CHANNEL, self._keys.proof(text) + b" " + text)

    async def announced(self) -> AsyncIterator[tuple[list[str], str]]:
        """Yield authentic messages for ever, and reconnect when the connection is lost."""
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
        if not self._keys.proves(proof, text):
            return None
        try:
            match json.loads(text):
                case {"v": 1, "ended": [*references], "why": str(why)}:
                    return [str(reference) for reference in references], why
                case _:
                    return None
        except ValueError:
            return None

    async def put(self, kind: str, name: str, once: Once, seconds: float) -> None:
        """Keep something for one use."""
        lasts = _milliseconds(seconds)
        thing = once.owner, once.address, once.sealed, once.rank
        if await self._run("put", kind, name, *thing, lasts, MOST_ONCE, LARGEST_SHARE) == b"full":
            raise TooManyRequests("the store is full")

    async def take(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Take what was put, in one step."""
        return await self._taken(kind, name, owner, TAKEN_SECONDS)

    async def look(self, kind: str, name: str, owner: str) -> tuple[bytes, float]:
        """Look at what was put."""
        return await self._taken(kind, name, owner, 0)

    async def _taken(self, kind: str, name: str, owner: str, seconds: float) -> tuple[bytes, float]:
        arguments = kind, name, owner, _milliseconds(seconds)
        outcome, *found = cast("list[bytes]", await self._run("take", *arguments))
        if outcome == b"foreign":
            raise FlowForeign("the cookie of another flow")
        if outcome == b"taken":
            raise FlowTaken("just now")
        if outcome == b"unknown":
            raise FlowUnknown("nothing waits under it")
        return found[0], int(found[1]) / 1000

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

    async def _run(self, name: str, *arguments: str | bytes | int) -> Any:
        with _translated():
            return cast("Any", await self._scripts[name](args=arguments))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


_LASTS = _milliseconds(MARK_SECONDS), MOST_MARKS


def _row(record: Record) -> tuple[str | bytes | int, ...]:
    reference, version, ends, *hashes, sealed = astuple(record)
    return reference, version, _milliseconds(ends), *hashes, sealed


def _record(row: Sequence[bytes]) -> Record:
    reference, version, ends, person, sid, browser, sealed = (value or b"" for value in row)
    return Record(
        reference.decode(), int(version), int(ends) / 1000, person.decode(), sid.decode(), browser.decode(), sealed
    )


def _gone(found: Sequence[bytes]) -> list[Gone]:
    return [
        Gone(reference.decode(), person.decode()) for reference, person in zip(found[::2], found[1::2], strict=True)
    ]


def _spent(spend: Spend) -> tuple[str, int, int]:
    begun = _milliseconds(spend.begun) if spend.begun < _NEVER else _milliseconds(_NEVER)
    return spend.ticket, begun, _milliseconds(TAKEN_SECONDS)


def _flat(spend: Spend) -> list[str]:
    return [word for mark in spend.marks for word in mark]


def _raise_where_stopped(outcome: bytes) -> None:
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
            raise  # redis-py means by that one that its connection was closed under the command
        raise StoreUnavailable(type(why).__name__) from why
