local until_, why, references = unpack(ARGV)
local gone, best, kept = {}, -1, nil
references = cjson.decode(references)
for _, reference in ipairs(references) do
    local was = redis.call('HMGET', key('session', reference), 'version', 'presented')
    if was[1] and tonumber(was[2] or 0) >= best then best, kept = tonumber(was[2] or 0), reference end
end
for _, reference in ipairs(references) do if reference ~= kept then finish(gone, reference, until_, why) end end
if kept then redis.call('HDEL', key('session', kept), 'twin') end
return gone
