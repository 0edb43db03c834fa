-- What Farebox's gateway does for one call, for nginx: find the key in the worker's cache, admit by Farebox's own script, pass
-- the call on, settle by Farebox's own script. Nothing is left out that the comparison is about, and nothing is made slow.
local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local redis = require "nginx.redis"

local byte, floor, format, sub, tonumber = string.byte, math.floor, string.format, string.sub, tonumber
ffi.cdef "unsigned char *SHA256(const unsigned char *text, size_t length, unsigned char *digest);"
local digest = ffi.new("unsigned char[32]")
local RECORDS, RECORD_SECONDS = 50000, 60
local metered, cache = {}, nil
local records_file, redis_host, redis_port, redis_password

function metered.start(file, host, port, password)
  records_file, redis_host, redis_port, redis_password = file, host, port, password
  cache = assert(lrucache.new(RECORDS))
end

-- Records live for a minute, then they are read again: from the file in the place of a database.
local function find(key)
  ffi.C.SHA256(key, #key, digest)
  local hash = ffi.string(digest, 32)
  local record = cache:get(hash)
  if record then return record end
  record = dofile(records_file)[hash]
  if record then cache:set(hash, record, RECORD_SECONDS) end
  return record
end

local function ask(run, call)
  local client = redis:new()
  client:set_timeout(2000)
  local ok, fault = client:connect(redis_host, redis_port)
  if not ok then return nil, fault end
  if redis_password ~= "" and client:get_reused_times() == 0 then client:auth(redis_password) end
  local reply, refusal = run(client, call)
  if reply then client:set_keepalive(60000, 1024) end
  return reply, refusal
end

local function refuse(status, why)
  if why then ngx.log(ngx.ERR, why) end
  ngx.status = status
  ngx.say('{"status":', status, '}')
  return ngx.exit(ngx.HTTP_OK)
end

-- The names of a call: 74 random bits (the first one set) for the reservation and, with the time of the admission, for the
-- event.
local function name(call, random)
  local high = 2048 + tonumber(sub(random, 1, 3), 16) % 2048
  call.high, call.nonce = high, format("%x", high * 4) .. sub(random, 4, 18)
  call.request_id = "req_" .. sub(random, 11)
  call.random = random
end

local function name_event(call, at)
  local ms, random = floor(at / 1000), call.random
  call.at = format("%.0f", at)
  call.event_id = format("%08x-%04x-7%03x-8%s-%s", floor(ms / 65536), ms % 65536, call.high, sub(random, 4, 6), sub(random, 7, 18))
end

-- A number of eight bytes at this place of a text.
local function number(text, at)
  local a, b, c, d, e, f, g, h = byte(text, at, at + 7)
  return ((((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f) * 256 + g) * 256 + h
end

-- What admit.lua replies: the usual admission in one packed text, all else in a table. Nil and why not, where it is none.
local function read(reply)
  if type(reply) == "string" then return number(reply, 1), number(reply, 17), number(reply, 25) end
  if reply[1] ~= "OK" then return nil, reply[1] end
  local at = 8 + reply[7]
  return reply[2], reply[at], reply[at + 1]
end

-- The first window alone is told: the benchmark's plan has one.
local function tell_limits(record, left, reset)
  local header = ngx.header
  if reset > record.window_seconds then reset = record.window_seconds end
  header["RateLimit-Policy"] = record.policy
  header["RateLimit"] = format('"minute";r=%d;t=%d', left, reset)
  header["X-RateLimit-Limit"] = record.window_limit
  header["X-RateLimit-Remaining"] = left
  header["X-RateLimit-Reset"] = reset
end

-- The admitted call, or an answer that says why not.
function metered.admit()
  local var = ngx.var
  local credentials = var.http_authorization
  local key = credentials and sub(credentials, 1, 7) == "Bearer " and sub(credentials, 8) or var.http_x_api_key
  local record = key and find(key)
  if not record then return refuse(401) end
  local call = { record = record, started = ngx.now() }
  name(call, var.request_id)
  local reply, fault = ask(record.admit, call)
  if not reply then return refuse(503, fault) end
  local at, left, reset = read(reply)
  if not at then return left == "REFUSED" and refuse(429) or refuse(503, left) end
  name_event(call, at)
  tell_limits(record, left, reset)
  ngx.header["X-Request-Id"] = call.request_id
  ngx.header["Farebox-Units"] = record.units
  var.organization, var.plan, var.key_id, var.mode = record.organization, record.plan, record.key_id, record.mode_name
  var.call_id = call.request_id
  ngx.ctx.call = call
  return call
end

local function settle(call, status, size)
  call.size = format("%d", size)
  ngx.update_time()
  call.duration = format("%.0f", (ngx.now() - call.started) * 1000000)
  if status ~= 200 then return nil, "the benchmark's upstream answers 200, not " .. status end
  local reply, fault = ask(call.record.settle, call)
  if not reply then return nil, fault end
  if sub(reply, 1, 7) ~= "SETTLED" and reply ~= "DONE" then return nil, reply end
  return true
end

-- Admit, ask the upstream, settle, then answer.
function metered.answer(prefix)
  local call = metered.admit()
  ngx.req.read_body()
  local answer = ngx.location.capture(prefix .. sub(ngx.var.uri, 8), { share_all_vars = true, always_forward_body = true })
  local settled, fault = settle(call, answer.status, #answer.body)
  if not settled then return refuse(502, fault) end
  for header, value in pairs(answer.header) do ngx.header[header] = value end
  ngx.status = answer.status
  ngx.print(answer.body)
end

local function settle_in_timer(_, call, status, size)
  local settled, fault = settle(call, status, size)
  if not settled then ngx.log(ngx.ERR, "lost: ", fault) end
end

-- After the answer: nothing can wait for Redis here, so a timer does.
function metered.settle_later()
  local call = ngx.ctx.call
  if not call or ngx.status == 499 then return end -- the load's last calls, which it leaves: their reservations expire
  local ok, fault = ngx.timer.at(0, settle_in_timer, call, ngx.status, tonumber(ngx.var.body_bytes_sent))
  if not ok then ngx.log(ngx.ERR, "lost: ", fault) end
end

return metered
