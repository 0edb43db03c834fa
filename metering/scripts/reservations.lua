-- A reservation is a member "nonce:mode:period:meter:units" of the organization's sorted set, scored by its expiry.
-- Reads come first: `expired` looks, `give_back` writes what it found.
local function expired(key, now, most)
  local found = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, most)
  local prefix = string.gsub(key, ':res:', ':u:', 1) .. ':'
  for i, member in ipairs(found) do
    local mode, period, meter, units = string.match(member, '^%x+:(%a+):([^:]+):([^:]+):(%d+)$')
    if not mode then refuse('reservation is damaged') end
    local usage = prefix .. mode .. ':' .. period
    whole(redis.call('HGET', usage, 'r' .. meter) or '0')
    found[i] = {member = member, usage = usage, meter = meter, units = tonumber(units)}
  end
  return found
end

-- Less than was reserved is given back where the counter holds less (its hash expired or was rebuilt): never below 0.
local function reduce_reserved(usage, field, units)
  local held = whole(redis.call('HGET', usage, field) or '0')
  if held > 0 and units > 0 then redis.call('HINCRBY', usage, field, text(-math.min(held, units))) end
end

local function give_back(key, found)
  for _, r in ipairs(found) do
    redis.call('ZREM', key, r.member)
    reduce_reserved(r.usage, 'r' .. r.meter, r.units)
  end
end
