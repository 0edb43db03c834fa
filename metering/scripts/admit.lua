-- Admission of one call. Refused calls leave no trace in windows and counters, only in the refusals of the minute.
-- A call is charged to one or more meters of its period and may be held against limits of the day and of calls at the same
-- time; it weighs 1 in a window of calls, its tokens in one of tokens.
-- KEYS: 1 organization, 2 shard, 3 usage, 4 reservations, 5 expiries, 6 refusals prefix, 7.. windows
-- ARGV: 1 organization, 2 mode, 3 key, 4 version, 5 span start, 6 span end, 7 refusal, 8 calls at once (-1 any), 9 reservation
--       ("#" stands for the day), 10 life, 11 usage expiry (ms), 12 windows, 13 charges of the period, 14 beside it, 15.. per
--       window: seconds, limit, weight, code; per charge, those beside it last: units, quota (-1 none), code; then the spend cap's
--       tables ('' none), the fields of the charges beside the period, those of the period's, those of all priced meters
local version = redis.call('HGET', KEYS[1], 'v')
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not version or not epoch then return {'NOSTATE', now} end
if tonumber(version) > tonumber(ARGV[4]) then return {'STALE', now} end
if now < tonumber(ARGV[5]) or now >= tonumber(ARGV[6]) then return {'SPAN', now} end

local at_once, usage_expiry = tonumber(ARGV[8]), whole(ARGV[11]) and ARGV[11]
local expires, member, usage = text(now + tonumber(ARGV[10])), ARGV[9], KEYS[3]
local of_windows, of_period, of_beside = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local code, retry, refused_window = ARGV[7], -1, 0
local windows = {}
if code == '' then
  for i = 1, of_windows do
    local at = 11 + 4 * i
    local w = read_window(KEYS[6 + i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), now)
    windows[i] = w
    if w.sum + w.weight > w.limit then
      code, retry, refused_window = ARGV[at + 3], retry_after(w, now), i
      break
    end
  end
end

if code == '' and at_once >= 0 and redis.call('ZCOUNT', KEYS[4], '(' .. text(now), '+inf') >= at_once then
  code, retry = 'concurrency_limited', 1
end

local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local members, returned = {}, {}
if first[2] and tonumber(first[2]) <= now then members, returned = expired(KEYS[4], now, 4) end
local charges = 15 + 4 * of_windows
local tables = charges + 3 * (of_period + of_beside)
local fields = tables + 1 + 2 * of_beside
local held = redis.call('HMGET', usage, unpack(ARGV, fields))
local is_new, more, used = true, {}, {}

local function check(place, key, meter, settled, waiting)
  local units, quota = whole(ARGV[place]), tonumber(ARGV[place + 1])
  local after = counted(key, meter, settled, waiting, returned) + units
  if code == '' and quota >= 0 and after > quota then code = ARGV[place + 2] end
  if after > LARGEST then refuse('counter would leave 2^53') end
  used[#used + 1] = after - units
  return units
end

for i = 1, of_period do
  local meter, settled, waiting = ARGV[fields + 2 * i - 2], held[2 * i - 1], held[2 * i]
  is_new = is_new and not settled and not waiting
  more[meter] = (more[meter] or 0) + check(charges + 3 * i - 3, usage, meter, settled, waiting)
end
local besides = {}
if of_beside > 0 then member = string.gsub(member, '#', day_name(now)) end
for i = 1, of_beside do
  local meter = ARGV[tables + 2 * i - 1]
  besides[i] = beside(usage, meter, now)
  local waiting = redis.call('HMGET', besides[i], meter, ARGV[tables + 2 * i])
  check(charges + 3 * (of_period + i - 1), besides[i], meter, waiting[1], waiting[2])
end
if code == '' and ARGV[tables] ~= '' and cap_is_passed(ARGV[tables], ARGV, fields + 2 * of_period - 1, held, 2 * of_period, more, usage, returned) then
  code = 'spend_cap_reached'
end

if code ~= '' then
  local field = ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3] .. ':' .. code
  local counter = refusal_counter(KEYS[6], now, field)
  give_back(KEYS[4], members, returned)
  count_refusal(counter, field, '1')
else
  if not first[1] then redis.call('SCARD', KEYS[5]) end
  give_back(KEYS[4], members, returned)
  for _, w in ipairs(windows) do count_call(w) end
  for i = 1, of_period do
    redis.call('HINCRBY', usage, ARGV[fields + 2 * i - 1], ARGV[charges + 3 * i - 3])
    used[i] = used[i] + tonumber(ARGV[charges + 3 * i - 3])
  end
  if is_new then redis.call('PEXPIREAT', usage, usage_expiry) end
  for i = 1, of_beside do
    local units = ARGV[charges + 3 * (of_period + i - 1)]
    redis.call('HINCRBY', besides[i], ARGV[tables + 2 * i], units)
    redis.call('PEXPIRE', besides[i], 172800000)
    used[of_period + i] = used[of_period + i] + tonumber(units)
  end
  redis.call('ZADD', KEYS[4], expires, member)
  if not first[1] then redis.call('SADD', KEYS[5], ARGV[1]) end
end
local reply = {code == '' and 'OK' or 'REFUSED', now, epoch, code, retry, refused_window, #used, unpack(used)}
for i, w in ipairs(windows) do
  reply[#reply + 1] = math.max(0, w.limit - w.sum)
  reply[#reply + 1] = i == refused_window and retry or seconds_until(w, BUCKETS + 1, now)
end
return reply
