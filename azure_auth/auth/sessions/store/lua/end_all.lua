local until_, why, kind, values = unpack(ARGV)
local gone = {}
for _, value in ipairs(cjson.decode(values)) do
    for _, reference in ipairs(redis.call('SMEMBERS', key(kind, value))) do finish(gone, reference, until_, why) end
    mark(kind, value)
end
return gone
