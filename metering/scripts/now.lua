-- Redis keeps its time still while a script runs, so it is read once.
local now = clock()
