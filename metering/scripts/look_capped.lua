looked = admit_plainly(KEYS, ARGV, true, cap_is_passed)
if looked then return looked end
