local reference, version, ends, person, sid, browser, sealed, handle, data_key, join, joined, given = unpack(ARGV)
given = cjson.decode(given)
local rejected = rejection(given.checks)
if rejected then return {rejected} end
for _, name in ipairs(given.follow) do
    local earlier = redis.call('HGET', key('join', name), 'sealed')
    if earlier then return {'joined', name, earlier} end
end
consume('ticket', given.checks.ticket)

local same, found, gone, twins = {}, {}, {}, {}
for _, hash in ipairs(given.persons) do same[hash] = true end
for _, name in ipairs(given.browsers) do
    if name ~= '' then
        for _, other in ipairs(redis.call('SMEMBERS', key('browser', name))) do found[other] = true end
    end
end
for _, other in ipairs(given.others) do found[other] = true end
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
save(reference, version, ends, person, sid, browser, sealed, handle)
redis.call('PEXPIREAT', session, ends)
add_handle(handle, reference, data_key, ends)
if #twins > 0 then redis.call('HSET', session, 'twin', 1) end
if join ~= '' then
    put('join', join, '', '', joined, 1, GRACE_LASTS)
    redis.call('HSET', session, 'join', join)
end
return {'started', gone, twins}
