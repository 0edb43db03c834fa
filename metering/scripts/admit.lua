-- Admission of one call. Refused calls leave no trace in windows and counters, only in the refusals of the minute.
-- KEYS: 1 organization, 2 shard, 3 usage, 4 reservations, 5 expiries, 6 refusals prefix, 7.. windows, the organization's first
-- ARGV: 1 organization, 2 mode, 3 key, 4 version, 5 span start, 6 span end, 7 refusal, 8 calls at once (-1 any), 9 meter, 10 units,
--       11 quota (-1 none), 12 quota code, 13 reservation, 14 life, 15 usage expiry (ms), 16 windows of the organization,
--       17 windows in all, 18.. seconds, limit; then, with a spend cap, its tables and the fields of all priced meters
local now = clock()
local version = redis.call('HGET', KEYS[1], 'v')
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not version or not epoch then return {'NOSTATE', now} end
if tonumber(version) > tonumber(ARGV[4]) then return {'STALE', now} end
if now < tonumber(ARGV[5]) or now >= tonumber(ARGV[6]) then return {'SPAN', now} end

local units, quota, at_once = whole(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[8])
local expires, usage_expiry = text(now + tonumber(ARGV[14])), whole(ARGV[15]) and ARGV[15]
local meter, reserved_field = ARGV[9], 'r' .. ARGV[9]
local code, retry, refused_window = ARGV[7], -1, 0
local windows = {}
if code == '' then
  for i = 1, tonumber(ARGV[17]) do
    local w = read_window(KEYS[6 + i], tonumber(ARGV[16 + 2 * i]), tonumber(ARGV[17 + 2 * i]), now)
    windows[i] = w
    if w.sum >= w.limit then
      code = i <= tonumber(ARGV[16]) and 'rate_limited' or 'key_rate_limited'
      retry, refused_window = retry_after(w, now), i
      break
    end
  end
end

if code == '' and at_once >= 0 and redis.call('ZCOUNT', KEYS[4], '(' .. text(now), '+inf') >= at_once then
  code, retry = 'concurrency_limited', 1
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local returned = {}
if first[2] and tonumber(first[2]) <= now then returned = expired(KEYS[4], now, 4) end
local tables = 18 + 2 * tonumber(ARGV[17])
local capped = ARGV[tables]
local held
if capped then
  held = redis.call('HMGET', KEYS[3], meter, reserved_field, unpack(ARGV, tables + 1))
else
  held = redis.call('HMGET', KEYS[3], meter, reserved_field)
end
local reserved = whole(held[2] or '0')
for _, r in ipairs(returned) do
  if r.usage == KEYS[3] and r.meter == meter then reserved = math.max(0, reserved - r.units) end
end
local used = whole(held[1] or '0') + reserved
if code == '' and quota >= 0 and used + units > quota then code = ARGV[12] end
if code == '' and capped and cap_is_passed(capped, ARGV, tables, held, meter, units, KEYS[3], returned) then
  code = 'spend_cap_reached'
end
if used + units > LARGEST then refuse('counter would leave 2^53') end

local reply = {code == '' and 'OK' or 'REFUSED', now, epoch, used, code, retry, refused_window}
if code ~= '' then
  local field = ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3] .. ':' .. code
  local counter = refusal_counter(KEYS[6], now, field)
  give_back(KEYS[4], returned)
  count_refusal(counter, field, '1')
else
  if not first[1] then redis.call('SCARD', KEYS[5]) end
  give_back(KEYS[4], returned)
  for _, w in ipairs(windows) do count_call(w) end
  redis.call('HINCRBY', KEYS[3], reserved_field, ARGV[10])
  if not held[1] and not held[2] then redis.call('PEXPIREAT', KEYS[3], usage_expiry) end
  redis.call('ZADD', KEYS[4], expires, ARGV[13])
  if not first[1] then redis.call('SADD', KEYS[5], ARGV[1]) end
  reply[4] = used + units
end
for i, w in ipairs(windows) do
  reply[#reply + 1] = math.max(0, w.limit - w.sum)
  reply[#reply + 1] = i == refused_window and retry or seconds_until(w, BUCKETS + 1, now)
end
return reply
