-- One clock: the server's own, in microseconds. Tests put another part in its place.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
