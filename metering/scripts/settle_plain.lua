-- The usual end of a call in few steps: one charge, whose open reservation holds at least its true units; the same rules as below.
-- It only reads until all that is sure; what is not usual is left to what follows, which begins anew.
local function settle_plainly()
  if ARGV[5] ~= '1' or ARGV[6] ~= '0' or ARGV[7] ~= '0' then return end
  if call('EXISTS', KEYS[5]) == 1 or not call('ZSCORE', KEYS[4], ARGV[1]) then return end
  local usage, meter, event = KEYS[3], ARGV[8], ARGV[12]
  local field = 'r' .. meter
  local shard, counts = call('HMGET', KEYS[2], 'epoch', 'seq'), call('HMGET', usage, meter, field)
  if not shard[1] or not counts[2] or event == '' then return end
  local settled, waiting, seq = whole(counts[1] or '0'), whole(counts[2]), whole(shard[2] or '0') + 1
  local reserved, units = whole(ARGV[9]), whole(ARGV[10])
  if units > reserved or reserved > waiting or settled + waiting + units > LARGEST then return end

  local number = text(seq)
  call('XADD', KEYS[6], '*', 'e', event, 'q', shard[1] .. ':' .. number)
  call('HINCRBY', KEYS[2], 'seq', 1)
  if units > 0 then
    call('HSET', usage, meter, settled + units, field, waiting - reserved)
  else
    call('HSET', usage, field, waiting - reserved)
  end
  call('ZREM', KEYS[4], ARGV[1])
  call('SET', KEYS[5], '1', 'PX', 600000)
  return 'SETTLED ' .. number
end

local done = settle_plainly()
if done then return done end
