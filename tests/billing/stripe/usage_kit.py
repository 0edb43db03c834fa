"""Customers whose usage goes to Stripe, and a stand-in for the sink where a test needs answers of its own choice."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum

from billing.models import (
    StripeCustomer,
    StripeMeter,
    StripePrice,
    StripeSubscription,
    StripeUsage,
    UsageState,
)
from billing.stripe.sink import Answer, Fate, MeterEvent
from plans.models import PlanVersion
from tests.billing.kit import START, Customer, basic_version

HOUR = timedelta(hours=1)


def meter_prices(version: PlanVersion, *, scale: int | None = None) -> list[StripeMeter]:
    """Stripe's meters and prices of a version's components, as the catalogue makes them."""
    meters = []
    for component in version.components.select_related("meter"):
        meter, _ = StripeMeter.objects.get_or_create(
            meter=component.meter,
            match=component.match,
            defaults={
                "stripe_id": f"mtr_test_{component.pk}",
                "event_name": f"farebox_{component.pk}",
                "scale": component.meter.decimals if scale is None else scale,
            },
        )
        StripePrice.objects.get_or_create(
            version=version, component=component, meter=meter, stripe_id=f"price_test_{component.pk}"
        )
        meters.append(meter)
    return meters


def at_stripe(
    customer: Customer, *, stripe_id: str = "", started_at: datetime | None = None
) -> StripeSubscription:
    """The customer has a subscription at Stripe, from the first day or this moment on."""
    organization, subscription = customer.organization, customer.subscription
    StripeCustomer.objects.get_or_create(
        organization=organization, defaults={"stripe_id": f"cus_test_{organization.pk}"}
    )
    return StripeSubscription.objects.create(
        organization=organization,
        subscription=subscription,
        version=subscription.version,
        stripe_id=stripe_id or f"sub_test_{subscription.pk}",
        status="active",
        started_at=started_at or subscription.started_at,
        synced_at=subscription.started_at,
    )


def metered_customer(
    name: str = "Acme", *, version: PlanVersion | None = None, at: datetime = START, shard: int = 17
) -> Customer:  # fmt: skip
    customer = Customer.start(name, version=version or basic_version(), at=at, shard=shard)
    meter_prices(customer.subscription.version)
    at_stripe(customer)
    return customer


def told(customer: Customer, month: int = 0) -> int:
    """What the rows of a period add up to."""
    rows = StripeUsage.objects.filter(period=customer.period(month))
    return rows.aggregate(total=Sum("value"))["total"] or 0


def row(customer: Customer, value: int = 7, **fields: object) -> StripeUsage:
    """A row of the outbox as `fill_usage` would make it, due since START."""
    period = customer.period()
    number = StripeUsage.objects.count() + 1
    values: dict[str, object] = {
        "organization": customer.organization,
        "meter": StripeMeter.objects.get(),
        "period": period,
        "hour": START,
        "sequence": number,
        "value": value,
        "identifier": f"farebox-test-{number}",
        "stamped_at": START,
        "created_at": START,
        "next_attempt_at": START,
    } | fields
    return StripeUsage.objects.create(**values)


def state_of(one: StripeUsage) -> UsageState:
    one.refresh_from_db()
    return UsageState(one.state)


@dataclass
class FakeSink:
    """Not Stripe: it answers what the test says, and counts what it was told (each identifier once, for ever)."""

    answers: list[Fate] = field(default_factory=list)
    counted: dict[str, Decimal] = field(default_factory=dict)
    told: list[MeterEvent] = field(default_factory=list)
    before: Callable[[MeterEvent], None] = lambda event: None
    says: int | None = None

    def send(self, event: MeterEvent) -> Answer:
        self.before(event)
        self.told.append(event)
        fate = self.answers.pop(0) if self.answers else Fate.SENT
        if event.identifier in self.counted and fate == Fate.SENT:
            return Answer(Fate.KNOWN)
        if fate == Fate.SENT:
            self.counted[event.identifier] = Decimal(event.value)
        return Answer(fate, "" if fate == Fate.SENT else f"as the test says: {fate.value}")

    def summary(self, *, meter: str, customer: str, start: datetime, end: datetime) -> int | None:
        return self.says
