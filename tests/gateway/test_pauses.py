import gc
import sys

from gateway.pauses import SWITCH_SECONDS, keep_pauses_short


def test_housekeeping_leaves_what_was_imported_alone_and_threads_give_way_soon() -> None:
    before = sys.getswitchinterval()
    try:
        keep_pauses_short()

        assert gc.get_freeze_count() > 10_000
        assert sys.getswitchinterval() == SWITCH_SECONDS
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
