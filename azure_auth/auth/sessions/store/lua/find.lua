local name, presented = unpack(ARGV)
local handle = redis.call('HMGET', key('handle', name), 'session', 'sealed', 'next')
if not handle[1] or not is_active(handle[1]) then return false end
local session = key('session', handle[1])
local was = redis.call('HMGET', session, 'version', 'ends', 'person', 'sid', 'browser', 'sealed', 'twin', 'join')
if not was[1] then return false end
if presented == '1' and was[7] then redis.call('HSET', session, 'presented', clock()) end
if presented == '1' and was[8] then -- the browser has its value now
    drop('join', was[8], 1, '')
    redis.call('HDEL', session, 'join')
end
return {handle[2], handle[3] or '', handle[1], was[1], was[2], was[3], was[4], was[5], was[6]}
