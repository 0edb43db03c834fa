local looked = admit_plainly(KEYS, ARGV, true)
if looked then return looked end
