"""A year of customers, and the proof that its figures hold: every statement recomputed, every counter reconciled."""

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing.models import Statement
from billing.queries import mrr_by_plan
from billing.recompute import recompute, standing_statements
from billing.revenue import MonthRevenue, Movement, mrr_at
from billing.revenue_queries import log_events, movements
from core.clock import now
from core.money import format_money
from dashboard.seeding.world import STAFF_EMAIL, make_catalogue, make_person
from dashboard.seeding.year import DAY, Year
from metering.drain import drain_all
from metering.reconcile import reconcile
from plans.default_catalogue import CALLS_METER
from plans.models import Meter

CURRENCY = "USD"


class Command(BaseCommand):
    help = (
        "Simulate a year of customers through the product's own acts, then recompute and reconcile all of it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--customers", type=int, default=500)
        parser.add_argument("--days", type=int, default=365)
        parser.add_argument("--force", action="store_true", help="also where there are organizations already")

    def handle(self, *_: Any, seed: int, customers: int, days: int, force: bool, **__: Any) -> None:
        if Organization.objects.exists() and not force:
            raise CommandError(
                "There are organizations already; the year is for an empty installation (--force)."
            )
        year = self._year(seed, customers, days)
        began = time.monotonic()
        for day in year.run():
            if self.stdout.isatty():
                self.stdout.write(f"day {day} of {days}", ending="\r")
        self.stdout.write(f"{days} days in {time.monotonic() - began:.0f} s")
        for name in type(year.tally).__slots__:
            self.stdout.write(f"{name.replace('_', ' ')} {getattr(year.tally, name)}")
        checks = [self._recomputed(), self._reconciled(), self._movements(year)]
        if not all(checks):
            sys.exit(1)

    def _year(self, seed: int, customers: int, days: int) -> Year:
        start = datetime.combine(now().date(), datetime.min.time(), UTC) - days * DAY
        routes = make_catalogue(upstream_url="http://127.0.0.1:9100", at=start)
        owner = make_person(f"year-{STAFF_EMAIL}", "Yara Year", is_staff=True)
        meter = Meter.objects.get(slug=CALLS_METER)
        return Year(
            customers=customers, days=days, seed=seed, start=start, route=routes[0], meter=meter, owner=owner
        )

    def _recomputed(self) -> bool:
        unequal = [found for statement in standing_statements() for found in recompute(statement)]
        for one in unequal[:20]:
            self.stdout.write(str(one))
        count = Statement.objects.count()
        differing = len({one.statement.pk for one in unequal})
        self.stdout.write(f"{count} statements recomputed, {count - differing} equal, {differing} differ")
        return count > 0 and not unequal

    def _reconciled(self) -> bool:
        drain_all(at=now())
        outcome = reconcile(at=now())
        self.stdout.write(f"reconcile {'equal' if outcome.is_equal else 'DIFFERS'}")
        return outcome.is_equal

    def _movements(self, year: Year) -> bool:
        """Each month's movements against what the log says at its end, the last also against the subscriptions of now."""
        last, log = year.start + (year.days - 1) * DAY, list(log_events())
        months = movements(first=year.start.date(), last=last.date(), currency=CURRENCY)
        unequal = 0
        for month in months:
            turn = datetime.combine((month.month + 31 * DAY).replace(day=1), datetime.min.time(), UTC)
            standing = sum(mrr_at(log, at=turn - timedelta(microseconds=1)).values())
            unequal += month.end_minor != standing
            self.stdout.write(_line(month))
        now_minor = sum(plan.mrr_minor for plan in mrr_by_plan(at=last + DAY))
        unequal += months[-1].end_minor != now_minor
        self.stdout.write(f"subscriptions of now {format_money(now_minor, CURRENCY)}")
        self.stdout.write(
            "movements add up in every month" if not unequal else f"movements: {unequal} DIFFER"
        )
        return not unequal


def _line(month: MonthRevenue) -> str:
    def amount(minor: int) -> str:
        return format_money(minor, month.currency)

    m = month.moved_minor
    return (
        f"{month.month:%Y-%m}  {amount(month.start_minor):>12} + new {amount(m[Movement.NEW])}"
        f" + expansion {amount(m[Movement.EXPANSION])} - contraction {amount(m[Movement.CONTRACTION])}"
        f" - churn {amount(m[Movement.CHURN])} + reactivation {amount(m[Movement.REACTIVATION])}"
        f" = {amount(month.end_minor)}"
    )
