"""How fast a month is billed: statements of many customers with five meters each, against the SQL that only sums the same
totals. One `name value unit` a line.

Run: `python -m benchmarks.statements [customers]` with DATABASE_URL and REDIS_URL of servers that hold nothing of value.
Each customer has a closed month of usage on five meters with all five pricing models, in three hours of every day: few for
an API in use, so the sum has little to read. The sum is what a page or a report does to get the month's quantities;
finalising reads the period totals, which the drain keeps, takes its cut, rates, numbers, and stores lines, tiers, invoices.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.db import connection  # noqa: E402

from billing.models import Statement, StatementLine  # noqa: E402
from billing.statements import finalise_due  # noqa: E402
from core.clock import now  # noqa: E402
from plans.models import Meter, Plan, PlanVersion, PriceComponent, PriceTier, PricingModel  # noqa: E402
from plans.publishing import publish_version  # noqa: E402

CUSTOMERS = 100_000
DAYS, HOURS_A_DAY = 30, 3
MODELS = tuple(PricingModel)
START = datetime(2026, 9, 1, tzinfo=UTC)

ORGANIZATIONS = """
INSERT INTO accounts_organization (public_id, name, shard, version, status, status_reason, created_at)
SELECT 'org_bench' || n, 'Customer ' || n, n %% 64, 1, 'active', '', %(start)s FROM generate_series(1, %(customers)s) n
"""
ACCOUNTS = """
INSERT INTO billing_billingaccount (organization_id, legal_name, address, tax_id, email, currency, number_prefix, next_number)
SELECT id, '', '', '', '', 'USD', 'B' || id, 1 FROM accounts_organization WHERE public_id LIKE 'org_bench%%'
"""
SUBSCRIPTIONS = """
INSERT INTO plans_subscription (public_id, organization_id, version_id, status, started_at)
SELECT 'sub_' || id, id, %(version)s, 'active', %(start)s FROM accounts_organization WHERE public_id LIKE 'org_bench%%'
"""
PERIODS = """
INSERT INTO plans_period (organization_id, subscription_id, version_id, anchor, is_trial, starts_at, ends_at)
SELECT organization_id, id, version_id, started_at, false, %(start)s, %(end)s FROM plans_subscription
WHERE version_id = %(version)s
"""
# Its indexes are dropped before: the sum reads every row, and only that time is measured.
HOURS = """
INSERT INTO usage_total (organization_id, mode, meter_id, period_id, hour, api_key_id, route_id, status_class, dimension,
    sum, count, billed_count, min, max, last, last_at, last_id)
SELECT p.organization_id, 'live', m.id, p.id, %(start)s::timestamptz + day * interval '1 day' + hour * interval '1 hour', 0, 0,
    2, '', (p.id * 7 + m.id) %% 2000, 10, 10, 0, 400, 1, %(start)s, '00000000-0000-7000-8000-000000000000'
FROM plans_period p CROSS JOIN plans_meter m CROSS JOIN generate_series(0, %(days)s - 1) day CROSS JOIN generate_series(1, %(hours)s) hour
WHERE p.version_id = %(version)s AND m.slug LIKE 'bench%%'
"""
PERIOD_TOTALS = """
INSERT INTO usage_period_total (organization_id, mode, meter_id, period_id, dimension, sum, count, billed_count, max, last,
    last_at, last_id)
SELECT p.organization_id, 'live', m.id, p.id, '', %(days)s * %(hours)s * ((p.id * 7 + m.id) %% 2000), 10, 10, 400, 1,
    %(start)s, '00000000-0000-7000-8000-000000000000'
FROM plans_period p CROSS JOIN plans_meter m WHERE p.version_id = %(version)s AND m.slug LIKE 'bench%%'
"""
INDEXES = "SELECT indexname FROM pg_indexes WHERE tablename = 'usage_total' AND indexname NOT LIKE '%pkey'"
NO_PRIMARY_KEY = "ALTER TABLE usage_total DROP CONSTRAINT usage_total_pkey"
SUM = "SELECT organization_id, meter_id, sum(sum) FROM usage_total WHERE mode = 'live' AND hour >= %(start)s AND hour < %(end)s GROUP BY 1, 2"


def main(customers: int) -> None:
    end = START + timedelta(days=DAYS)
    values = {
        "start": START, "end": end, "days": DAYS, "hours": HOURS_A_DAY, "customers": customers, "version": _version().pk,
    }  # fmt: skip
    _fill(values)
    print(f"statement_customers {customers} customers")
    rows = 0

    def sum_totals() -> None:
        nonlocal rows
        with connection.cursor() as cursor:
            cursor.execute(SUM, values)
            rows = len(cursor.fetchall())

    sum_totals()  # once to warm the cache, as the drain keeps it warm
    summed = _seconds(sum_totals)
    finalised = _seconds(lambda: finalise_due(at=now()))
    made, lines = Statement.objects.count(), StatementLine.objects.count()
    if (made, rows, lines) != (customers, customers * len(MODELS), customers * (len(MODELS) + 1)):
        sys.exit(f"{made} statements, {lines} lines, {rows} sums for {customers} customers")
    print(f"statements_sum_only {summed:.1f} s")
    print(f"statements_finalise {finalised:.1f} s")
    print(f"statements {made / finalised:.0f} statements/s")
    print(f"statements_vs_sum {finalised / summed:.2f} ratio")


def _version() -> PlanVersion:
    """A plan with one meter of each pricing model."""
    plan = Plan.objects.create(slug="bench", name="Bench", is_public=False)
    version = PlanVersion.objects.create(plan=plan, number=1, fee_minor=4900)
    for number, model in enumerate(MODELS):
        meter = Meter.objects.create(slug=f"bench{number}", name=f"Meter {number}", unit="call")
        stepped = model in (PricingModel.GRADUATED, PricingModel.VOLUME)
        component = PriceComponent.objects.create(
            version=version, meter=meter, model=model, included=Decimal(20_000) if model == "included" else 0,
            unit_price=None if stepped else Decimal("0.001"), package_size=100 if model == "package" else 1, position=number,
        )  # fmt: skip
        for up_to, price in ((10_000, "0.002"), (50_000, "0.001"), (None, "0.0005")) if stepped else ():
            PriceTier.objects.create(component=component, up_to=up_to, unit_price=Decimal(price))
    return publish_version(version=version, by=None, at=START)


def _fill(values: dict[str, object]) -> None:
    with connection.cursor() as cursor:
        for statement in (ORGANIZATIONS, ACCOUNTS, SUBSCRIPTIONS, PERIODS):
            cursor.execute(statement, values)
        cursor.execute(INDEXES)
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX {name}")
        cursor.execute(NO_PRIMARY_KEY)
        cursor.execute(HOURS, values)
        cursor.execute(PERIOD_TOTALS, values)
        cursor.execute("VACUUM ANALYZE")


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CUSTOMERS)
