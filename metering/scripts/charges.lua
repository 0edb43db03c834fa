-- Units that expired reservations of one counter held: they no longer count.
local function returned_units(returned, usage, meter)
  local units = 0
  for _, part in ipairs(returned) do
    if part.usage == usage and part.meter == meter then units = units + part.units end
  end
  return units
end

-- Settled and reserved units of one counter.
local function counted(usage, meter, settled, waiting, returned)
  waiting = whole(waiting or '0')
  if returned[1] then waiting = math.max(0, waiting - returned_units(returned, usage, meter)) end
  return whole(settled or '0') + waiting
end

local function day_name(now)
  return 'd' .. text(floor(now / 86400000000))
end

-- The usage key of a counter beside those of the period: of a meter in the day that holds this moment, of a name that starts
-- with a letter among the calls that are open.
local function beside(usage, meter, now)
  return (string.gsub(usage, '[^:]+$', find(meter, '^%a') and 'open' or day_name(now)))
end
