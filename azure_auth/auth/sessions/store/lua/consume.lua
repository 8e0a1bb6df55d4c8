-- Consumes an entry, or peeks at it.
local kind, name, owner, consumes = unpack(ARGV)
local was = redis.call('HMGET', key(kind, name), 'owner', 'sealed', 'put')
local consumer = redis.call('GET', key(kind .. ':taken', name))
if (was[1] or consumer or owner) ~= owner then return {'foreign'} end
if not was[1] then return {consumer and 'taken' or 'unknown'} end
if consumes == '1' then consume(kind, name) end
return {'there', was[2], was[3]}
