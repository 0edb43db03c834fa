"""Differences between Stripe and us: opened loudly, once for each subject, and closed when they are gone."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from accounts.mail import queue_mail
from accounts.models import Organization
from accounts.queries import staff_addresses
from billing.models import FindingKind, StripeFinding, StripeInvoice
from metering.reconcile import Difference

log = structlog.get_logger(__name__)
SUBJECT_LENGTH, TEXT_LENGTH = 300, 500
HOURS_NAMED = 2


def open_finding(
    *,
    kind: FindingKind,
    subject: str,
    text: str,
    at: datetime,
    organization_id: int | None = None,
    ours: Mapping[str, Any] | None = None,
    theirs: Mapping[str, Any] | None = None,
    invoice: StripeInvoice | None = None,
    behind: Mapping[str, Any] | None = None,
) -> StripeFinding:
    """The open finding of this kind and subject, made and logged as an error where there is none yet. What is found again
    brings both sides up to date and is not told again. `behind`: the calls behind it. Safe for two at once."""
    sides = {
        "text": text[:TEXT_LENGTH],
        "ours": dict(ours or {}),
        "theirs": dict(theirs or {}),
        "behind": dict(behind or {}),
    }
    found, is_new = StripeFinding.objects.get_or_create(
        kind=kind,
        subject=subject[:SUBJECT_LENGTH],
        closed_at=None,
        defaults=sides | {"organization_id": organization_id, "opened_at": at, "invoice": invoice},
    )
    if is_new:
        log.error("stripe_finding", kind=kind.value, subject=found.subject, text=found.text)
    else:
        StripeFinding.objects.filter(pk=found.pk).update(**sides)
        found.refresh_from_db(fields=list(sides))
    return found


def close_finding(*, kind: FindingKind, subject: str, at: datetime) -> bool:
    """Close the open finding of this kind and subject; whether there was one."""
    opened = StripeFinding.objects.filter(kind=kind, subject=subject[:SUBJECT_LENGTH], closed_at=None)
    return opened.update(closed_at=at) > 0


@transaction.atomic
def tell_staff(*, at: datetime) -> int:
    """One mail about all open findings that nobody was told of yet; how many there were. Of two at once, one tells."""
    new = StripeFinding.objects.filter(told_at=None, closed_at=None).select_related("organization")
    found = list(new.select_for_update(of=("self",), skip_locked=True).order_by("opened_at", "pk"))
    if found:
        queue_mail("staff_stripe_findings", to=staff_addresses(), context={"findings": found})
        StripeFinding.objects.filter(pk__in=[finding.pk for finding in found]).update(told_at=at)
    return len(found)


def open_differences(organization: Organization | None) -> Iterator[Difference]:
    """Invoices that differ from our statements, for `manage.py reconcile`; of one organization or of all. `where` names the
    finding, whose page has the rest, and the first hours of usage that differ."""
    rows = StripeFinding.objects.filter(kind=FindingKind.INVOICE, closed_at=None)
    if organization is not None:
        rows = rows.filter(organization=organization)
    for finding in rows.order_by("opened_at", "pk"):
        where = f"{finding.public_id} {finding.subject}{_hours(finding.behind)}"
        yield Difference("stripe invoice", where, _said(finding.theirs), _said(finding.ours))


def _said(side: Mapping[str, Any]) -> str:
    """`11900 for 120000`: minor units, and Stripe's whole units where they are counted."""
    if "amount_minor" not in side:
        return "nothing"
    counted = f" for {side['quantity']}" if side.get("quantity") else ""
    return f"{side['amount_minor']}{counted}"


def _hours(behind: Mapping[str, Any]) -> str:
    hours = behind.get("hours") or []
    if not hours:
        return ""
    first = ", ".join(
        f"hour {hour['hour']}: told {hour['told']}, counted {hour['counted']}" for hour in hours[:HOURS_NAMED]
    )
    more = len(hours) + behind.get("more", 0) - HOURS_NAMED
    return f" ({first}{f', and {more} more' if more > 0 else ''})"
