-- Settling of one admitted call: its events into the stream, then the counters. Does nothing a second time.
-- Where the reservation is gone it is a new admission of the true size; quantity 0 always passes.
-- KEYS: 1 organization, 2 shard, 3 usage, 4 reservations, 5 settled marker, 6 stream, 7.. windows whose weight is corrected
-- ARGV: 1 reservation, 2 version, 3 usage expiry (ms), 4 admitted at, 5 charges of the period, 6 beside it, 7 windows, 8.. per
--       charge, those beside it last: meter, reserved units, actual units, quota (-1 none), event ('' none); per window: seconds,
--       weight, true weight; then the spend cap's tables ('' none) and the fields of all priced meters
if redis.call('EXISTS', KEYS[5]) == 1 then return 'DONE' end
local usage, usage_expiry, of_period = KEYS[3], whole(ARGV[3]) and ARGV[3], tonumber(ARGV[5])
local in_all, of_windows = of_period + tonumber(ARGV[6]), tonumber(ARGV[7])
local windows = 8 + 5 * in_all
local tables = windows + 3 * of_windows
local shard = redis.call('HMGET', KEYS[2], 'epoch', 'seq')
if not shard[1] then return 'NOSTATE' end
local open = redis.call('ZSCORE', KEYS[4], ARGV[1])
local seq = whole(shard[2] or '0')
local writes, more, is_checked = {}, nil, open

for i = 1, in_all do
  local at = 3 + 5 * i
  local meter, reserved, units, quota = ARGV[at], whole(ARGV[at + 1]), whole(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local key = i > of_period and beside(usage, meter, tonumber(ARGV[4])) or usage
  local held = redis.call('HMGET', key, meter, 'r' .. meter)
  local settled, waiting = whole(held[1] or '0'), whole(held[2] or '0')
  local own = open and math.min(reserved, waiting) or 0
  if units > 0 and not is_checked then
    local version = redis.call('HGET', KEYS[1], 'v')
    if not version then return 'NOSTATE' end
    if tonumber(version) > tonumber(ARGV[2]) then return 'EXPIRED' end
    is_checked = true
  end
  if units > own then
    if quota >= 0 and settled + waiting - own + units > quota then return 'EXPIRED' end
    more = more or {}
    if i <= of_period then more[meter] = (more[meter] or 0) + units - own end
  end
  if settled + waiting + units > LARGEST then refuse('counter would leave 2^53') end
  writes[i] = {key = key, meter = meter, own = own, units = units, is_new = not held[1] and not held[2]}
end
if more and ARGV[tables] ~= '' then
  local held = ARGV[tables + 1] and redis.call('HMGET', usage, unpack(ARGV, tables + 1)) or {}
  if cap_is_passed(ARGV[tables], ARGV, tables, held, 0, more, usage, {}) then return 'EXPIRED' end
end
local weights = {}
for i = 1, of_windows do
  local at = windows + 3 * (i - 1)
  weights[i] = weight_writes(KEYS[6 + i], tonumber(ARGV[at]), tonumber(ARGV[4]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
end

-- The first write: a key of another type fails here, before anything moved.
local events = 0
for i = 1, in_all do
  local event = ARGV[7 + 5 * i]
  if event ~= '' then
    events = events + 1
    redis.call('XADD', KEYS[6], '*', 'e', event, 'q', shard[1] .. ':' .. text(seq + events))
  end
end
redis.call('HINCRBY', KEYS[2], 'seq', text(events))
for i, w in ipairs(writes) do
  if w.units > 0 then redis.call('HINCRBY', w.key, w.meter, ARGV[5 + 5 * i]) end
  if w.own > 0 then redis.call('HINCRBY', w.key, 'r' .. w.meter, text(-w.own)) end
  if w.units > 0 and w.is_new then
    if i > of_period then redis.call('PEXPIRE', w.key, 172800000) else redis.call('PEXPIREAT', w.key, usage_expiry) end
  end
end
if open then redis.call('ZREM', KEYS[4], ARGV[1]) end
redis.call('SET', KEYS[5], '1', 'PX', '600000')
for i, changes in ipairs(weights) do
  for _, change in ipairs(changes) do redis.call('SETRANGE', KEYS[6 + i], change[1], change[2]) end
end
return 'SETTLED ' .. text(seq + events)
