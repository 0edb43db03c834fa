-- A window counts what was reserved; the true weight is known when the call ends. The difference goes back to the sub-bucket
-- in which it was reserved, or is forgotten where that one has left the window; more than was reserved counts in the newest.
-- Reads come first: `weight_writes` looks and says what is to be written.
local function weight_writes(key, seconds, at, weight, actual)
  local head = redis.call('GETRANGE', key, 0, 15)
  if #head == 0 then return {} end
  if #head ~= 16 then refuse('window is damaged') end
  local last, sum, count = struct.unpack('>dI4I4', head)
  local age = last - floor(at * 3 / (seconds * 3000000 / BUCKETS))
  if actual > weight or age <= 0 then
    local change = math.max(-count, math.min(actual - weight, 4294967295 - sum))
    return {{8, struct.pack('>I4I4', sum + change, count + change)}}
  end
  if age > BUCKETS then return {} end
  local place = 12 + 4 * age
  local cell = redis.call('GETRANGE', key, place, place + 3)
  if #cell ~= 4 then refuse('window is damaged') end
  local held = struct.unpack('>I4', cell)
  local back = math.min(held, weight - actual)
  return {{place, struct.pack('>I4', held - back)}, {8, struct.pack('>I4', sum - back)}}
end
