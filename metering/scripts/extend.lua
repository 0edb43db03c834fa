-- More units for an open reservation, before they are sent: an answer of unknown length is reserved in slices.
-- KEYS: 1 organization, 2 usage, 3 reservations, 4.. windows
-- ARGV: 1 reservation, 2 the same with its new units, 3 life, 4 admitted at, 5 windows, 6 charges of the period, 7 beside it,
--       8.. per window: seconds, limit, weight, code; per charge, those beside it last: units, quota (-1 none), code; then as admit
local now = clock()
local expires = text(now + tonumber(ARGV[3]))
if redis.call('ZSCORE', KEYS[3], ARGV[2]) then return {'OK', now, ''} end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return {'GONE', now, ''} end
local usage = KEYS[2]
local of_windows, of_period, of_beside = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local windows, more = {}, {}
for i = 1, of_windows do
  local at = 4 + 4 * i
  local w = read_window(KEYS[3 + i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), now)
  if w.sum + w.weight > w.limit then return {'REFUSED', now, ARGV[at + 3]} end
  windows[i] = w
end
local charges = 8 + 4 * of_windows
local tables = charges + 3 * (of_period + of_beside)
local fields = tables + 1 + 2 * of_beside
local held = redis.call('HMGET', usage, unpack(ARGV, fields))
local besides = {}
for i = 1, of_period + of_beside do
  local at, nth = charges + 3 * (i - 1), i - of_period
  local units, quota = whole(ARGV[at]), tonumber(ARGV[at + 1])
  local settled, waiting = held[2 * i - 1], held[2 * i]
  if nth > 0 then
    local meter = ARGV[tables + 2 * nth - 1]
    besides[nth] = beside(usage, meter, tonumber(ARGV[4]))
    local there = redis.call('HMGET', besides[nth], meter, ARGV[tables + 2 * nth])
    settled, waiting = there[1], there[2]
  end
  local after = counted(usage, '', settled, waiting, {}) + units
  if after > LARGEST then refuse('counter would leave 2^53') end
  if quota >= 0 and units > 0 and after > quota then return {'REFUSED', now, ARGV[at + 2]} end
  if nth <= 0 then
    local meter = ARGV[fields + 2 * i - 2]
    more[meter] = (more[meter] or 0) + units
  end
end
if ARGV[tables] ~= '' and cap_is_passed(ARGV[tables], ARGV, fields + 2 * of_period - 1, held, 2 * of_period, more, usage, {}) then
  return {'REFUSED', now, 'spend_cap_reached'}
end

for _, w in ipairs(windows) do count_call(w) end
for i = 1, of_period do redis.call('HINCRBY', usage, ARGV[fields + 2 * i - 1], ARGV[charges + 3 * (i - 1)]) end
for i = 1, of_beside do
  redis.call('HINCRBY', besides[i], ARGV[tables + 2 * i], ARGV[charges + 3 * (of_period + i - 1)])
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[3], expires, ARGV[2])
return {'OK', now, ''}
