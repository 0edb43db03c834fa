"""Differences between Stripe and us: opened loudly, once for each subject, and closed when they are gone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from billing.models import FindingKind, StripeFinding

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
