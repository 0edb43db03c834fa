"""Acts on single rows of the outbox: given up, sent again by staff, and what Stripe reports of events that it had accepted."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from accounts.models import User
from accounts.services import record_audit
from billing.models import FindingKind, StripeFinding, StripeMeter, StripeUsage, UsageState
from billing.stripe.findings import close_finding, open_finding
from core.errors import Forbidden, PortalError

PERMISSION = "billing.change_stripeusage"
TAKEN_FOR = timedelta(days=35)  # Stripe refuses events that are dated earlier
IDENTIFIER_LENGTH = 100


class UsageNotOpen(PortalError):
    code, status, title = "usage_not_open", 409, "This usage is not refused, and its fate is not unknown"


def refuse(row: StripeUsage, error: str, *, at: datetime, is_fate_known: bool = False) -> bool:
    """Give a row up, loudly; whether it was still open. `is_fate_known`: it surely never reached Stripe."""
    still_open = StripeUsage.objects.filter(pk=row.pk).exclude(
        state__in=(UsageState.SENT, UsageState.REFUSED)
    )
    values = {"first_attempt_at": None} if is_fate_known else {}
    with transaction.atomic():
        if not still_open.update(state=UsageState.REFUSED, error=error[:300], **values):
            return False
        tell_finding(row, f"Usage was refused: {error}", at=at)
    return True


def tell_finding(row: StripeUsage, text: str, *, at: datetime, counted: int | None = None) -> StripeFinding:
    """Open the finding of a row; `counted` is what Stripe has of its hour."""
    return open_finding(
        kind=FindingKind.USAGE,
        subject=row.identifier,
        text=text,
        at=at,
        organization_id=row.organization_id,
        ours={"meter": row.meter.event_name, "value": row.value, "stamped_at": row.stamped_at.isoformat()},
        theirs={} if counted is None else {"counted": counted},
    )


@transaction.atomic
def send_again(*, row: StripeUsage, by: User | None, at: datetime) -> StripeUsage:
    """Staff decide that a refused row, or one of unknown fate, is to be told (again). A person answers for that: where the
    fate is unknown, Stripe's own figures should have been looked at.

    What Stripe had accepted and then dropped gets a new identifier, since it may still know the old one. Raises Forbidden
    or UsageNotOpen.
    """
    if by is not None and not by.has_perm(PERMISSION):
        raise Forbidden("This needs the permission to change usage told to Stripe.")
    row = (
        StripeUsage.objects.select_for_update(of=("self",))
        .select_related("organization", "meter")
        .get(pk=row.pk)
    )
    before = row.state
    if before not in (UsageState.REFUSED, UsageState.UNKNOWN):
        raise UsageNotOpen
    subject = row.identifier
    if row.sent_at is not None:
        suffix = f"-again{row.attempts}"
        row.identifier = row.identifier[: IDENTIFIER_LENGTH - len(suffix)] + suffix
    row.state, row.error, row.next_attempt_at = UsageState.PENDING, "", at
    row.first_attempt_at = row.sent_at = None
    row.save()
    close_finding(kind=FindingKind.USAGE, subject=subject, at=at)
    record_audit(
        organization=row.organization, by=by, action="stripe_usage.send_again", target=row.identifier, at=at,
        details={"before": before, "value": str(row.value)},
    )  # fmt: skip
    return row


def record_meter_error(report: Mapping[str, Any], *, at: datetime) -> StripeFinding:
    """What Stripe found wrong with events that it had accepted (`v1.billing.meter.error_report_triggered`, or
    `...no_meter_found`): a finding for the meter, and the rows that the report names are refused.

    `report` is the fetched event as plain data. The same report twice opens one finding.
    """
    data = report.get("data") or {}
    meter_id = str((report.get("related_object") or {}).get("id") or "")
    samples = list(_samples(data))
    meter = StripeMeter.objects.filter(stripe_id=meter_id).first()
    with transaction.atomic():
        organizations = {_drop(identifier, words) for identifier, words in samples} - {None}
        return open_finding(
            kind=FindingKind.METER_ERROR,
            subject=f"{meter_id or 'no meter'} from {data.get('validation_start') or at.isoformat()}",
            text=str(data.get("developer_message_summary") or "Stripe could not count events of a meter."),
            at=at,
            organization_id=organizations.pop() if len(organizations) == 1 else None,
            ours={
                "meter": meter.event_name if meter else "",
                "rows": [identifier for identifier, _ in samples],
            },
            theirs={"reason": data.get("reason") or {}, "event": str(report.get("id") or "")},
        )


def _samples(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Identifiers of bad events and what was wrong with them."""
    for kind in (data.get("reason") or {}).get("error_types") or ():
        for sample in kind.get("sample_errors") or ():
            identifier = (sample.get("request") or {}).get("identifier")
            if identifier:
                yield str(identifier), str(sample.get("error_message") or kind.get("code") or "")


def _drop(identifier: str, error: str) -> int | None:
    """Refuse a row that Stripe had accepted; its organization."""
    row = StripeUsage.objects.filter(identifier=identifier).first()
    if row is None:
        return None
    StripeUsage.objects.filter(pk=row.pk).exclude(state=UsageState.SENDING).update(
        state=UsageState.REFUSED, error=f"Accepted, then dropped by Stripe: {error}"[:300]
    )
    return row.organization_id
