-- Gives back expired reservations of one organization and forgets it when it holds none.
-- KEYS: 1 reservations, 2 expiries   ARGV: 1 organization, 2 most
local members, parts = expired(KEYS[1], clock(), whole(ARGV[2]))
redis.call('SCARD', KEYS[2])
give_back(KEYS[1], members, parts)
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return #members
