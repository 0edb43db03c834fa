-- What a period's usage costs, from quantities alone: the tables of plans/cap_table.py, packed as doubles. First the cap, then
-- per meter: lines, maximum, segments, and per segment: start, base, num, den. `fields` names the meters' counters in the same
-- order, settled and reserved by turns, from `fields[before + 1]` on.
local GRAINS, HALF, ROW = 10000000, 5000000, 32
local unpack_doubles, min = struct.unpack, math.min

-- Saturates at LARGEST, above every cap; until then all products are exact.
local function segment_cost(over, base, num, den)
  if den < 0 then return base + ceil(over / -den) * num end
  local steps = floor(over / den)
  local product = steps * num
  if product > LARGEST then return LARGEST end
  return base + product + ceil((over - steps * den) * num / den)
end

-- Whether usage costs more than the cap with `more` units (by meter). `held`: the counters, those of `fields` from
-- `held[skipped + 1]` on. The dearer of both sums counts: exact amounts, and lines rounded half up as statements do.
local function cap_is_passed(tables, fields, before, held, skipped, more, usage, returned)
  local cap, at = unpack_doubles('>d', tables)
  local exact, rounded = 0, 0
  for i = 1, #fields - before, 2 do
    local name = fields[before + i]
    local units = counted(usage, name, held[skipped + i], held[skipped + i + 1], returned) + (more[name] or 0)

    local lines, maximum, segments
    lines, maximum, segments, at = unpack_doubles('>ddd', tables, at)
    local after, found = at + segments * ROW, nil
    while at < after and unpack_doubles('>d', tables, at) < units do
      found, at = at, at + ROW
    end
    if found then
      local start, base, num, den = unpack_doubles('>dddd', tables, found)
      local cost = min(maximum, segment_cost(units - start, base, num, den))
      exact = exact + cost
      if cost > 0 then rounded = rounded + floor((cost + lines * HALF) / GRAINS) * GRAINS end
    end
    at = after
  end
  return exact > cap or rounded > cap
end
