-- A reservation is a member "nonce:mode:charges" of the organization's sorted set, scored by its expiry; its charges are
-- "period:meter:units", joined by commas. Reads come first: `expired` looks, `give_back` writes what it found.
local function add_charges(parts, key, member)
  local mode, charges = string.match(member, '^%x+:(%a+):(.+)$')
  if not mode then refuse('reservation is damaged') end
  local prefix = string.gsub(key, ':res:', ':u:', 1) .. ':' .. mode .. ':'
  for charge in string.gmatch(charges .. ',', '(.-),') do
    local period, meter, units = string.match(charge, '^([^:]+):([^:]+):(%d+)$')
    if not period then refuse('reservation is damaged') end
    whole(redis.call('HGET', prefix .. period, 'r' .. meter) or '0')
    parts[#parts + 1] = {usage = prefix .. period, meter = meter, units = tonumber(units)}
  end
end

local function expired(key, now, most)
  local members, parts = redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, most), {}
  for _, member in ipairs(members) do add_charges(parts, key, member) end
  return members, parts
end

-- Less than was reserved is given back where the counter holds less (its hash expired or was rebuilt): never below 0.
local function reduce_reserved(usage, field, units)
  local held = whole(redis.call('HGET', usage, field) or '0')
  if held > 0 and units > 0 then redis.call('HINCRBY', usage, field, text(-math.min(held, units))) end
end

local function give_back(key, members, parts)
  for _, member in ipairs(members) do redis.call('ZREM', key, member) end
  for _, part in ipairs(parts) do reduce_reserved(part.usage, 'r' .. part.meter, part.units) end
end
