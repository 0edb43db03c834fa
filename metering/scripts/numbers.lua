-- Whole numbers below 2^53 are exact in Lua; everything else is refused before the first write.
local LARGEST = 9007199254740991
local floor, ceil = math.floor, math.ceil

local function text(n)
  return string.format('%.0f', n)
end

local function refuse(what)
  error(redis.error_reply('FAREBOX ' .. what))
end

-- A counter as Redis holds it; absent is 0. HINCRBY would fail on what this refuses.
local function whole(value)
  if not value then return 0 end
  local n = tonumber(value)
  if not n or n < 0 or n > LARGEST or text(n) ~= value then refuse('counter is not a whole number') end
  return n
end

-- A whole number given by the caller.
local function given(value, name)
  local n = tonumber(value)
  if not n or n < 0 or n > LARGEST or text(n) ~= value then refuse('bad ' .. name) end
  return n
end
