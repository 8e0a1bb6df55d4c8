-- Functions that every script can call. RedisStore puts this file, and the constants in capitals, in front of each.
-- Redis runs a script atomically. Times are in milliseconds.

local function key(kind, name) return 'azure_auth:' .. kind .. ':' .. name end
local function clock() -- not the caller's: a ticket lasts only half a minute
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function extend(name, ends) -- never shortens
    if redis.call('PTTL', name) < ends - clock() then redis.call('PEXPIREAT', name, ends) end
end

-- Sessions

local function is_active(reference) return redis.call('EXISTS', key('ended', reference)) == 0 end
local function handle_names(listed) -- as a record lists them
    local found = {}
    for name in (listed or ''):gmatch('[^ ]+') do table.insert(found, name) end
    return found
end
local function index(kind, name, reference, ends)
    if name == '' then return end
    -- Each call removes up to ten ended sessions: faster than they come, and the call stays fast.
    for _, other in ipairs(redis.call('SRANDMEMBER', key(kind, name), 10)) do
        if redis.call('EXISTS', key('session', other)) == 0 then redis.call('SREM', key(kind, name), other) end
    end
    redis.call('SADD', key(kind, name), reference)
    extend(key(kind, name), ends)
end
local function save(reference, version, ends, person, sid, browser, sealed, handles)
    redis.call('HSET', key('session', reference), 'version', version, 'ends', ends, 'person', person, 'sid', sid,
        'browser', browser, 'sealed', sealed, 'handles', handles)
    index('person', person, reference, ends)
    index('sid', sid, reference, ends)
    index('browser', browser, reference, ends)
end
local function add_handle(name, reference, data_key, ends)
    redis.call('HSET', key('handle', name), 'session', reference, 'sealed', data_key)
    redis.call('PEXPIREAT', key('handle', name), ends)
end
local function finish(gone, reference, until_, why)
    local session = key('session', reference)
    local was = redis.call('HMGET', session, 'person', 'sid', 'browser', 'handles')
    if not was[1] then return end
    for _, name in ipairs(handle_names(was[4])) do redis.call('DEL', key('handle', name)) end
    redis.call('DEL', session)
    for place, kind in ipairs({'person', 'sid', 'browser'}) do redis.call('SREM', key(kind, was[place]), reference) end
    redis.call('SET', key('ended', reference), why, 'PXAT', until_)
    table.insert(gone, reference)
    table.insert(gone, was[1])
end

-- Sign-outs

local function mark(kind, name)
    local marks, now = key('marks', kind), clock()
    redis.call('ZADD', marks, now, name)
    redis.call('ZREMRANGEBYSCORE', marks, '-inf', now - MARK_LASTS)
    redis.call('ZREMRANGEBYRANK', marks, 0, -MAX_MARKS - 1)
    redis.call('PEXPIRE', marks, MARK_LASTS)
end
local function rejection(checks)
    if checks.ticket ~= '' and redis.call('EXISTS', key('ticket', checks.ticket)) == 0 then return 'taken' end
    for _, one in ipairs(checks.marks) do
        local at = redis.call('ZSCORE', key('marks', one[1]), one[2])
        if at and tonumber(at) >= checks.begun then return 'late' end
    end
end

-- One-time entries. Of each kind there are: one key for each entry; `line`, its entries by expiry; `addresses`, the
-- addresses by number of entries; and the last two for each rank as well.

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
local function make_room(kind, rank)
    local heaviest = redis.call('ZREVRANGE', key(kind, 'addresses'), 0, 0, 'WITHSCORES')
    if tonumber(heaviest[2]) * LARGEST_SHARE > MAX_ENTRIES then
        for lowest = 0, 2 do if drop_oldest(kind, lowest, heaviest[1]) then return true end end
    end
    for lowest = 0, rank do
        local address = redis.call('ZREVRANGE', key(kind .. ':' .. lowest, 'addresses'), 0, 0)[1]
        if address then return drop_oldest(kind, lowest, address) end
    end
end
local function put(kind, name, owner, address, sealed, rank, lasts)
    local now = clock()
    local ends, line, pool = now + lasts, key(kind, 'line'), kind .. ':' .. rank
    for _, over in ipairs(redis.call('ZRANGEBYSCORE', line, '-inf', now, 'LIMIT', 0, 100)) do
        drop(kind, over:match('^(.-)|(.-)|(.*)$'))
    end
    if redis.call('ZCARD', line) >= MAX_ENTRIES and not make_room(kind, tonumber(rank)) then return 'full' end
    redis.call('HSET', key(kind, name), 'owner', owner, 'address', address, 'rank', rank, 'sealed', sealed,
        'put', now)
    redis.call('PEXPIREAT', key(kind, name), ends)
    redis.call('ZADD', line, ends, name .. '|' .. rank .. '|' .. address)
    redis.call('ZADD', key(pool .. ':at', address), ends, name)
    weigh(kind, pool, address)
end
local function consume(kind, name)
    local was = redis.call('HMGET', key(kind, name), 'owner', 'rank', 'address')
    if not was[1] then return end
    redis.call('SET', key(kind .. ':taken', name), was[1], 'PX', CONSUMED_LASTS)
    drop(kind, name, was[2], was[3])
end
