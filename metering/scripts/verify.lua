-- A call at somebody else's door, over when it is asked for: admitted and settled at once, and only once for its id. An id that
-- was charged before is only looked at.
-- KEYS: 1 stream, 2 settled marker, 3 claim, 4.. those of admit
-- ARGV: 1 life of a claim (ms), 2 event up to its id, 3 up to its time, 4 to its end, 5.. those of admit
local life = whole(ARGV[1])
local is_known = redis.call('EXISTS', KEYS[3]) == 1
is_dry = is_known
local keys, args = {}, {}
for i = 4, #KEYS do keys[i - 3] = KEYS[i] end
for i = 5, #ARGV do args[i - 4] = ARGV[i] end

local reply = admit(keys, args)
if is_known then reply[#reply + 1] = 'KNOWN' end
if is_dry or reply[1] ~= 'OK' then return reply end

local milliseconds = floor(now / 1000)
local time_of_id = format('%08x-%04x', floor(milliseconds / 65536), milliseconds % 65536)
local event = ARGV[2] .. time_of_id .. ARGV[3] .. text(now) .. ARGV[4]
-- A question has one charge of the period: the units and quotas of all stand behind the windows, their meters behind the cap's
-- tables. The call is over, so what is counted while a call is open is given back.
local charge, of_beside = 15 + 4 * tonumber(args[12]), tonumber(args[14])
local tables = charge + 3 * (1 + of_beside)
local rows = {
  (string.gsub(args[9], '#', day_name(now))), args[4], args[11], text(now), '1', args[14], '0',
  args[tables + 1 + 2 * of_beside], args[charge], args[charge], args[charge + 1], event,
}
for i = 1, of_beside do
  local meter, units = args[tables + 2 * i - 1], args[charge + 3 * i]
  for _, word in ipairs({meter, units, find(meter, '^%a') and '0' or units, '-1', ''}) do rows[#rows + 1] = word end
end
rows[#rows + 1] = ''
local settled = settle({keys[1], keys[2], keys[3], keys[4], KEYS[2], KEYS[1]}, rows)
if string.sub(settled, 1, 7) ~= 'SETTLED' then refuse('an admission was not settled') end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[1])
return reply
