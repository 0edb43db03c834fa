-- What a period's usage costs, from quantities alone: the tables of plans/cap_table.py, packed as doubles. First the cap, then
-- per meter: lines, maximum, segments, and per segment: start, base, num, den. The fields of the meters' counters stand in
-- ARGV in the same order, settled and reserved, after their number.
local GRAINS, ROW = 10000000, 32
local unpack_doubles, min = struct.unpack, math.min

-- Saturates at LARGEST, above every cap; until then all products are exact.
local function segment_cost(over, base, num, den)
  if den < 0 then return base + ceil(over / -den) * num end
  local steps = floor(over / den)
  local product = steps * num
  if product > LARGEST then return LARGEST end
  return base + product + ceil((over - steps * den) * num / den)
end

-- Counters of the call's own meter and, under a cap, of all that have a price: one command.
local function read_counters(usage, meter, reserved_field, at)
  if ARGV[at] == '' then return redis.call('HMGET', usage, meter, reserved_field) end
  return redis.call('HMGET', usage, meter, reserved_field, unpack(ARGV, at + 2, at + 1 + 2 * tonumber(ARGV[at + 1])))
end

-- Whether usage costs more than the cap with `more` units of the call's meter. The dearer of both sums counts: exact amounts,
-- and lines rounded half up as statements do. What is `returned` at this moment no longer counts.
local function cap_is_passed(at, held, meter, more, usage, returned)
  local tables = ARGV[at]
  local cap, place = unpack_doubles('>d', tables)
  local exact, rounded = 0, 0
  for i = 2, 2 * tonumber(ARGV[at + 1]), 2 do
    local settled, reserved = held[i + 1], held[i + 2]
    local units, waiting = settled and whole(settled) or 0, reserved and whole(reserved) or 0
    for _, r in ipairs(returned) do
      if r.usage == usage and r.meter == ARGV[at + i] then waiting = math.max(0, waiting - r.units) end
    end
    units = units + waiting + (ARGV[at + i] == meter and more or 0)

    local lines, maximum, segments
    lines, maximum, segments, place = unpack_doubles('>ddd', tables, place)
    local after, found = place + segments * ROW, nil
    while place < after and unpack_doubles('>d', tables, place) < units do
      found, place = place, place + ROW
    end
    if found then
      local start, base, num, den = unpack_doubles('>dddd', tables, found)
      local cost = min(maximum, segment_cost(units - start, base, num, den))
      exact = exact + cost
      if cost > 0 then rounded = rounded + floor((cost + lines * GRAINS / 2) / GRAINS) * GRAINS end
    end
    place = after
  end
  return exact > cap or rounded > cap
end
