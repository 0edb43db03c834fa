"""`python -m tests.billing.stripe.bad_day_beats CLOCK`: what beat would have a worker do for Stripe, again and again.

CLOCK is a file with seconds: so far ahead of the machine's clock this process lives. It ends when it is told to.
"""

import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import django
import structlog

PAUSE_SECONDS = 0.5


class Ahead:
    """In place of `datetime` in core.clock."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self, zone: tzinfo) -> datetime:
        return datetime.now(zone) + timedelta(seconds=int(self._file.read_text()))


def main() -> None:
    django.setup()
    from billing import tasks
    from core import clock

    vars(clock)["datetime"] = Ahead(Path(sys.argv[1]))
    log = structlog.get_logger(__name__)
    while True:
        for task in (tasks.stripe_usage, tasks.stripe_usage_ending, tasks.stripe_follow):
            try:
                task()
            except Exception as error:  # a task that fails is run again by the next beat
                log.warning("bad_day_task_failed", task=task.name, error=type(error).__name__)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
