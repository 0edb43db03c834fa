-- Moves the expiry of open reservations. KEYS: reservations, one per reservation   ARGV: 1 life, then the reservations
-- Answers 1 for each that was still open, else 0.
local now = clock()
local expires = text(now + whole(ARGV[1]))
local open = {}
for i, key in ipairs(KEYS) do
  open[i] = redis.call('ZSCORE', key, ARGV[i + 1]) and 1 or 0
end
for i, key in ipairs(KEYS) do
  if open[i] == 1 then redis.call('ZADD', key, 'XX', expires, ARGV[i + 1]) end
end
return open
