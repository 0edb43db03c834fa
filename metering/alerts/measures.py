"""What alerts look at: quantities, spend and what they are a share of, in one period."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounts.models import Organization
from core.money import to_major
from metering.alerts.evaluate import Measure, share_of
from metering.costs import rate_so_far
from metering.models import Alert, AlertKind
from metering.period_usage import Quantities, period_quantities
from metering.spending import usage_minor
from plans.caps import lower_cap, newest_caps
from plans.models import Aggregation, Meter, OverrideKind, Period, PriceComponent
from plans.overrides import active_overrides
from plans.queries import hard_quotas
from plans.standing import free_quantity

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Facts:
    """A period's usage and terms, read once for all alerts. `main_meter` None: the plan meters nothing."""

    period: Period
    quantities: Quantities
    spent: Decimal
    currency: str
    cap: Decimal | None
    components: tuple[PriceComponent, ...]
    quota_overrides: dict[int, Decimal]
    main_meter: Meter | None


def read_facts(organization: Organization, period: Period, *, at: datetime) -> Facts:
    """`period` comes with its version. Overrides and cap as they stand at `at`, or at the end of an ended period."""
    quantities = period_quantities(organization, period=period, mode="live", at=min(at, period.ends_at))
    moment = min(at, period.ends_at)
    currency = period.version.currency
    cap = None if period.is_trial else lower_cap(newest_caps(organization, at=moment), currency)
    components = tuple(period.version.components.select_related("meter").prefetch_related("tiers"))
    overrides = {
        o.meter_id: o.amount
        for o in reversed(list(active_overrides(organization, at=moment)))
        if o.kind == OverrideKind.QUOTA and o.meter_id is not None and o.amount is not None
    }
    return Facts(
        period=period,
        quantities=quantities,
        spent=to_major(usage_minor(rate_so_far(period, quantities)), currency),
        currency=currency,
        cap=None if cap is None else to_major(cap.amount_minor, currency),
        components=components,
        quota_overrides=overrides,
        main_meter=components[0].meter if components else None,
    )


def measure(alert: Alert, facts: Facts) -> Measure | None:
    """Where an alert stands, or None where it has nothing to look at. A cap of 0 is reached at once."""
    if alert.kind == AlertKind.SPEND:
        return Measure(facts.spent, alert.threshold) if alert.currency == facts.currency else None
    if alert.kind == AlertKind.CAP:
        return None if facts.cap is None else Measure(facts.spent, share_of(facts.cap, alert.threshold))
    meter = alert.meter or facts.main_meter
    if meter is None:
        return None
    used = quantity_of(facts.quantities, meter)
    if alert.kind == AlertKind.METER:
        return Measure(used, alert.threshold)
    base = _quota(facts, meter) if alert.kind == AlertKind.QUOTA else _included(facts, meter)
    return Measure(used, share_of(base, alert.threshold)) if base else None


def quantity_of(quantities: Quantities, meter: Meter) -> Decimal:
    """One meter's quantity over all its dimensions: the largest of a maximum, the sum of all others."""
    found: Iterable[Decimal] = [quantity for (slug, _), quantity in quantities.items() if slug == meter.slug]
    return max(found, default=ZERO) if meter.aggregation == Aggregation.MAX else sum(found, ZERO)


def _included(facts: Facts, meter: Meter) -> Decimal:
    if meter.pk in facts.quota_overrides:
        return facts.quota_overrides[meter.pk]
    return sum((free_quantity(c) for c in facts.components if c.meter_id == meter.pk), ZERO)


def _quota(facts: Facts, meter: Meter) -> Decimal | None:
    if meter.pk in facts.quota_overrides:
        return facts.quota_overrides[meter.pk]
    if facts.period.is_trial:  # the included quantity is all there is
        return _included(facts, meter)
    return hard_quotas(facts.components).get(meter.slug)
