"""Customers with usage for tests of documents: paying from the first day, usage stored as history is."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from accounts.models import Organization
from billing.models import Statement
from billing.statements import finalise_statement
from core.clock import now, to_micros
from core.ids import event_id, new_nonce
from metering.events import Event
from metering.services import ingest_history
from plans.models import Meter, Period, PlanVersion, Route, Subscription
from plans.services import start_subscription
from tests.factories import create_meter, create_organization, create_plan

START = datetime(2026, 2, 10, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def basic_version() -> PlanVersion:
    """49 USD, 10,000 calls included, 0.001 above."""
    found = PlanVersion.objects.filter(plan__slug="basic").first()
    return found or create_plan(
        "basic", fee_minor=4_900, included=Decimal(10_000), unit_price=Decimal("0.001")
    )


@dataclass
class Customer:
    """An organization that pays from the first day, by default on `basic_version`."""

    organization: Organization
    subscription: Subscription

    @classmethod
    def start(
        cls, name: str = "Acme", *, version: PlanVersion | None = None, at: datetime = START, shard: int = 17
    ) -> "Customer":
        organization = create_organization(name, plan="", at=at, shard=shard)
        subscription = start_subscription(
            organization=organization, version=version or basic_version(), by=None, at=at, has_payment=True
        )
        return cls(organization, subscription)

    def period(self, number: int = 0) -> Period:
        """The period so many after the first."""
        return self.subscription.periods.select_related("organization", "version__plan").order_by(
            "starts_at"
        )[number]

    def use(self, quantity: int | str, *, month: int = 0, meter: Meter | None = None) -> Event:
        """Usage in the middle of that period, stored now."""
        period = self.period(month)
        at_us = to_micros(period.starts_at + (period.ends_at - period.starts_at) / 2) + self._next()
        event = Event(
            id=event_id(at_us, new_nonce()),
            occurred_at_us=at_us,
            received_at_us=at_us,
            organization_id=self.organization.pk,
            mode="live",
            meter_id=(meter or create_meter()).pk,
            period_id=period.pk,
            quantity=Decimal(quantity),
            door="ingest",
        )
        assert ingest_history([event], at=now()).stored == 1
        return event

    def call(
        self, route: Route, *, times: int = 1, month: int = 0, mode: str = "live", status: int = 200, reason: str = "",
        ms: int = 0, kb_out: int = 0, quantity: int | str = 1,
    ) -> list[Event]:  # fmt: skip
        """So many equal calls to a route in the middle of that period; not charged with a `reason`."""
        period = self.period(month)
        middle = to_micros(period.starts_at + (period.ends_at - period.starts_at) / 2)
        events = []
        for _ in range(times):
            at_us = middle + self._next()
            events.append(
                Event(
                    id=event_id(at_us, new_nonce()), occurred_at_us=at_us, received_at_us=at_us,
                    organization_id=self.organization.pk, mode=mode, meter_id=route.meter_id, period_id=period.pk,
                    quantity=Decimal(0 if reason else quantity), door="gateway", route_id=route.pk, status=status,
                    reason=reason, duration_us=ms * 1000, bytes_out=kb_out * 1000,
                )
            )  # fmt: skip
        assert ingest_history(events, at=now()).stored == times
        return events

    def finalise(self, month: int = 0) -> Statement:
        period = self.period(month)
        return finalise_statement(period=period, at=period.ends_at + HOUR)

    _used = 0

    def _next(self) -> int:
        self._used += 1
        return self._used
