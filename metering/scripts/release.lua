-- Gives one reservation back unused, without an event. KEYS: 1 usage, 2 reservations   ARGV: 1 reservation, 2 meter, 3 units
local open = redis.call('ZSCORE', KEYS[2], ARGV[1])
local units = whole(ARGV[3])
whole(redis.call('HGET', KEYS[1], 'r' .. ARGV[2]) or '0')
if not open then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
reduce_reserved(KEYS[1], 'r' .. ARGV[2], units)
return 1
