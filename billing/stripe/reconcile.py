"""Stripe held against us, once a night and by hand: finds what lost webhooks hid, and mends it by what webhooks would do.

Mending repeats nothing: each act fetches the present object and stores it under the customer's lock. What no act can mend
becomes a finding, and is closed by the first run that does not see it any more.
"""

from dataclasses import dataclass, field
from datetime import datetime

import stripe
import structlog

from accounts.models import Organization
from billing.models import FindingKind, StripeFinding
from billing.stripe import reconcile_checks as checks
from billing.stripe import reconcile_money as money
from billing.stripe.catalogue_sync import apply_catalogue, catalogue_diff, check_catalogue
from billing.stripe.client import for_people, is_away
from billing.stripe.compare import compare_one
from billing.stripe.customers import customer_lock
from billing.stripe.findings import open_finding
from billing.stripe.lacking import LACKS, check_statements
from billing.stripe.reconcile_checks import Unlike

log = structlog.get_logger(__name__)
PASSES = 3  # a subscription that was unknown may bring invoices with it
MARK = "reconcile: "  # subjects of our findings
CHECKS = (
    checks.customers, checks.subscriptions, money.upgrade_credits, checks.invoices, checks.items, money.pending, money.refunds,
    money.disputes, money.credit_notes, checks.usage,
)  # fmt: skip


@dataclass(slots=True)
class Mended:
    """What was mended, and what is left for people."""

    mended: list[Unlike] = field(default_factory=list)
    left: list[Unlike] = field(default_factory=list)


def find_unlike(*, at: datetime, organization: Organization | None = None) -> list[Unlike]:
    """Every difference, of all customers or of one (then without the catalogue); writes nothing.

    Raises StripeNotConfigured, and stripe.StripeError when Stripe does not answer.
    """
    look = checks.Look(at=at, organization=organization)
    found = [] if organization is not None else _prices(at)
    for check in CHECKS:
        found += check(look)
    return found


def mend_unlike(*, at: datetime, organization: Organization | None = None) -> Mended:
    """Find and mend; what is left becomes findings. Run again, nothing is left to do. Raises as `find_unlike`."""
    done = Mended()
    for _ in range(PASSES):
        done.left = find_unlike(at=at, organization=organization)
        tried = [one for one in done.left if one.mend is not None and one not in done.mended]
        if not tried:
            break
        done.mended += [one for one in tried if _mend(one, at)]
    else:
        done.left = find_unlike(at=at, organization=organization)
    done.mended = [one for one in done.mended if one not in done.left]
    _keep(done.left, organization, at)
    if organization is None:
        check_catalogue(at=at)
    return done


@for_people()
def look_again(finding: StripeFinding, *, at: datetime) -> bool:
    """Hold both sides of a finding against each other now, and close it when they are equal; whether it was closed. Mends
    nothing. Findings of single rows of usage are decided by the outbox: False. Raises StripeAway or StripeRefused."""
    if finding.invoice is not None:
        compare_one(finding.invoice, at=at)
    elif finding.kind == FindingKind.PRICE:
        check_catalogue(at=at)
    elif finding.organization is not None and finding.subject.startswith(LACKS):
        check_statements(finding.organization, at=at)
    elif finding.organization is not None and finding.subject.startswith(MARK):
        _keep(find_unlike(at=at, organization=finding.organization), finding.organization, at)
    finding.refresh_from_db()
    return finding.closed_at is not None


def can_look_again(finding: StripeFinding) -> bool:
    """Whether `look_again` knows how."""
    by_kind = finding.invoice is not None or finding.kind == FindingKind.PRICE
    return by_kind or (finding.organization is not None and finding.subject.startswith((LACKS, MARK)))


def _prices(at: datetime) -> list[Unlike]:
    return [
        Unlike("price", FindingKind.PRICE, each.subject, str(each), None, lambda at: apply_catalogue(at=at))
        for each in catalogue_diff(at=at)
    ]


def _mend(one: Unlike, at: datetime) -> bool:
    """One that Stripe refuses holds no other back."""
    if one.mend is None:
        return False
    try:
        if one.organization_id is None:
            one.mend(at)
        else:
            with customer_lock(one.organization_id):
                one.mend(at)
    except stripe.StripeError as error:
        if is_away(error):
            raise
        log.warning("stripe_not_mended", subject=one.subject, error=str(error))
        return False
    log.info("stripe_mended", what=one.what, subject=one.subject, text=one.text)
    return True


def _keep(left: list[Unlike], organization: Organization | None, at: datetime) -> None:
    """Findings of what is left; the catalogue keeps its own."""
    kept = [one for one in left if one.kind != FindingKind.PRICE]
    for one in kept:
        open_finding(
            kind=one.kind, subject=MARK + one.subject, text=one.text, at=at, organization_id=one.organization_id,
            behind=one.behind,
        )  # fmt: skip
    opened = StripeFinding.objects.filter(subject__startswith=MARK, closed_at=None)
    if organization is not None:
        opened = opened.filter(organization=organization)
    opened.exclude(subject__in=[MARK + one.subject for one in kept]).update(closed_at=at)
