local reference = ARGV[1]
if not is_active(reference) then return {reason(reference)} end
local was = redis.call('HMGET', key('session', reference), 'version', 'ends', 'person', 'sid', 'browser', 'sealed')
if not was[1] then return {''} end
return {reference, was[1], was[2], was[3], was[4], was[5], was[6]}
