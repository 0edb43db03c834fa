"""A customer with a cent for each unit above 1,000 included, and totals as the drain would write them."""

from datetime import datetime
from decimal import Decimal
from uuid import uuid4

from accounts.models import Organization
from core.clock import now
from metering.alerts.services import evaluate_organization
from metering.models import Alert, AlertDelivery, AlertFiring, PeriodTotal
from plans.models import Period
from plans.queries import current_period
from tests.factories import create_organization, create_user
from tests.plans.price_kit import component, meter, put_on, version_of


def customer(name: str = "Northwind Maps") -> Organization:
    organization = create_organization(name, owner=create_user("alice@northwind.example"))
    priced = component(meter("units"), included=Decimal(1000), unit_price=Decimal("0.01"))
    put_on(organization, version_of(priced))
    return organization


def use(organization: Organization, quantity: int, *, period: Period | None = None) -> None:
    """The period's total is this now."""
    period = period or current_period(organization, at=now())
    PeriodTotal.objects.update_or_create(
        organization_id=organization.pk, mode="live", meter_id=meter("units").pk, period_id=period.pk, dimension="",
        defaults={
            "sum": quantity, "count": quantity, "last": 1, "max": 1, "billed_count": quantity, "last_at": now(),
            "last_id": uuid4(), "stored_at": now(),
        },
    )  # fmt: skip


def used(organization: Organization, quantity: int, *, at: datetime | None = None) -> int:
    """Use so much and evaluate; how many alerts changed."""
    use(organization, quantity)
    return evaluate_organization(organization, at=at or now())


def fired(organization: Organization) -> list[tuple[int, bool]]:
    """Thresholds that fired and whether they still stand, in order."""
    rows = AlertFiring.objects.for_organization(organization).order_by("pk").select_related("alert")
    return [(int(row.alert.threshold), row.recovered_at is None) for row in rows]


def told(organization: Organization) -> list[tuple[str, str, str]]:
    rows = AlertDelivery.objects.for_organization(organization).order_by("pk")
    return [(row.kind, row.channel, row.recipient) for row in rows]


def default(organization: Organization, threshold: int) -> Alert:
    return Alert.objects.for_organization(organization).get(is_default=True, threshold=threshold)
