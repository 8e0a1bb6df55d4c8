-- Returns why a session has ended, then its version and the given fields, if it is there.
local reference = ARGV[1]
if not is_active(reference) then return {redis.call('GET', key('ended', reference))} end
ARGV[1] = 'version'
local was = redis.call('HMGET', key('session', reference), unpack(ARGV))
if was[1] then return {'', unpack(was)} end
return {''}
