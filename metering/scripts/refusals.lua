-- Refusals are counters per minute, not ledger rows. Kept a week in case nobody drains them.
local function refusal_counter(prefix, now, field)
  local key = prefix .. text(floor(now / 60000000))
  whole(redis.call('HGET', key, field) or '0')
  return key
end

local function count_refusal(key, field, by)
  if redis.call('HINCRBY', key, field, by) == tonumber(by) then redis.call('PEXPIRE', key, 604800000) end
end
