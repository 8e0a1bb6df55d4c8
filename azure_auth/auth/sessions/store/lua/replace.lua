local reference, version, sealed, before = unpack(ARGV)
local session = key('session', reference)
if not is_active(reference) or redis.call('HGET', session, 'version') ~= before then return 0 end
redis.call('HSET', session, 'version', version, 'sealed', sealed)
return 1
