"""R18: every task of payments is started by two beats at once and then delivered once more, for weeks and over a month's end:
each effect once. The tasks are the real ones; only their clock is the stand-in's.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db.models import Count

from billing import tasks
from billing.models import (
    PaymentEntry,
    Statement,
    StatementKind,
    StripeFinding,
    StripeItem,
    StripeUsage,
    UsageState,
)
from billing.stripe.usage import fill_usage
from plans import tasks as plan_tasks
from plans.models import Period
from tests.billing.stripe import town as t
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.counts import Record, parts, words
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.races import race

pytestmark = pytest.mark.django_db(transaction=True)
Task = Callable[[], object]
HOURLY: tuple[Task, ...] = (tasks.stripe_usage, tasks.stripe_usage_ending)
ALL: tuple[Task, ...] = (
    plan_tasks.roll_periods, tasks.finalise_due, tasks.stripe_usage_ending, tasks.stripe_usage, tasks.stripe_follow,
    tasks.collect, tasks.adjust_ended, tasks.expire_credits, tasks.stripe_lay_out, tasks.stripe_reconcile,
)  # fmt: skip
PAST_HOURS = (1, 5, 26)


class Beats:
    """Runs tasks at a moment: two at once, then again."""

    def __init__(self, first: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.first, self.run, self.past_hours, self.filled_again = first, 0, 0, 0
        self.at = first.at
        for module in (tasks, plan_tasks):
            monkeypatch.setattr(module, "now", lambda: self.at)

    def start(self, *due: Task) -> None:
        self.at = self.first.at
        for task in due:
            assert race(task, task).errors == []
            task()
            self.run += 3

    def fill_past(self, hours: int) -> None:
        """The roll-up of usage once more, as if that hour's task came now."""
        self.filled_again += fill_usage(at=self.at - timedelta(hours=hours))
        self.past_hours += 1


def done_twice() -> int:
    """Effects that are there more than once: rows about one thing."""
    statements = Statement.objects.filter(kind=StatementKind.PERIOD)
    return sum(
        rows.values(*about).annotate(times=Count("pk")).filter(times__gt=1).count()
        for rows, about in (
            (statements.order_by(), ("period",)),
            (StripeItem.objects.order_by(), ("statement", "period", "kind", "text")),
            (PaymentEntry.objects.order_by(), ("invoice", "kind", "reference")),
            (StripeUsage.objects.order_by(), ("period", "meter", "hour", "sequence")),
            (Period.objects.order_by(), ("subscription", "starts_at")),
        )
    )


def end_month(beats: Beats, town: list[Payer]) -> None:
    first = beats.first
    ends_at = Period.objects.filter(starts_at__lte=first.at, ends_at__gt=first.at).latest("ends_at").ends_at
    for moment in (-2, 50, 70, 200):
        first.pass_time(ends_at + timedelta(minutes=moment) - first.at)
        t.hear(town if moment > 0 else [])
        beats.start(*ALL)


@pytest.mark.parametrize("part", parts("R18", usual=2, size=6), ids=words)
def test_two_beats_and_redelivered_tasks_have_each_effect_once(
    stripe_standin: Standin, part: range, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    chance, town = random.Random(part.start), t.settle(stripe_standin, len(part))
    beats, used = Beats(town[0], monkeypatch), [0] * len(town)
    for _ in range(12):
        for number, payer in enumerate(town):
            t.use(payer, quantity := chance.randrange(1_000, 12_000), payer.at)
            used[number] += quantity
        beats.start(*HOURLY)
        for hours in PAST_HOURS:
            beats.fill_past(hours)
        town[0].pass_time(timedelta(hours=49))
    end_month(beats, town)

    at: datetime = town[0].at
    twice = done_twice() + beats.filled_again + sum(t.counted_otherwise(payer) for payer in town)
    equal = sum(t.last_charge(payer) == t.wanted_charge(used[number]) for number, payer in enumerate(town))
    stated = Statement.objects.filter(kind=StatementKind.PERIOD, total_minor__gt=0).count()
    counts = {
        "tasks": beats.run, "past_hours": beats.past_hours, "doubled": twice, "statements": stated, "equal": equal,
        "invoices": len(town),
    }  # fmt: skip
    for name, count in counts.items():
        record_property(name, count)
    assert not StripeUsage.objects.exclude(state=UsageState.SENT).exists()
    assert list(StripeFinding.objects.values_list("text", flat=True)) == []
    assert (twice, stated, equal) == (0, len(town), len(town))
    assert sum(t.lines_differ(payer, at) for payer in town) == 0
