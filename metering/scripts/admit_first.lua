local passed = admit_plainly(KEYS, ARGV)
if passed then return passed end
