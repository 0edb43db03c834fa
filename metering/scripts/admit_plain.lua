-- The usual call in few steps: an open door, one charge, nothing to give back, room everywhere; the same rules as below. Where there
-- is a spend cap it wants `passes`, which only those calls have to make (spend.lua).
-- It only reads until all that is sure; what is not usual is left to what follows, which begins anew. A look stops there.
-- The reply is packed, which costs Redis a tenth of a table: time, used, per window what remains and the seconds until all of it does
-- (8 bytes each), then the epoch.
local function admit_plainly(KEYS, ARGV, is_look, passes)
  local of_windows = tonumber(ARGV[12])
  local charge, at_once = 15 + 4 * of_windows, tonumber(ARGV[8])
  local tables = ARGV[charge + 3]
  if ARGV[7] ~= '' or ARGV[13] ~= '1' or ARGV[14] ~= '0' or (tables ~= '') ~= (passes ~= nil) then return end
  local version, epoch = call('HGET', KEYS[1], 'v'), call('HGET', KEYS[2], 'epoch')
  if not version or not epoch or tonumber(version) > tonumber(ARGV[4]) then return end
  if now < tonumber(ARGV[5]) or now >= tonumber(ARGV[6]) then return end

  local windows, held = {}, KEYS[4]
  for i = 1, of_windows do
    local at = 11 + 4 * i
    local w = read_window(KEYS[6 + i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), now)
    if w.sum + w.weight > w.limit then return end
    windows[i] = w
  end
  if at_once >= 0 and call('ZCOUNT', held, '(' .. text(now), '+inf') >= at_once then return end
  local first = call('ZRANGE', held, 0, 0, 'WITHSCORES')[2]
  if first and tonumber(first) <= now then return end
  local usage, field, units = KEYS[3], ARGV[charge + 5], whole(ARGV[charge])
  local counts = call('HMGET', usage, unpack(ARGV, charge + 4))
  if not is_look and not counts[1] and not counts[2] then return end
  local used = whole(counts[1] or '0') + whole(counts[2] or '0') + units
  local quota, expires = tonumber(ARGV[charge + 1]), now + tonumber(ARGV[10])
  if used > LARGEST or (quota >= 0 and used > quota) then return end
  if tables ~= '' and passes(tables, ARGV, charge + 5, counts, 2, {[ARGV[charge + 4]] = units}, usage, {}) then return end

  local reply = pack('>I8I8', now, used)
  for i = 1, of_windows do
    local w = windows[i]
    reply = reply .. pack('>I8I8', w.limit - w.sum - w.weight, seconds_until(w, BUCKETS + 1, now))
  end
  if is_look then return reply .. epoch end

  if not first then call('SCARD', KEYS[5]) end
  for i = 1, of_windows do count_call(windows[i]) end
  call('HINCRBY', usage, field, units)
  call('ZADD', held, expires, ARGV[9])
  if not first then call('SADD', KEYS[5], ARGV[1]) end
  return reply .. epoch
end
