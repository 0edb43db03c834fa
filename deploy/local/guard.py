"""Kills what a dead supervisor left behind. Run as a script; reads `+pid` and `-pid` lines from its standard input.

Direct children get the kernel's parent-death signal, but their workers do not, and some of them never look at their
parent. The end of the pipe means that the supervisor is gone, however it died.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 1.0  # servers that got the death signal close their files first


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    if groups:
        time.sleep(GRACE_SECONDS)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:  # already gone
            continue


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main()
