-- Puts, renews, changes or removes the mark of a request that is being carried out, where it is as expected.
-- KEYS: 1 mark   ARGV: 1 expected ('' none), 2 new ('' none), 3 life (ms)   Answers whether it was as expected, and what it was
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return {0, found} end
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
elseif found ~= '' then
  redis.call('DEL', KEYS[1])
end
return {1, found}
