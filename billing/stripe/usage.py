"""Outbox of usage: what Stripe has to be told, as whole-number differences of each period's quantities (docs/stripe.md).

A row says what was added since the rows before it, so that the rows of a period always add up to its quantity, whatever
the meter's aggregation. Rows are made under a lock of the customer: two runs at once make each row once. While a period
has no statement, rows follow the ledger; with the statement they end at its quantities (`fill_to_statement`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet, Sum

from accounts.models import Organization
from billing.models import (
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StripeCustomer,
    StripePrice,
    StripeSubscription,
    StripeUsage,
)
from billing.stripe.client import is_configured
from core.any_of import any_of
from metering.queries import Quantities, quantities_by_period
from plans.dimensions import match_text
from plans.models import Period, PlanVersion
from plans.pricing import Terms
from plans.queries import terms_of, usage_price

BATCH = 1_000
# Stripe takes no event older than 35 days: an ended period is filled this long, if its statement does not come before.
LOOK_BACK = timedelta(days=34)
# Periods that end this soon, or ended this recently, are filled more often than hourly.
ENDS_SOON, ENDED_RECENTLY = timedelta(minutes=10), timedelta(hours=1)
STATED_WITHIN = timedelta(days=1)
SECOND = timedelta(seconds=1)
ZERO = Decimal(0)
Measures = dict[int, int]  # Stripe's whole units so far, by StripeMeter id


@dataclass(frozen=True, slots=True)
class MeteredPrice:
    """A component that Stripe meters: the id of its StripeMeter, and the scale of that meter's units."""

    component_id: int
    meter_id: int
    scale: int
    line: tuple[int, str]  # our meter's id and the dimension text of its statement lines

    def whole(self, quantity: Decimal) -> int:
        """A quantity in Stripe's units, what is begun left out until it is whole."""
        return int(quantity.scaleb(self.scale).to_integral_value(ROUND_FLOOR))


class Told(NamedTuple):
    """What the rows of a period and meter say: their sum; the last sequence by hour."""

    value: int
    sequences: Mapping[datetime, int]


def fill_usage(*, at: datetime, organizations: Iterable[Organization] | None = None) -> int:
    """Tell what the present periods of Stripe's subscriptions, and ended ones without a statement, added up to `at`, as
    rows of the outbox; how many. Of all customers or of these. Idempotent, also twice at once."""
    return fill_periods(open_periods(at=at, organizations=organizations), at=at)


def fill_ending(*, at: datetime) -> int:
    """`fill_usage` for periods that are about to end or have just ended."""
    periods = _open_periods(at).filter(ends_at__gt=at - ENDED_RECENTLY, ends_at__lte=at + ENDS_SOON)
    return fill_periods(list(periods.values_list("pk", flat=True)), at=at)


def fill_stated(*, at: datetime) -> int:
    """`fill_to_statements` for periods that ended within a day: what a crash after a statement was made has left out."""
    ended = Statement.objects.filter(period__ends_at__gt=at - STATED_WITHIN, period__ends_at__lte=at)
    due = list(
        ended.filter(kind=StatementKind.PERIOD).order_by("organization_id").values_list("pk", flat=True)
    )
    batches = (due[first : first + BATCH] for first in range(0, len(due), BATCH))
    return sum(fill_to_statements(batch, at=at) for batch in batches)


def fill_periods(period_ids: Sequence[int], *, at: datetime) -> int:
    """`fill_usage` for these periods; those that are not to be filled are left out."""
    if not is_configured():
        return 0
    prices = _Prices()
    batches = (period_ids[first : first + BATCH] for first in range(0, len(period_ids), BATCH))
    return sum(_fill_batch(batch, prices, at) for batch in batches)


def open_periods(*, at: datetime, organizations: Iterable[Organization] | None = None) -> list[int]:
    """Ids of the periods that `fill_usage` fills, an organization's together."""
    periods = _open_periods(at)
    if organizations is not None:
        periods = periods.filter(organization_id__in=any_of(one.pk for one in organizations))
    return list(periods.values_list("pk", flat=True))


def fill_to_statement(statement: Statement, *, at: datetime) -> int:
    """`fill_to_statements` for one."""
    return fill_to_statements([statement.pk], at=at)


@transaction.atomic
def fill_to_statements(statement_ids: Collection[int], *, at: datetime) -> int:
    """The last rows of these statements' periods, so that they add up to the statements' quantities; how many.

    Later usage is billed by an adjustment of ours. Nothing for other documents, for one that replaces a void one (Stripe's
    invoice was made of the first), and for periods without a Stripe subscription.
    """
    if not is_configured():
        return 0
    own = Statement.objects.filter(pk__in=any_of(statement_ids), kind=StatementKind.PERIOD, replaces=None)
    statements = {statement.period_id: statement.pk for statement in own}
    periods = _lock(_at_stripe(Period.objects.filter(pk__in=any_of(statements))).order_by("organization_id"))
    lines = StatementLine.objects.filter(
        statement_id__in=any_of(statements.values()), kind=LineKind.USAGE, of_period=None
    )
    said = {
        (statement_id, meter_id, dimension): quantity
        for statement_id, meter_id, dimension, quantity in lines.values_list(
            "statement_id", "meter_id", "dimension", "quantity"
        )
    }
    prices = _Prices()
    measures = {
        period: {
            price.meter_id: price.whole(said.get((statements[period.pk], *price.line), ZERO))
            for price in prices.of(period.version_id)
        }
        for period in periods
    }
    return _tell(measures, at)


def stamp(period: Period, at: datetime) -> datetime:
    """The whole second that usage up to `at` is dated: not after it, and inside the period."""
    end = period.ends_at.replace(microsecond=0)
    last = end if end < period.ends_at else end - SECOND
    return min(at.astimezone(UTC).replace(microsecond=0), last)


@transaction.atomic
def _fill_batch(period_ids: Sequence[int], prices: "_Prices", at: datetime) -> int:
    periods = _lock(_open_periods(at).filter(pk__in=any_of(period_ids)))
    quantities = quantities_by_period([period.pk for period in periods], at=at)
    return _tell(
        {p: prices.measures(p.version_id, quantities.get(p.pk, {})) for p in periods},
        at,
    )


def _open_periods(at: datetime) -> QuerySet[Period]:
    """Periods at Stripe that have begun and have no statement; a void one is made again by hand."""
    begun = Period.objects.filter(starts_at__lte=at, ends_at__gt=at - LOOK_BACK)
    stated = Statement.objects.filter(period=OuterRef("pk"), kind=StatementKind.PERIOD)
    return _at_stripe(begun.filter(~Exists(stated))).order_by("organization_id", "starts_at")


def _at_stripe(periods: QuerySet[Period]) -> QuerySet[Period]:
    """Those with a subscription at Stripe in their time. Its version is not asked for: at a planned change the same
    subscription goes on with other prices, and the period knows which were its own."""
    behind = StripeSubscription.objects.filter(
        Q(ended_at=None) | Q(ended_at__gt=OuterRef("starts_at")),
        subscription=OuterRef("subscription"),
        started_at__lt=OuterRef("ends_at"),
    )
    customer = StripeCustomer.objects.filter(organization=OuterRef("organization"))
    return periods.filter(Exists(behind), Exists(customer))


def _lock(periods: QuerySet[Period]) -> list[Period]:
    """Lock the customers, in the order of ids, then read which of the periods are still to be filled."""
    owners = StripeCustomer.objects.filter(organization_id__in=periods.order_by().values("organization_id"))
    list(owners.order_by("organization_id").select_for_update().values_list("pk", flat=True))
    return list(periods.select_related("organization"))


def _tell(measures: Mapping[Period, Measures], at: datetime) -> int:
    """Rows for what these periods measure beyond what their rows say already."""
    stamps = {period.pk: stamp(period, at) for period in measures}
    told = _told(stamps)
    rows = [
        _row(period, meter_id, value, told[period.pk, meter_id], stamps[period.pk], at)
        for period, values in measures.items()
        if stamps[period.pk] >= period.starts_at
        for meter_id, value in values.items()
        if value != told[period.pk, meter_id].value
    ]
    StripeUsage.objects.bulk_create(rows, batch_size=BATCH)
    return len(rows)


def _told(stamps: Mapping[int, datetime]) -> Mapping[tuple[int, int], Told]:
    rows = StripeUsage.objects.filter(period_id__in=any_of(stamps))
    hours = {_hour(moment) for moment in stamps.values()}
    sequences: dict[tuple[int, int], dict[datetime, int]] = defaultdict(dict)
    lasts = rows.filter(hour__in=hours).values_list("period_id", "meter_id", "hour").annotate(Max("sequence"))
    for period_id, meter_id, hour, last in lasts.order_by():
        sequences[period_id, meter_id][hour] = last
    found: dict[tuple[int, int], Told] = defaultdict(lambda: Told(0, {}))
    for period_id, meter_id, value in (
        rows.order_by().values_list("period_id", "meter_id").annotate(Sum("value"))
    ):
        found[period_id, meter_id] = Told(int(value), sequences[period_id, meter_id])
    return found


def _row(
    period: Period, meter_id: int, value: int, told: Told, stamped_at: datetime, at: datetime
) -> StripeUsage:
    hour = _hour(stamped_at)
    sequence = told.sequences.get(hour, 0) + 1
    owner = period.organization.public_id
    return StripeUsage(
        organization_id=period.organization_id,
        meter_id=meter_id,
        period_id=period.pk,
        hour=hour,
        sequence=sequence,
        value=value - told.value,
        identifier=f"farebox-{owner}-{meter_id}-{period.pk}-{hour:%Y%m%d%H}-{sequence}",
        stamped_at=stamped_at,
        created_at=at,
        next_attempt_at=at,
    )


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


class _Prices:
    """The metered prices of plan versions: few versions, many periods, so each is read once a run."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Terms, list[MeteredPrice], list[int]]] = {}

    def of(self, version_id: int) -> list[MeteredPrice]:
        return self._of(version_id)[1]

    def measures(self, version_id: int, quantities: Quantities) -> Measures:
        """A period's quantities in Stripe's units; dimensions go to the component whose price takes them when rating."""
        terms, prices, components = self._of(version_id)
        taken: dict[int, Decimal] = defaultdict(Decimal)
        for measured, quantity in quantities.items():
            taker = terms.taker(measured)
            if taker is not None:
                taken[components[taker]] += quantity
        return {price.meter_id: price.whole(taken[price.component_id]) for price in prices}

    def _of(self, version_id: int) -> tuple[Terms, list[MeteredPrice], list[int]]:
        if version_id not in self._known:
            version = PlanVersion.objects.select_related("plan").get(pk=version_id)
            in_order = version.components.order_by("position", "pk").values_list("pk", flat=True)
            prices = metered_prices([version_id]).get(version_id, [])
            self._known[version_id] = terms_of(version), prices, list(in_order)
        return self._known[version_id]


def metered_prices(version_ids: Collection[int] | None = None) -> dict[int, list[MeteredPrice]]:
    """What Stripe meters, by plan version: of these or of all."""
    rows = StripePrice.objects.filter(component__isnull=False, meter__isnull=False)
    if version_ids is not None:
        rows = rows.filter(version_id__in=version_ids)
    found: dict[int, list[MeteredPrice]] = defaultdict(list)
    for price in rows.select_related("component__meter", "meter").prefetch_related("component__tiers"):
        component, meter = price.component, price.meter
        if component is not None and meter is not None:
            line = component.meter_id, match_text(usage_price(component).match)
            found[price.version_id].append(MeteredPrice(component.pk, meter.pk, meter.scale, line))
    return dict(found)
