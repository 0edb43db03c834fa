-- Settling of one admitted call: the event into the stream, then the counters. Does nothing a second time.
-- Where the reservation is gone it is a new admission of the true size; quantity 0 always passes.
-- KEYS: 1 organization, 2 shard, 3 usage, 4 reservations, 5 settled marker, 6 stream
-- ARGV: 1 reservation, 2 reserved units, 3 actual units, 4 meter, 5 event, 6 version, 7 quota (-1 none), 8 usage expiry (ms),
--       9 the spend cap's tables ('' none), 10 the fields of all priced meters, joined
if redis.call('EXISTS', KEYS[5]) == 1 then return {'DONE', ''} end
local reserved, units, quota = whole(ARGV[2]), whole(ARGV[3]), tonumber(ARGV[7])
local meter, reserved_field, usage_expiry = ARGV[4], 'r' .. ARGV[4], whole(ARGV[8]) and ARGV[8]
local shard = redis.call('HMGET', KEYS[2], 'epoch', 'seq')
if not shard[1] then return {'NOSTATE', ''} end
local open = redis.call('ZSCORE', KEYS[4], ARGV[1])
local held = redis.call('HMGET', KEYS[3], meter, reserved_field)
local settled, held_back = whole(held[1] or '0'), whole(held[2] or '0')
local own = open and math.min(reserved, held_back) or 0

if units > 0 and not open then
  local version = redis.call('HGET', KEYS[1], 'v')
  if not version then return {'NOSTATE', ''} end
  if tonumber(version) > tonumber(ARGV[6]) then return {'EXPIRED', ''} end
end
if units > own and quota >= 0 and settled + held_back - own + units > quota then return {'EXPIRED', ''} end
if units > own and ARGV[9] ~= '' then
  local fields = {}
  for name in string.gmatch(ARGV[10], '%S+') do fields[#fields + 1] = name end
  held = redis.call('HMGET', KEYS[3], meter, reserved_field, unpack(fields))
  if cap_is_passed(ARGV[9], fields, 0, held, meter, units - own, KEYS[3], {}) then return {'EXPIRED', ''} end
end
if settled + held_back + units > LARGEST then refuse('counter would leave 2^53') end
local seq = text(whole(shard[2] or '0') + 1)

-- The first write: a key of another type fails here, before anything moved.
redis.call('XADD', KEYS[6], '*', 'e', ARGV[5], 'q', shard[1] .. ':' .. seq)
redis.call('HINCRBY', KEYS[2], 'seq', '1')
if units > 0 then redis.call('HINCRBY', KEYS[3], meter, ARGV[3]) end
if own > 0 then redis.call('HINCRBY', KEYS[3], reserved_field, own == reserved and '-' .. ARGV[2] or text(-own)) end
if units > 0 and not held[1] and not held[2] then redis.call('PEXPIREAT', KEYS[3], usage_expiry) end
if open then redis.call('ZREM', KEYS[4], ARGV[1]) end
redis.call('SET', KEYS[5], '1', 'PX', '600000')
return {'SETTLED', seq}
