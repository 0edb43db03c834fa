"""A year of customers on a clock of its own: sign-ups, trials, changes of plan, churn, failed payments, late usage,
corrections and credits, every one of them through the product's own acts, in order of time. Seeded, so that the same number
gives the same year.

The clock goes by days for acts and by weeks for usage: a week's events go into the ledger together, then what is due is
finalised and collected. `at` is the year's time; the ledger's own moments (what a statement counts) are the real ones.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from accounts.models import Organization, User
from accounts.services import create_organization
from billing.collection import end_grace, mark_paid, take_overdue
from billing.credits import expire_credits, grant_credit
from billing.models import Invoice, InvoiceState
from billing.statements import adjust_ended, finalise_due
from core.clock import to_micros
from core.ids import event_id
from metering.events import Event
from metering.services import ingest_history
from metering.usage_corrections import correct_usage
from plans.models import Meter, Period, Route, Subscription, SubscriptionStatus
from plans.queries import newest_version
from plans.services import (
    activate_subscription,
    cancel_subscription,
    change_plan,
    roll_periods,
    start_subscription,
)

DAY = timedelta(days=1)
WEEK = 7
LADDER = ("free", "starter", "professional", "enterprise")
WISHES = {"free": 30, "starter": 42, "professional": 22, "enterprise": 6}
CALLS_A_DAY = {
    "free": (5, 30),
    "starter": (300, 2_600),
    "professional": (4_000, 24_000),
    "enterprise": (40_000, 220_000),
}
GROWTH_A_MONTH = (95, 118)  # per cent
CONVERTS, LEAVES_FOR_FREE = 62, 14  # per cent of trials; the others let it run out

# Per mille a day and customer.
UPGRADES, DOWNGRADES, CANCELS, RETURNS = 2, 1, 2, 6
LATE, CORRECTED, CREDITED = 3, 2, 1
# Per cent of invoices: paid in time, paid after the due date, paid after the suspension; the rest is never paid.
IN_TIME, OVERDUE, AFTER_SUSPENSION = 90, 6, 3


@dataclass(slots=True)
class Simulated:
    """One customer: what it wants and how much it calls; money and state stand in the database only."""

    organization: Organization
    rng: random.Random
    calls_a_day: int
    growth: int
    since: datetime
    pays_after_trial: bool
    leaves_for_free: bool
    events: list[tuple[UUID, Decimal]] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What happened in the year."""

    customers: int = 0
    events: int = 0
    statements: int = 0
    upgrades: int = 0
    downgrades: int = 0
    cancellations: int = 0
    returns: int = 0
    past_due: int = 0
    suspended: int = 0
    late: int = 0
    corrections: int = 0
    credits: int = 0


class Year:
    """The simulation; `run` yields after each week, for progress."""

    def __init__(
        self,
        *,
        customers: int,
        days: int,
        seed: int,
        start: datetime,
        route: Route,
        meter: Meter,
        owner: User,
    ) -> None:
        self.rng = random.Random(f"year:{seed}")  # noqa: S311 - a believable past, not a secret
        self.seed, self.start, self.days = seed, start, days
        self.route, self.meter, self.owner = route, meter, owner
        self.signups = sorted(self.rng.randrange(max(days - 20, 1) * 24 * 60) for _ in range(customers))
        self.customers: dict[int, Simulated] = {}
        self.tally = Tally()
        self.late: list[tuple[datetime, Event]] = []  # when they come, and what

    def run(self) -> Iterator[int]:
        for day in range(self.days):
            at = self.start + day * DAY
            self._sign_up(day)
            roll_periods(at=at + DAY, limit=5_000)
            self._act(at + timedelta(hours=12))
            if day % WEEK == WEEK - 1 or day == self.days - 1:
                self._close_week(day - day % WEEK, day, at + DAY)
                yield day + 1

    def _sign_up(self, day: int) -> None:
        while self.signups and self.signups[0] < (day + 1) * 24 * 60:
            at = self.start + timedelta(minutes=self.signups.pop(0))
            number = len(self.customers) + 1
            organization = create_organization(name=f"Customer {number:04}", owner=self.owner, at=at)
            rng = random.Random(f"year:{self.seed}:{number}")  # noqa: S311
            plan = rng.choices(list(WISHES), list(WISHES.values()))[0]
            start_subscription(organization=organization, version=newest_version(plan), by=None, at=at)
            fate = rng.randrange(100)
            self.customers[organization.pk] = Simulated(
                organization, rng, rng.randint(*CALLS_A_DAY[plan]), rng.randint(*GROWTH_A_MONTH), at,
                fate < CONVERTS, CONVERTS <= fate < CONVERTS + LEAVES_FOR_FREE,
            )  # fmt: skip
            self.tally.customers += 1

    def _act(self, at: datetime) -> None:
        """What customers decide on this day."""
        for subscription in self._newest_subscriptions():
            customer = self.customers[subscription.organization_id]
            if subscription.ended_at is not None:
                if customer.rng.randrange(1000) < RETURNS and subscription.ended_at < at - 20 * DAY:
                    version = newest_version(customer.rng.choice(LADDER[1:3]))
                    start_subscription(
                        organization=customer.organization, version=version, by=None, at=at, has_payment=True
                    )
                    self.tally.returns += 1
            elif subscription.status == SubscriptionStatus.TRIALING:
                self._end_trial(customer, subscription, at)
            elif subscription.status == SubscriptionStatus.ACTIVE and subscription.cancels_at is None:
                self._change(customer, subscription, at)

    def _end_trial(self, customer: Simulated, subscription: Subscription, at: datetime) -> None:
        over = subscription.trial_ends_at
        if over is None or over > at:
            return
        if customer.pays_after_trial:
            activate_subscription(subscription=subscription, by=None, at=at)
        elif customer.leaves_for_free:
            change_plan(subscription=subscription, version=newest_version("free"), by=None, at=at)

    def _change(self, customer: Simulated, subscription: Subscription, at: datetime) -> None:
        chance, plan = customer.rng.randrange(1000), subscription.version.plan.slug
        place = LADDER.index(plan)
        if plan == "free" or subscription.next_version_id is not None:
            return
        if chance < UPGRADES and place + 1 < len(LADDER):
            change_plan(subscription=subscription, version=newest_version(LADDER[place + 1]), by=None, at=at)
            customer.calls_a_day *= 2
            self.tally.upgrades += 1
        elif chance < UPGRADES + DOWNGRADES and place > 1:
            change_plan(subscription=subscription, version=newest_version(LADDER[place - 1]), by=None, at=at)
            self.tally.downgrades += 1
        elif chance < UPGRADES + DOWNGRADES + CANCELS:
            cancel_subscription(subscription=subscription, by=None, at=at)
            self.tally.cancellations += 1

    def _close_week(self, first_day: int, last_day: int, at: datetime) -> None:
        """The week's usage, then everything that is due by its end."""
        events = sorted(self._usage(first_day, last_day), key=lambda event: event.occurred_at_us)
        come = [event for due, event in self.late if due <= at]
        self.late = [(due, event) for due, event in self.late if due > at]
        self.tally.events += ingest_history([*events, *come], at=at).stored
        self.tally.late += len(come)
        self._correct(at)
        self.tally.statements += finalise_due(at=at)
        adjust_ended(at=at)
        self._collect(at)
        expire_credits(at=at)

    def _usage(self, first_day: int, last_day: int) -> Iterator[Event]:
        """One event a day for who may call; a few of them are kept back and come after their statement."""
        periods = self._periods(self.start + first_day * DAY, self.start + (last_day + 1) * DAY)
        for customer in self.customers.values():
            for day in range(first_day, last_day + 1):
                moment = self.start + day * DAY + timedelta(seconds=customer.rng.randrange(24 * 3600))
                period = _at(periods.get(customer.organization.pk, ()), moment)
                if period is None or not self._may_call(period, moment):
                    continue
                event = self._event(customer, period, moment)
                if customer.rng.randrange(1000) < LATE:
                    self.late.append((moment + customer.rng.randrange(3, 60) * DAY, event))
                    continue
                if customer.rng.randrange(1000) < CORRECTED:
                    customer.events.append((event.id, event.quantity))
                yield event

    def _may_call(self, period: Period, moment: datetime) -> bool:
        subscription = period.subscription
        if subscription.ended_at is not None and moment >= subscription.ended_at:
            return False
        unpaid = subscription.status == SubscriptionStatus.TRIALING and not period.is_trial
        return not unpaid and subscription.status != SubscriptionStatus.SUSPENDED

    def _event(self, customer: Simulated, period: Period, moment: datetime) -> Event:
        rng, months = customer.rng, (moment - customer.since).days // 30
        expected = customer.calls_a_day * customer.growth**months // 100**months
        weekday = 40 if moment.weekday() >= 5 else 100
        calls = max(expected * weekday * rng.randint(80, 120) // 10_000, 1)
        at_us = to_micros(moment)
        return Event(
            id=event_id(at_us, rng.getrandbits(74)), occurred_at_us=at_us, organization_id=customer.organization.pk,
            mode="live", meter_id=self.meter.pk, period_id=period.pk, quantity=Decimal(calls), door="gateway",
            product_id=self.route.product_id, route_id=self.route.pk, status=200, duration_us=rng.randint(9_000, 60_000),
            bytes_in=rng.randint(180, 900), bytes_out=rng.randint(300, 6_000),
        )  # fmt: skip

    def _correct(self, at: datetime) -> None:
        """Some events turn out to have been wrong, weeks later."""
        for customer in self.customers.values():
            if customer.events and customer.rng.randrange(3) == 0:
                identifier, quantity = customer.events.pop(0)
                right = (
                    None
                    if customer.rng.randrange(4) == 0
                    else quantity * customer.rng.randint(50, 130) // 100
                )
                correct_usage(identifier, quantity=right, reason="Counted wrongly", by=None, at=at)
                self.tally.corrections += 1

    def _collect(self, at: datetime) -> None:
        """Invoices are paid in time, late, after the suspension, or never; some customers are given credit."""
        self.tally.past_due += take_overdue(at=at, limit=5_000)
        self.tally.suspended += end_grace(at=at, limit=5_000)
        Invoice.objects.filter(sent_at=None).update(sent_at=at)  # nobody is there to read 3,000 mails
        open_ones = Invoice.objects.filter(state__in=(InvoiceState.OPEN, InvoiceState.PAST_DUE))
        for invoice in open_ones.select_related("organization", "statement").order_by("pk"):
            if at >= invoice.created_at + self._patience(invoice):
                mark_paid(invoice=invoice, by=None, at=at, reference="Bank transfer")
        for customer in self.customers.values():
            if customer.rng.randrange(1000) < CREDITED * WEEK:
                grant_credit(
                    organization=customer.organization, amount_minor=customer.rng.randrange(500, 20_000), currency="USD",
                    reason="An outage", by=None, at=at, expires_at=at + 90 * DAY,
                )  # fmt: skip
                self.tally.credits += 1

    def _patience(self, invoice: Invoice) -> timedelta:
        """How long this invoice waits for its money."""
        name = f"{self.seed}:{invoice.organization.name}:{invoice.statement.starts_at}"
        fate = random.Random(name).randrange(100)  # noqa: S311
        if fate < IN_TIME:
            return DAY
        if fate < IN_TIME + OVERDUE:
            return invoice.due_at - invoice.created_at + 4 * DAY
        return 45 * DAY if fate < IN_TIME + OVERDUE + AFTER_SUSPENSION else 10_000 * DAY

    def _newest_subscriptions(self) -> Sequence[Subscription]:
        rows = Subscription.objects.filter(organization__in=list(self.customers))
        return list(
            rows.select_related("version__plan", "organization")
            .order_by("organization_id", "-started_at")
            .distinct("organization_id")
        )

    def _periods(self, start: datetime, end: datetime) -> dict[int, list[Period]]:
        rows = Period.objects.filter(starts_at__lt=end, ends_at__gt=start).select_related("subscription")
        found: dict[int, list[Period]] = {}
        for period in rows:
            found.setdefault(period.organization_id, []).append(period)
        return found


def _at(periods: Sequence[Period], moment: datetime) -> Period | None:
    return next((one for one in periods if one.starts_at <= moment < one.ends_at), None)
