-- Gives one reservation back unused, without an event. KEYS: 1 reservations   ARGV: 1 reservation
local parts = {}
add_charges(parts, KEYS[1], ARGV[1])
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
give_back(KEYS[1], {ARGV[1]}, parts)
return 1
