-- Counts a refusal that needed no admission. KEYS: 1 refusals prefix   ARGV: 1 field, 2 times
local times = whole(ARGV[2]) and ARGV[2]
local key = refusal_counter(KEYS[1], clock(), ARGV[1])
count_refusal(key, ARGV[1], times)
return 1
