"""R17: a month of usage told to a Stripe that loses answers after their effect, on two days all of them: charged once each.

Rows whose answers were lost on those days are older than Stripe's memory of identifiers (24 hours) before the next attempt.
"""

import random
from datetime import timedelta

import pytest

from billing.models import StripeUsage, UsageState
from billing.statements import finalise_due
from billing.stripe.items import send_items
from billing.stripe.sender import send_usage
from billing.stripe.usage import fill_ending, fill_usage
from plans.models import Period
from plans.services import roll_periods
from tests.billing.stripe import town as t
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.counts import Record, parts, words
from tests.billing.stripe.payer import Payer

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = "/v1/billing/meter_events$"
ALL_LOST = (6, 15)  # days on which no answer comes through
KINDS = {"timeout_after": 0.2, "error_after": 0.15, "timeout_before": 0.1, "error": 0.05, "rate_limit": 0.05}


def beat(payer: Payer, *, times: int = 1) -> int:
    """What beat does; how many rows of unknown fate were decided by what Stripe had counted."""
    decided = 0
    for number in range(times):
        at = payer.at + number * timedelta(minutes=20)
        fill_usage(at=at)
        decided += send_usage(at=at).counts["compared"]
    return decided


def bad_day(standin: Standin, day: int) -> None:
    """Some requests lose their answer or fail; on two days all answers are lost, before or after the effect."""
    standin.control("faults", "DELETE")
    if day in ALL_LOST:
        standin.fault("timeout_after", "POST", EVENTS, times=None, chance=0.7)
        standin.fault("timeout_before", "POST", EVENTS, times=None)
        return
    for kind, chance in KINDS.items():
        standin.fault(kind, "POST", EVENTS, times=None, chance=chance)


def end_month(standin: Standin, town: list[Payer]) -> None:
    """The faults are over; what beat does around the end of everybody's period, and Stripe's invoices."""
    first = town[0]
    ends_at = Period.objects.filter(starts_at__lte=first.at, ends_at__gt=first.at).latest("ends_at").ends_at
    first.pass_time(ends_at - first.at - timedelta(minutes=2))
    beat(first, times=3)
    first.pass_time(timedelta(minutes=50))
    roll_periods(at=first.at)
    t.hear(town)
    finalise_due(at=first.at)
    fill_ending(at=first.at)
    send_usage(at=first.at)
    send_items(at=first.at)
    first.pass_time(2 * t.HOUR)
    t.hear(town)


@pytest.mark.parametrize("part", parts("R17", usual=2, size=12), ids=words)
def test_a_month_of_lost_answers_charges_each_call_once(
    stripe_standin: Standin, part: range, record_property: Record
) -> None:
    chance, town = random.Random(part.start), t.settle(stripe_standin, len(part))
    used, lost, late = [0] * len(town), 0, 0
    for day in range(28):
        bad_day(stripe_standin, day)
        for number, payer in enumerate(town):
            t.use(payer, quantity := chance.randrange(1_000, 9_000), payer.at)
            used[number] += quantity
        late += beat(town[0])
        faults = stripe_standin.control("faults")["faults"]
        lost += sum(fault["struck"] for fault in faults if fault["kind"].endswith("_after"))
        town[0].pass_time(timedelta(hours=25) if day in ALL_LOST else t.DAY)
    stripe_standin.control("faults", "DELETE")
    end_month(stripe_standin, town)

    rows = StripeUsage.objects.all()
    twice = sum(t.counted_otherwise(payer) for payer in town)
    equal = sum(t.last_charge(payer) == t.wanted_charge(used[number]) for number, payer in enumerate(town))
    counts = {
        "rows": rows.count(),
        "lost": lost,
        "late": late,
        "twice": twice,
        "invoices": len(town),
        "equal": equal,
    }
    for name, count in counts.items():
        record_property(name, count)
    assert not rows.exclude(state=UsageState.SENT).exists()
    assert (twice, equal) == (0, len(town))
    assert lost > len(town)
    assert late >= len(town)
    assert sum(t.lines_differ(payer, town[0].at) for payer in town) == 0
