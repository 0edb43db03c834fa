"""R13: what is shown before an upgrade is what Stripe's invoice of it charges, for random fees, moments and usage.

Customers climb a ladder of price lists, one upgrade after the other; each is a case: a random moment of the month that runs,
with random usage before it. What was charged is read from the newest invoice at Stripe, not from our rows.
"""

import random
from datetime import timedelta
from decimal import Decimal

import pytest

from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.changes import change_paid_plan, upgrade_price
from billing.stripe.client import plain, stripe_client
from core.clock import now, to_micros
from core.ids import event_id, new_nonce
from metering.events import Event
from metering.services import ingest_history
from plans.models import Meter, Period, PlanVersion
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.counts import Record, parts, words
from tests.billing.stripe.payer import Payer
from tests.factories import create_plan

pytestmark = pytest.mark.django_db(transaction=True)
STEPS, CLIMBERS = 20, 5  # more would bring the clock to the year in which the card expires
MINUTE, MONTH = 60, 27 * 86_400  # a month is never over at 27 days


def ladder(chance: random.Random, steps: int) -> list[PlanVersion]:
    """Price lists of which each is dearer a month than the one before; some are paid by the year."""
    fees = sorted(chance.sample(range(99, 60_000, 2), steps + 1))
    return [
        create_plan(
            f"step-{number:02}",
            fee_minor=fee if number % 4 else 12 * fee + chance.randrange(12),
            interval="month" if number % 4 else "year",
            included=Decimal(chance.randrange(1, 100_000)),
            unit_price=Decimal(chance.randrange(1, 5_000)) / 1_000_000,
        )
        for number, fee in enumerate(fees, start=1)
    ]


def use(payer: Payer, period: Period, quantity: int, at_us: int) -> None:
    event = Event(
        id=event_id(at_us, new_nonce()), occurred_at_us=at_us, received_at_us=at_us, mode="live", door="ingest",
        organization_id=payer.organization.pk, meter_id=Meter.objects.get().pk, period_id=period.pk,
        quantity=Decimal(quantity),
    )  # fmt: skip
    assert ingest_history([event], at=payer.at).stored == 1


def climb(payer: Payer, to: PlanVersion, chance: random.Random) -> str:
    """One upgrade; '' when the invoice charges what was shown, else both."""
    payer.pass_time(timedelta(seconds=chance.randrange(MINUTE, MONTH)))
    at = payer.at.replace(microsecond=0)
    row = payer.row
    period = row.subscription.periods.select_related("version").get(starts_at__lt=at, ends_at__gt=at)
    included = int(period.version.components.get().included)
    if used := chance.choice((0, chance.randrange(1, included + 1), included + chance.randrange(50_000))):
        middle = period.starts_at + (at - period.starts_at) * chance.random()
        use(payer, period, used, to_micros(middle))
    shown = upgrade_price(row, to, at=at)
    change_paid_plan(organization=payer.organization, version=to, by=None, at=at)
    invoice = plain(stripe_client().v1.invoices.list({"customer": payer.customer_id, "limit": 1}).data[0])
    charged = (invoice["total"], invoice["amount_paid"], invoice["status"])
    # Where a yearly fee went back, Stripe keeps what was left of it for the customer, and pays from that first.
    price, kept = shown.fee_minor - shown.credit_minor, -invoice["starting_balance"]
    wanted = (price, max(price - kept, 0), "paid")
    return "" if charged == wanted else f"{row.version} to {to} at {at}: shown {wanted}, charged {charged}"


@pytest.mark.parametrize("part", parts("R13", usual=10, size=STEPS * CLIMBERS), ids=words)
def test_what_was_shown_is_charged(stripe_standin: Standin, part: range, record_property: Record) -> None:
    chance, wrong, done = random.Random(part.start), list[str](), 0
    lists = ladder(chance, min(STEPS, len(part)))
    apply_catalogue(at=now())
    while done < len(part):
        payer = Payer.join(stripe_standin, f"Climber {done}")
        payer.subscribe(lists[0].plan.slug)
        for to in lists[1 : 1 + len(part) - done]:
            wrong += filter(None, [climb(payer, to, chance)])
            done += 1
        payer.leave()
    record_property("changes", done)
    record_property("to_the_cent", done - len(wrong))
    assert wrong == []
