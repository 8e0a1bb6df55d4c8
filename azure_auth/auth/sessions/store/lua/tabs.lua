local tabs = key('tab times', ARGV[1])
local found = redis.call('ZRANGE', tabs, 0, -1)
redis.call('DEL', tabs)
return found
