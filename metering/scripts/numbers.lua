-- Whole numbers below 2^53 are exact in Lua; everything else is refused before the first write.
local LARGEST = 9007199254740991
local call, floor, ceil, tonumber, find, format = redis.call, math.floor, math.ceil, tonumber, string.find, string.format

local function text(n)
  return format('%.0f', n)
end

local function refuse(what)
  error(redis.error_reply('FAREBOX ' .. what))
end

-- A text that Redis can add to, as a number; what HINCRBY would fail on is refused here.
local function whole(value)
  local n = find(value, '^[1-9]%d*$') and tonumber(value) or value == '0' and 0
  if not n or n > LARGEST then refuse('not a whole number') end
  return n
end
