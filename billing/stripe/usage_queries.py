"""Reads of the outbox for the staff's page."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, F, Min, Q, QuerySet

from accounts.models import Organization
from billing.models import StripeUsage, UsageState

CUSTOMERS = 20
# What a filter means: a row that is being sent is one that waits.
SHOWN_STATES = {
    "pending": (UsageState.PENDING, UsageState.SENDING),
    "unknown": (UsageState.UNKNOWN,),
    "refused": (UsageState.REFUSED,),
    "sent": (UsageState.SENT,),
}
_OPEN = ~Q(state__in=(UsageState.SENT, UsageState.REFUSED))  # the condition of the index of unfinished rows


@dataclass(frozen=True, slots=True)
class Outbox:
    """Rows by state; `sent` in the last day. `oldest_at`: since when the oldest row that is not at Stripe waits."""

    pending: int
    unknown: int
    refused: int
    sent: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class CustomerRows:
    """A customer with rows that are not at Stripe."""

    organization: Organization
    pending: int
    unknown: int
    refused: int
    oldest_at: datetime


def outbox(*, at: datetime) -> Outbox:
    """The figures of all customers."""
    rows = StripeUsage.objects.filter(_OPEN).aggregate(
        pending=Count("pk", filter=Q(state__in=SHOWN_STATES["pending"])),
        unknown=Count("pk", filter=Q(state=UsageState.UNKNOWN)),
        oldest=Min("created_at"),
    )
    return Outbox(
        rows["pending"],
        rows["unknown"],
        StripeUsage.objects.filter(state=UsageState.REFUSED).count(),
        StripeUsage.objects.filter(state=UsageState.SENT, sent_at__gt=at - timedelta(days=1)).count(),
        rows["oldest"],
    )


def waiting_customers() -> list[CustomerRows]:
    """Customers with rows that are not at Stripe, who wait longest first."""
    found = (
        StripeUsage.objects.exclude(state=UsageState.SENT)
        .order_by()
        .values("organization_id")
        .annotate(
            pending=Count("pk", filter=Q(state__in=SHOWN_STATES["pending"])),
            unknown=Count("pk", filter=Q(state=UsageState.UNKNOWN)),
            refused=Count("pk", filter=Q(state=UsageState.REFUSED)),
            oldest_at=Min("created_at"),
        )
        .order_by(F("oldest_at").asc(), "organization_id")[:CUSTOMERS]
    )
    rows = list(found)
    named = Organization.objects.in_bulk([row["organization_id"] for row in rows])
    return [
        CustomerRows(
            named[row["organization_id"]], row["pending"], row["unknown"], row["refused"], row["oldest_at"]
        )
        for row in rows
    ]


def usage_rows(*, state: str = "", organization: Organization | None = None) -> QuerySet[StripeUsage]:
    """Rows of the outbox, newest first; `state` one of SHOWN_STATES, '' all."""
    rows = StripeUsage.objects.select_related("organization", "meter").order_by("-pk")
    if state:
        rows = rows.filter(state__in=SHOWN_STATES[state])
    return rows if organization is None else rows.for_organization(organization)
