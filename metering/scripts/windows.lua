-- Strict sliding windows: the current bucket and the BUCKETS whole ones before it, so that the sum contains every
-- half-open window that ends now. One string: last bucket (double), sum, current count, then the older counts,
-- newest first (u32 each). A bucket is seconds / BUCKETS wide; its number is exact because 3 * time < 2^53.
local WIDTH = 3000000 / BUCKETS
local pack, unpack4 = struct.pack, struct.unpack
local ZERO = '\0\0\0\0'

local function older_counts(key)
  local older = call('GETRANGE', key, 16, -1)
  if #older ~= BUCKETS * 4 then refuse('window is damaged') end
  return older
end

local function read_window(key, seconds, limit, weight, now)
  local w = {key = key, seconds = seconds, limit = limit, weight = weight, bucket = floor(now * 3 / (seconds * WIDTH)), sum = 0, count = 0}
  local head = call('GETRANGE', key, 0, 15)
  if #head == 0 then
    w.older = string.rep(ZERO, BUCKETS)
    return w
  end
  if #head ~= 16 then refuse('window is damaged') end
  local last, sum, count = unpack4('>dI4I4', head)
  local gone = w.bucket - last
  if gone <= 0 then -- also when the server's clock ran back: limiter time never does
    w.bucket, w.sum, w.count = last, sum, count
  elseif gone > BUCKETS then
    w.older = string.rep(ZERO, BUCKETS)
  else
    local older = older_counts(key)
    local kept = (BUCKETS - gone) * 4
    for at = kept + 1, BUCKETS * 4, 4 do
      sum = sum - unpack4('>I4', older, at)
    end
    w.sum = sum
    w.older = string.rep(ZERO, gone - 1) .. pack('>I4', count) .. string.sub(older, 1, kept)
  end
  return w
end

-- Counts as much as the call weighs: 1, or its tokens.
local function count_call(w)
  w.sum, w.count = w.sum + w.weight, w.count + w.weight
  if w.older then
    call('SET', w.key, pack('>dI4I4', w.bucket, w.sum, w.count) .. w.older, 'PX', w.seconds * 2000)
  else
    call('SETRANGE', w.key, 8, pack('>I4I4', w.sum, w.count))
  end
end

-- Seconds, rounded up, until the bucket that is `ahead` of the window's current one begins.
local function seconds_until(w, ahead, now)
  return ceil((ceil((w.bucket + ahead) * w.seconds * WIDTH / 3) - now) / 1000000)
end

-- Seconds until the call fits, when none is admitted meanwhile. Looks at eight buckets at a time until it is among them.
local function retry_after(w, now)
  local older, left, age = w.older or older_counts(w.key), w.sum + w.weight - w.limit, BUCKETS
  while age >= 8 do
    local a, b, c, d, e, f, g, h = unpack4('>I4I4I4I4I4I4I4I4', older, (age - 8) * 4 + 1)
    local eight = a + b + c + d + e + f + g + h
    if eight >= left then break end
    left, age = left - eight, age - 8
  end
  while age >= 1 do
    left = left - unpack4('>I4', older, age * 4 - 3)
    if left <= 0 then return seconds_until(w, BUCKETS + 1 - age, now) end
    age = age - 1
  end
  return seconds_until(w, BUCKETS + 1, now)
end
