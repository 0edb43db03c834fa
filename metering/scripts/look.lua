-- What admission would say now, without a trace: its keys and arguments, its replies.
is_dry = true
return admit(KEYS, ARGV)
