"""From a call up: its hour, the tier it fell into, the line that bills it, and the document; with what it cost, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from accounts.models import Organization
from billing.breakdown import Share, add_shares
from billing.explain import (
    CallShare,
    Opened,
    OpenedLine,
    draft_document,
    line_of,
    period_reference,
    stored_document,
)
from billing.models import LineKind, Statement, StatementState
from billing.wording import DisplayTier, display_lines
from core.errors import NotFound
from keys.models import Mode
from metering.models import UsageEvent
from metering.queries import corrections_of
from metering.usage_corrections import UnknownEvent, events_of_request, find_event
from plans.models import Meter, Period
from plans.tiers import ZERO

NOT_BILLED = "Test calls are never billed."
NO_LINE = "The plan has no price for this meter."
LATE = "It came after the statement was final: the next one bills what it changes."


@dataclass(frozen=True, slots=True)
class TraceTier:
    """The part of a call that fell into one tier of its line; `number` counts from 1."""

    number: int
    words: DisplayTier
    share: Share


@dataclass(frozen=True, slots=True)
class Trace:
    """One event and where its money stands. `line` None: `note` says why it is on none."""

    event: UsageEvent
    organization: Organization
    meter: Meter | None
    period: Period | None
    hour: datetime
    corrections: Sequence[UsageEvent] = ()
    line: OpenedLine | None = None
    share: Share = Share(ZERO, ZERO)
    tiers: Sequence[TraceTier] = ()
    note: str = ""

    @property
    def document(self) -> Opened | None:
        return self.line.document if self.line else None

    @property
    def cost(self) -> Decimal:
        """With its corrections: exact, major units."""
        return self.share.amount


def find_calls(text: str, *, organization: Organization | None = None) -> list[UsageEvent]:
    """Events of a request id, or the one of an event id; of one organization, or of all. Newest first, 20 at most."""
    text = text.strip()
    if not text or len(text) > 40 or "\x00" in text:  # PostgreSQL cannot be asked for a NUL
        return []
    try:
        return [find_event(UUID(text), organization=organization)]
    except UnknownEvent:
        return []
    except ValueError:
        found = events_of_request(text, organization=organization)
        return [event for event in found if event.corrects_id is None] or found


def trace(event: UsageEvent, *, at: datetime) -> Trace:
    """Where this event stands now."""
    owner = Organization.objects.get(pk=event.organization_id)
    meter = Meter.objects.filter(pk=event.meter_id).first()
    period = (
        Period.objects.for_organization(owner)
        .select_related("version__plan", "organization")
        .filter(pk=event.period_id)
        .first()
    )
    hour = event.occurred_at.replace(minute=0, second=0, microsecond=0)
    corrections = corrections_of(event)
    plain = Trace(event, owner, meter, period, hour, corrections)
    if event.mode != Mode.LIVE or meter is None or period is None:
        return _noted(plain, NOT_BILLED if event.mode != Mode.LIVE else NO_LINE)
    document, is_late = _document(event, period, at)
    if document is None:
        return _noted(plain, LATE if is_late else NO_LINE)
    line = line_of(document, meter=meter.slug, dimension=event.dimension, period=period)
    if line is None:
        return _noted(plain, NO_LINE)
    return _priced(plain, line)


def _noted(found: Trace, note: str) -> Trace:
    return Trace(
        found.event, found.organization, found.meter, found.period, found.hour, found.corrections, note=note
    )


def _priced(found: Trace, line: OpenedLine) -> Trace:
    ids = [found.event.id, *[one.id for one in found.corrections]]
    calls = [call for one in ids for call in line.calls(found.hour, only=one)[0]]
    words = display_lines([line.line], currency=line.document.currency)[0].tiers
    tiers = []
    for number, word in enumerate(words, 1):
        parts: list[CallShare] = [
            call for one in ids for call in line.calls(found.hour, tier=number, only=one)[0]
        ]
        if parts:
            tiers.append(TraceTier(number, word, add_shares([part.share for part in parts])))
    return Trace(
        found.event, found.organization, found.meter, found.period, found.hour, found.corrections, line,
        add_shares([call.share for call in calls]), tiers,
    )  # fmt: skip


def _document(event: UsageEvent, period: Period, at: datetime) -> tuple[Opened | None, bool]:
    """The document on which an event first counts, and whether it came too late for those there are."""
    standing = Statement.objects.filter(
        organization_id=period.organization_id, state=StatementState.FINALISED
    ).select_related("organization", "period__version__plan", "period__organization")
    own = standing.filter(period=period, kind="period").first()
    if own is None:
        try:
            return draft_document(period.organization, period_reference(period, at=at), at=at), False
        except NotFound:
            return None, False
    if event.stored_at <= own.cut_at:
        return stored_document(own), False
    adjusting = standing.filter(
        lines__kind=LineKind.ADJUSTMENT, lines__of_period=period, lines__since__lt=event.stored_at,
        cut_at__gte=event.stored_at,
    ).order_by("cut_at").first()  # fmt: skip
    return (stored_document(adjusting) if adjusting else None), True
