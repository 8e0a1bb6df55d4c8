local until_, why, references, marks = unpack(ARGV)
local gone = {}
for _, reference in ipairs(cjson.decode(references)) do finish(gone, reference, until_, why) end
for _, one in ipairs(cjson.decode(marks)) do mark(one[1], one[2]) end
return gone
