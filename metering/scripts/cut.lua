-- Reads counters, the number of the last event and of the last correction at one moment. KEYS: 1 shard, 2.. usage
local reply = {redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'corrected')}
for k = 2, #KEYS do reply[k] = redis.call('HGETALL', KEYS[k]) end
return reply
