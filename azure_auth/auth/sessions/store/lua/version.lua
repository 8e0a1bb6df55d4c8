local reference = ARGV[1]
if not is_active(reference) then return {reason(reference)} end
local version = redis.call('HGET', key('session', reference), 'version')
return version and {'', version} or {''}
