passed = admit_plainly(KEYS, ARGV, false, cap_is_passed)
if passed then return passed end
