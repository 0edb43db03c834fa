-- Tells the door an organization's version; only ever upwards. A missing state is made only for an organization that never
-- had one: where it was lost, making it would read as "nothing used".
-- KEYS: 1 organization, 2 shard   ARGV: 1 version, 2 epoch for a shard without one, 3 "1" for a fresh organization
local version = given(ARGV[1], 'version')
local held = redis.call('HGET', KEYS[1], 'v')
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not held and ARGV[3] ~= '1' then return 'LOST' end
if not epoch then redis.call('HSET', KEYS[2], 'epoch', ARGV[2]) end
if held and whole(held) >= version then return 'KNOWN' end
redis.call('HSET', KEYS[1], 'v', text(version))
return 'PUSHED'
