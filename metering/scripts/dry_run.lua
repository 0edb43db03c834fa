-- While `is_dry`, commands that write are left out: what a script would decide, without a trace.
local server, is_dry = redis, false
local READS = {TIME = 1, EXISTS = 1, HGET = 1, HMGET = 1, GETRANGE = 1, SCARD = 1, ZCOUNT = 1, ZRANGE = 1, ZRANGEBYSCORE = 1, ZSCORE = 1}
local redis = {
  error_reply = server.error_reply,
  call = function(command, ...)
    if is_dry and not READS[command] then return 0 end
    return server.call(command, ...)
  end,
}
