-- Rebuild of one organization after a loss: counters where there are none, its reservations forgotten (the rebuilt counters
-- hold none, so their settles are new admissions), its version last. Does nothing to an organization that has its state.
-- KEYS: 1 organization, 2 shard, 3 reservations, 4.. usage   ARGV: 1 version, 2 epoch, then per usage key: expiry (ms), n, n times meter and units
if redis.call('HGET', KEYS[1], 'v') then return 'PRESENT' end
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local version = whole(ARGV[1]) and ARGV[1]
local at = 3
local absent = {}
for k = 4, #KEYS do
  absent[k] = redis.call('EXISTS', KEYS[k]) == 0
  whole(ARGV[at])
  local n = whole(ARGV[at + 1])
  for i = 1, n do whole(ARGV[at + 1 + 2 * i]) end
  at = at + 2 + 2 * n
end

if not epoch then redis.call('HSET', KEYS[2], 'epoch', ARGV[2]) end
redis.call('DEL', KEYS[3])
at = 3
for k = 4, #KEYS do
  local n = tonumber(ARGV[at + 1])
  if absent[k] and n > 0 then
    for i = 1, n do redis.call('HSET', KEYS[k], ARGV[at + 2 * i], ARGV[at + 1 + 2 * i]) end
    redis.call('PEXPIREAT', KEYS[k], ARGV[at])
  end
  at = at + 2 + 2 * n
end
redis.call('HSET', KEYS[1], 'v', version)
return 'RESTORED'
