"""Differences between Stripe and us: opened loudly, once for each subject, and closed when they are gone."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import structlog

from accounts.mail import queue_mail
from accounts.models import Organization
from accounts.queries import staff_addresses
from billing.models import FindingKind, StripeFinding
from metering.reconcile import Difference

log = structlog.get_logger(__name__)
SUBJECT_LENGTH, TEXT_LENGTH = 300, 500


def open_finding(
    *,
    kind: FindingKind,
    subject: str,
    text: str,
    at: datetime,
    organization_id: int | None = None,
    ours: Mapping[str, Any] | None = None,
    theirs: Mapping[str, Any] | None = None,
) -> StripeFinding:
    """The open finding of this kind and subject, made and logged as an error where there is none yet. What is found again
    brings both sides up to date and is not told again. Safe for two at once."""
    found, is_new = StripeFinding.objects.get_or_create(
        kind=kind,
        subject=subject[:SUBJECT_LENGTH],
        closed_at=None,
        defaults={
            "text": text[:TEXT_LENGTH],
            "organization_id": organization_id,
            "ours": dict(ours or {}),
            "theirs": dict(theirs or {}),
            "opened_at": at,
        },
    )
    if is_new:
        log.error("stripe_finding", kind=kind.value, subject=found.subject, text=found.text)
    else:
        found.text, found.ours, found.theirs = text[:TEXT_LENGTH], dict(ours or {}), dict(theirs or {})
        found.save(update_fields=["text", "ours", "theirs"])
    return found


def close_finding(*, kind: FindingKind, subject: str, at: datetime) -> bool:
    """Close the open finding of this kind and subject; whether there was one."""
    opened = StripeFinding.objects.filter(kind=kind, subject=subject[:SUBJECT_LENGTH], closed_at=None)
    return opened.update(closed_at=at) > 0


def tell_staff(*, at: datetime) -> int:
    """One mail about all open findings that nobody was told of yet; how many there were."""
    new = StripeFinding.objects.filter(told_at=None, closed_at=None).select_related("organization")
    found = list(new.order_by("opened_at", "pk"))
    if found:
        queue_mail("staff_stripe_findings", to=staff_addresses(), context={"findings": found})
        StripeFinding.objects.filter(pk__in=[finding.pk for finding in found]).update(told_at=at)
    return len(found)


def open_differences(organization: Organization | None) -> Iterator[Difference]:
    """Invoices that differ from our statements, for `manage.py reconcile`; of one organization or of all."""
    rows = StripeFinding.objects.filter(kind=FindingKind.INVOICE, closed_at=None)
    if organization is not None:
        rows = rows.filter(organization=organization)
    for finding in rows.order_by("opened_at", "pk"):
        theirs, ours = finding.theirs.get("amount_minor"), finding.ours.get("amount_minor")
        yield Difference("stripe invoice", finding.subject, str(theirs), str(ours))
