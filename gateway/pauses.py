"""What keeps a worker's pauses short: one call in a hundred must not wait for housekeeping."""

import gc
import sys

SWITCH_SECONDS = 0.0005


def keep_pauses_short() -> None:
    """Once, when all is loaded. What was imported lives as long as the process: a collection need not walk through it again and
    again. And the thread that reads the catalogue each second gives the interpreter back after half a millisecond, not five."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
