return put(unpack(ARGV))
