local reference, tab, ends = unpack(ARGV)
local tabs = key('tab times', reference)
redis.call('ZADD', tabs, clock(), tab)
redis.call('PEXPIREAT', tabs, ends)
local over = redis.call('ZRANGE', tabs, 0, -1 - SESSION_STATES)
redis.call('ZREMRANGEBYRANK', tabs, 0, -1 - SESSION_STATES)
return over
