local lasts, entry = unpack(ARGV)
local now = clock()
for i = 3, #ARGV, 2 do
    local times = key('limit', ARGV[i])
    redis.call('ZREMRANGEBYSCORE', times, '-inf', now - lasts)
    if redis.call('ZCARD', times) >= tonumber(ARGV[i + 1]) then return ARGV[i] end
    redis.call('ZADD', times, now, entry)
    redis.call('PEXPIREAT', times, now + lasts)
end
return false
