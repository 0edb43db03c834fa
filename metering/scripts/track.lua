-- Usage reported afterwards, already sized: claimed by its caller's id, appended, counted; always recorded, whatever the quota.
-- A batch is checked whole before its first write. KEYS: 1 shard, 2 stream, then per event: organization, usage, claim
-- ARGV: 1 events, 2 life of a claim (ms), then per event: meter, units (of a maximum with "^" in front), usage expiry (ms), event,
--       tokens of a limited day ("d20778:12", '' none): they close the day's door from then on
local function sized(units)
  if string.sub(units, 1, 1) == '^' then return whole(string.sub(units, 2)), true end
  return whole(units), false
end
-- The usage key of the day beside that of the period, and the tokens that count there.
local function of_day(usage, word)
  local day, tokens = string.match(word, '^(d%d+):(%d+)$')
  if day then return (string.gsub(usage, '[^:]+$', day)), tokens end
end
local shard = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
local seq = whole(shard[2] or '0')
local claim_life = whole(ARGV[2]) and ARGV[2]
local verdicts, claimed, totals = {}, {}, {}
for i = 1, tonumber(ARGV[1]) do
  local k, a = 3 * i, 5 * i - 2
  local usage, claim, counter = KEYS[k + 1], KEYS[k + 2], KEYS[k + 1] .. '/' .. ARGV[a]
  local version = redis.call('HGET', KEYS[k], 'v')
  local total = totals[counter] or whole(redis.call('HGET', usage, ARGV[a]) or '0') + whole(redis.call('HGET', usage, 'r' .. ARGV[a]) or '0')
  local units, is_maximum = sized(ARGV[a + 1])
  local after = is_maximum and math.max(total, units) or total + units
  whole(ARGV[a + 2])
  local today, tokens = of_day(usage, ARGV[a + 4])
  local of_today = today and whole(redis.call('HGET', today, '0') or '0') + whole(tokens) or 0
  if not version or not shard[1] then
    verdicts[i] = 'nostate'
  elseif claimed[claim] or redis.call('EXISTS', claim) == 1 then
    verdicts[i] = 'duplicate'
  elseif after > LARGEST or of_today > LARGEST then
    verdicts[i] = 'out_of_range'
  else
    verdicts[i], claimed[claim], totals[counter] = 'accepted', true, after
  end
end
for i, verdict in ipairs(verdicts) do
  if verdict == 'accepted' then
    local k, a = 3 * i, 5 * i - 2
    seq = seq + 1
    redis.call('XADD', KEYS[2], '*', 'e', ARGV[a + 3], 'q', shard[1] .. ':' .. text(seq))
    redis.call('HINCRBY', KEYS[1], 'seq', 1)
    redis.call('SET', KEYS[k + 2], '1', 'PX', claim_life)
    local fresh = redis.call('EXISTS', KEYS[k + 1]) == 0
    local units, is_maximum = sized(ARGV[a + 1])
    if is_maximum then units = math.max(0, units - whole(redis.call('HGET', KEYS[k + 1], ARGV[a]) or '0')) end
    redis.call('HINCRBY', KEYS[k + 1], ARGV[a], text(units))
    if fresh then redis.call('PEXPIREAT', KEYS[k + 1], ARGV[a + 2]) end
    local today, tokens = of_day(KEYS[k + 1], ARGV[a + 4])
    if today then
      redis.call('HINCRBY', today, '0', tokens)
      redis.call('PEXPIRE', today, 172800000)
    end
  end
end
return verdicts
