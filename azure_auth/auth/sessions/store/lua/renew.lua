local reference, version, ends, person, sid, browser, sealed, before, handle, data_key, earlier, next_, checks =
    unpack(ARGV)
checks = cjson.decode(checks)
local session = key('session', reference)
if not is_active(reference) or redis.call('HGET', session, 'version') ~= before then return 'lost' end
local rejected = rejection(checks)
if rejected then return rejected end
consume('ticket', checks.ticket)

local was = redis.call('HMGET', session, 'person', 'sid', 'browser', 'handles')
for place, kind in ipairs({'person', 'sid', 'browser'}) do redis.call('SREM', key(kind, was[place]), reference) end
local handles = was[4]
if handle ~= '' then
    handles = handle
    for _, name in ipairs(handle_names(was[4])) do
        local left = redis.call('PTTL', key('handle', name))
        if left > GRACE_LASTS then redis.call('PEXPIRE', key('handle', name), GRACE_LASTS) end
        if left > 0 then
            handles = handles .. ' ' .. name
            if name == earlier then redis.call('HSET', key('handle', name), 'next', next_) end
        end
    end
    add_handle(handle, reference, data_key, ends)
end
save(reference, version, ends, person, sid, browser, sealed, handles)
extend(session, ends)
extend(key('tab times', reference), ends)
return 'done'
