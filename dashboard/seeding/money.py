"""The demo's documents: each period's statement when it was due, payments, one that is late, credit, a cap, costs.

The days of the past are gone through in their order, each with the product's own acts, after the usage is in the ledger.
"""

from datetime import datetime, timedelta
from decimal import Decimal

from accounts.models import Organization, User
from billing.collection import mark_paid, take_overdue
from billing.credits import grant_credit
from billing.models import Invoice, InvoiceState
from billing.statements import finalise_due
from metering.spending import set_spend_cap, spent_so_far_minor
from plans.models import CapSide, CostPrices, Route, RouteCost
from plans.queries import current_period

DAY = timedelta(days=1)
PAYS_AFTER = 3 * DAY
LATE_PAYER = "Fabrikam Fleet"  # its newest bill that is due by now is not paid
LATE_SINCE = 6 * DAY  # less than the grace days: the demo starts with a door that is still open
CREDITS = (  # customer, days ago, minor units, why
    ("Contoso Parcel", 25, 5_000, "Outage of the search route"),
    ("Northwind Maps", 4, 2_500, "Thanks for the bug report"),
)
CAP_MINOR = 10_000
# Compute milliseconds, memory in MB, kilobytes out, calls to others: by path of the route.
COSTS = {
    "/v1/search": ("8", "128", "3", "0"),
    "/v1/reverse": ("5", "128", "1", "0"),
    "/v1/cities/{id}": ("2", "64", "1", "0"),
    "/v1/text/language": ("14", "256", "0.5", "0.001"),
    "/v1/text/readability": ("6", "128", "0.5", "0"),
    "/v1/nearby": ("11", "128", "6", "0"),
    "/v1/follow": ("5", "128", "1", "0"),
    "/v1/export": ("160", "512", "240", "0"),
}


def set_costs(routes: list[Route], *, at: datetime) -> None:
    """What resources cost the owner, and what each route takes of them."""
    CostPrices.objects.create(
        valid_from=at, currency="USD", per_compute_ms=Decimal("0.000002"), per_memory_gb_second=Decimal("0.000016"),
        per_kb_out=Decimal("0.000001"), per_third_party_call=Decimal("0.005"),
    )  # fmt: skip
    for route in routes:
        compute, memory, out, others = map(Decimal, COSTS[route.path])
        RouteCost.objects.create(
            route=route, compute_ms=compute, memory_mb=memory, kb_out=out, third_party_calls=others
        )


def bill_the_past(*, since: datetime, at: datetime) -> int:
    """Day by day until now: statements that are due, money that comes in, what is late, credit; how many statements."""
    made, day = 0, since
    while day < at:
        day = min(day + DAY, at)
        made += finalise_due(at=day)
        _pay(day, at)
        take_overdue(at=day)
        _give_credit(day - DAY, day, at)
    return made


def cap_spending(organization: Organization, *, by: User, at: datetime) -> None:
    """A cap of the customer's own, far above what it uses."""
    period = current_period(organization, at=at)
    spent = spent_so_far_minor(organization, period)
    set_spend_cap(
        organization=organization, side=CapSide.CUSTOMER, amount_minor=spent + CAP_MINOR, by=by, at=at
    )


def _pay(day: datetime, now: datetime) -> None:
    """Who has had the invoice for some days pays it, but for the one that is late."""
    waiting = Invoice.objects.filter(state=InvoiceState.OPEN, created_at__lte=day - PAYS_AFTER)
    for invoice in waiting.select_related("organization", "statement").order_by("pk"):
        is_late = invoice.organization.name == LATE_PAYER and now - LATE_SINCE < invoice.due_at <= now
        if not is_late:
            mark_paid(invoice=invoice, by=None, at=day, reference="Bank transfer")


def _give_credit(start: datetime, end: datetime, now: datetime) -> None:
    for name, days, minor, reason in CREDITS:
        given = now - days * DAY
        organization = Organization.objects.filter(name=name).first()
        if organization is not None and start < given <= end:
            grant_credit(
                organization=organization, amount_minor=minor, currency="USD", reason=reason, by=None, at=given,
                expires_at=now + 180 * DAY,
            )  # fmt: skip
