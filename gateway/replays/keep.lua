-- Stores an answer and makes room for it: what is nearest to its end leaves first, of the organization, then of all.
-- KEYS: 1 answer, 2 index of all, 3 index of the organization, 4 bytes   ARGV: 1 prefix, 2 organization, 3 name, 4 value,
--       5 life (s), 6 most bytes of the organization, 7 of all
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local size = #ARGV[4] + 400 -- and what Redis and the indexes need for it

local function forget(member)
  local org, name, bytes = string.match(member, '^(%d+):(%x+):(%d+)$')
  redis.call('ZREM', KEYS[2], member)
  redis.call('ZREM', ARGV[1] .. 'o:' .. org, member)
  redis.call('DEL', ARGV[1] .. 'a:' .. name)
  for _, whose in ipairs({'all', org}) do
    if redis.call('HINCRBY', KEYS[4], whose, -tonumber(bytes)) <= 0 then redis.call('HDEL', KEYS[4], whose) end
  end
end

local function make_room(index, whose, most)
  for _ = 1, 50 do
    if tonumber(redis.call('HGET', KEYS[4], whose) or '0') + size <= most then return true end
    local oldest = redis.call('ZRANGE', index, 0, 0)[1]
    if not oldest then
      redis.call('HDEL', KEYS[4], whose) -- an index was evicted: count anew
      return size <= most
    end
    forget(oldest)
  end
  return false
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 20)) do forget(member) end
if not make_room(KEYS[3], ARGV[2], tonumber(ARGV[6])) then return 0 end
if not make_room(KEYS[2], 'all', tonumber(ARGV[7])) then return 0 end
local member = string.format('%s:%s:%d', ARGV[2], ARGV[3], size)
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
if redis.call('ZADD', KEYS[2], now + tonumber(ARGV[5]), member) == 1 then
  redis.call('ZADD', KEYS[3], now + tonumber(ARGV[5]), member)
  redis.call('HINCRBY', KEYS[4], 'all', size)
  redis.call('HINCRBY', KEYS[4], ARGV[2], size)
end
for i = 2, 4 do
  if redis.call('TTL', KEYS[i]) < tonumber(ARGV[5]) then redis.call('EXPIRE', KEYS[i], ARGV[5]) end
end
return 1
