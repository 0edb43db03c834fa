"""Several customers who pay by card, in the stand-in's time: their days with usage, and the invoices of a month's end."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from billing.models import StripeUsage
from billing.stripe.client import plain, stripe_client
from billing.stripe.compare import compare_invoice
from core.clock import to_micros
from core.ids import event_id, new_nonce
from metering.events import Event
from metering.services import ingest_history
from plans.models import Meter, Period
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
INCLUDED, FEE_MINOR = 50_000, 4_900  # Starter's


def settle(standin: Standin, size: int) -> list[Payer]:
    """So many customers on Starter, the first hours of whose first paid month have passed."""
    first = Payer.start(standin, "Citizen 0")
    town = [first, *(Payer.join(standin, f"Citizen {number}") for number in range(1, size))]
    for payer in town:
        payer.subscribe()
    first.pass_time(14 * DAY + 2 * HOUR)
    hear(town)
    return town


def hear(town: Iterable[Payer]) -> None:
    for payer in town:
        payer.hear()


def use(payer: Payer, quantity: int, at: datetime) -> None:
    """Calls of this moment."""
    rows = Period.objects.for_organization(payer.organization)
    period, at_us = rows.get(starts_at__lte=at, ends_at__gt=at), to_micros(at)
    event = Event(
        id=event_id(at_us, new_nonce()), occurred_at_us=at_us, received_at_us=at_us, mode="live", door="ingest",
        organization_id=payer.organization.pk, meter_id=Meter.objects.get(slug="api_calls").pk, period_id=period.pk,
        quantity=Decimal(quantity),
    )  # fmt: skip
    assert ingest_history([event], at=at).stored == 1


def last_charge(payer: Payer) -> tuple[int, str]:
    """What Stripe's newest invoice asks for, and its state."""
    invoice = plain(stripe_client().v1.invoices.list({"customer": payer.customer_id, "limit": 1}).data[0])
    return invoice["total"], invoice["status"]


def wanted_charge(used: int) -> tuple[int, str]:
    """Worked out by hand: 0.001 USD for each call above the included ones, and the fee of the next month."""
    above = Decimal(max(used - INCLUDED, 0)) / 10
    return int(above.quantize(Decimal(1), "ROUND_HALF_UP")) + FEE_MINOR, "paid"


def lines_differ(payer: Payer, at: datetime) -> int:
    """Lines of all of the customer's invoices that are not as on our statements."""
    pairs = [pair for invoice in payer.invoices for pair in compare_invoice(invoice, at=at)]
    return sum(pair.ours is not None and not pair.is_equal for pair in pairs)


def counted_otherwise(payer: Payer) -> int:
    """Hours of usage that Stripe's meter counted otherwise than the rows that it was told say, each once."""
    rows = StripeUsage.objects.filter(organization=payer.organization).select_related("meter")
    told: dict[datetime, int] = {}
    for row in rows:
        told[row.hour] = told.get(row.hour, 0) + row.value
    if not told:
        return 0
    asked = {
        "customer": payer.customer_id, "start_time": int(min(told).timestamp()), "limit": 100,
        "end_time": int((max(told) + HOUR).timestamp()), "value_grouping_window": "hour",
    }  # fmt: skip
    meter = rows[0].meter.stripe_id
    found = stripe_client().v1.billing.meters.event_summaries.list(meter, asked).auto_paging_iter()  # type: ignore[arg-type]
    at_stripe = {summary.start_time: int(summary.aggregated_value) for summary in found}
    wanted = {int(hour.timestamp()): value for hour, value in told.items() if value}
    return sum(at_stripe.get(hour, 0) != wanted.get(hour, 0) for hour in at_stripe.keys() | wanted.keys())
