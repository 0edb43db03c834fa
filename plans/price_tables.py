"""From the prices of a plan version to the integer tables that the doors hold usage against (plans/cap_table.py)."""

from plans.cap_table import MeterTable, compile_meter
from plans.models import Meter, PlanVersion
from plans.queries import terms_of
from plans.tiers import UsagePrice


def price_tables(version: PlanVersion) -> tuple[MeterTable, ...]:
    """One table per meter that doors can count (sums and counts), in the order of their ids.

    Charges of other meters are not known before they happen: the statement's write-off bounds them (docs/caps.md).
    """
    meters: dict[str, Meter] = {
        c.meter.slug: c.meter for c in version.components.all() if c.meter.is_additive
    }
    groups: dict[str, list[UsagePrice]] = {}
    for price in terms_of(version).usage:
        if price.meter in meters:
            groups.setdefault(price.meter, []).append(price)
    tables = [
        compile_meter(meters[slug].pk, meters[slug].decimals, version.currency, prices)
        for slug, prices in groups.items()
    ]
    return tuple(sorted(tables, key=lambda table: table.meter_id))
