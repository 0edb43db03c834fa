-- Tells a counter what only the ledger saw. Corrections of a shard come in order of their ids, so the last id says which are
-- done. Where the organization's state is lost there is nothing to correct: its rebuild reads the ledger.
-- KEYS: 1 shard, 2 organization, 3 usage   ARGV: 1 correction, 2 epoch, 3 meter, 4 "+" or "-", 5 units, 6 usage expiry (ms)
local shard = redis.call('HMGET', KEYS[1], 'epoch', 'corrected')
if shard[1] ~= ARGV[2] then return 'OTHER' end
if whole(ARGV[1]) <= whole(shard[2] or '0') then return 'DONE' end
local version = redis.call('HGET', KEYS[2], 'v')
local held = redis.call('HMGET', KEYS[3], ARGV[3], 'r' .. ARGV[3])
local settled, reserved = whole(held[1] or '0'), whole(held[2] or '0')
local units, expiry = whole(ARGV[5]), whole(ARGV[6]) and ARGV[6]
if ARGV[4] == '-' then units = -math.min(units, settled) end
if settled + reserved + units > LARGEST then refuse('counter would leave 2^53') end
local fresh = redis.call('EXISTS', KEYS[3]) == 0

redis.call('HSET', KEYS[1], 'corrected', ARGV[1])
if not version then return 'NOSTATE' end
if units ~= 0 then redis.call('HINCRBY', KEYS[3], ARGV[3], text(units)) end
if units ~= 0 and fresh then redis.call('PEXPIREAT', KEYS[3], expiry) end
return 'APPLIED'
