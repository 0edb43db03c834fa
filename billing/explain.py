"""Any number of a document, opened: a line into tiers, tiers into hours, hours into calls; each adds up to the one above.

A line is read as it was stored (or, of a period without a statement, as it would be now), its hours and calls from the ledger
at the statement's cut. How an amount falls on them: billing/breakdown.py.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from accounts.models import Organization
from billing.breakdown import NOTHING, Breakdown, Share, add_shares
from billing.drafts import DraftLine, draft_lines, stored_lines
from billing.models import LineKind, Statement
from core.errors import NotFound
from core.money import to_major
from metering.costs import cost_rules, period_cost
from metering.models import UsageEvent
from metering.steps import (
    Cursor,
    EventStep,
    HourStep,
    Scope,
    event_steps,
    events_of,
    hour_steps,
    known_dimensions,
)
from plans.dimensions import match_text
from plans.models import Meter, Period
from plans.pricing import Terms
from plans.queries import find_period
from plans.tiers import EXACT, ZERO, PriceModel, Tier, UsagePrice

NEXT, NOW = "next", "now"
_STARTED = "p%Y%m%dT%H%M%S%f"
PAGE = 50


@dataclass(frozen=True, slots=True)
class Opened:
    """A document, final or not, whose lines can be explained. `reference` names it in addresses; `at` ends the readings that
    stand in a running period (None: they stand until its end)."""

    reference: str
    name: str
    organization: Organization
    period: Period
    currency: str
    lines: tuple[DraftLine, ...]
    cut_at: datetime | None = None
    at: datetime | None = None

    def line(self, position: int) -> "OpenedLine":
        """The line at this position, from 1. Raises NotFound."""
        if not 1 <= position <= len(self.lines):
            raise NotFound
        return OpenedLine(self, position, self.lines[position - 1])


@dataclass(frozen=True, slots=True)
class HourShare:
    """What an hour came to, in a line or in one of its tiers."""

    hour: datetime
    events: int
    share: Share


@dataclass(frozen=True, slots=True)
class CallShare:
    """What a call came to. `reading` is what it reported; `share.quantity` what that added to what is charged."""

    at: datetime
    id: UUID
    event: UsageEvent | None
    reading: Decimal
    share: Share


@dataclass(frozen=True, slots=True)
class _State:
    """The usage of a line as of one cut; of an adjustment there are two, the one before counts negative."""

    sign: int
    scope: Scope
    price: UsagePrice
    hours: list[HourStep]
    breakdown: Breakdown
    columns: tuple[int, ...]  # tier of the line for each tier of the breakdown

    def shares(self, before: Decimal, after: Decimal, width: int) -> list[Share]:
        row = [NOTHING] * width
        for column, share in zip(self.columns, self.breakdown.between(before, after), strict=True):
            row[column] = row[column] + (share if self.sign > 0 else NOTHING - share)
        return row


@dataclass(slots=True)
class OpenedLine:
    """A line and its parts. Tiers are counted from 1, as people do."""

    document: Opened
    position: int
    line: DraftLine
    _states: list[_State] | None = field(default=None, repr=False)

    @property
    def is_metered(self) -> bool:
        """Whether it opens into hours; fees, credits and true-ups are one sum."""
        return bool(self.line.meter)

    @property
    def exact(self) -> Decimal:
        """What its tiers add up to, before it was rounded to the currency's minor unit; without tiers, the one sum."""
        if not self.line.tiers:
            return to_major(self.line.amount_minor, self.document.currency)
        return add_shares([Share(tier.quantity, tier.amount) for tier in self.line.tiers]).amount

    @property
    def rounding(self) -> Decimal:
        """What rounding added; of an adjustment, the difference of two roundings."""
        if not self.line.tiers:
            return ZERO
        return EXACT.subtract(to_major(self.line.amount_minor, self.document.currency), self.exact)

    @property
    def model(self) -> str:
        """The pricing model, '' where nothing is metered."""
        return self.states()[-1].price.model.value if self.is_metered else ""

    def tier(self, number: int) -> Tier:
        """Raises NotFound."""
        if not 1 <= number <= len(self.line.tiers):
            raise NotFound
        return self.line.tiers[number - 1]

    def states(self) -> list[_State]:
        if self._states is None:
            self._states = _states(self)
        return self._states

    def adds_up(self) -> bool:
        """Whether the ledger still says what the line says, to the last digit of every tier."""
        if not self.is_metered:
            return True
        totals = [self._total(number) for number in range(1, len(self.line.tiers) + 1)]
        return totals == [Share(tier.quantity, tier.amount) for tier in self.line.tiers]

    def hours(self, tier: int | None = None) -> list[HourShare]:
        """Hours with events, oldest first; of one tier those that reached it. Their shares add up to the line or tier."""
        width, rows = len(self.line.tiers) + 1, dict[datetime, tuple[int, Decimal, list[Share]]]()
        for state in self.states() if self.is_metered else ():
            reached = ZERO
            for step in state.hours:
                after = EXACT.add(reached, step.quantity)
                events, quantity, shares = rows.get(step.hour, (0, ZERO, [NOTHING] * width))
                new = state.shares(reached, after, width)
                rows[step.hour] = (
                    max(events, step.events),
                    EXACT.add(quantity, EXACT.multiply(step.quantity, state.sign)),
                    [old + more for old, more in zip(shares, new, strict=True)],
                )
                reached = after
        found = [
            HourShare(hour, events, _chosen(quantity, shares, tier))
            for hour, (events, quantity, shares) in sorted(rows.items())
        ]
        return found if tier is None else [one for one in found if one.share != NOTHING]

    def calls(
        self, hour: datetime, *, tier: int | None = None, after: Cursor | None = None, limit: int = PAGE,
        only: UUID | None = None,
    ) -> tuple[list[CallShare], Cursor | None]:  # fmt: skip
        """Calls of an hour, oldest first, and the cursor of the next page. Over all pages they add up to the hour."""
        width, rows = len(self.line.tiers) + 1, dict[UUID, tuple[Decimal, list[Share]]]()
        steps = dict[UUID, EventStep]()
        for state in self.states() if self.is_metered else ():
            base = _sum(step.quantity for step in state.hours if step.hour < hour)
            within = self._within(tier)
            page = event_steps(
                state.scope, hour=hour, base=base, after=after, limit=limit + 1, within=within, only=only
            )
            for step in page:
                steps[step.id] = step
                quantity, shares = rows.get(step.id, (ZERO, [NOTHING] * width))
                new = state.shares(step.before, EXACT.add(step.before, step.quantity), width)
                rows[step.id] = (
                    EXACT.add(quantity, EXACT.multiply(step.quantity, state.sign)),
                    [old + more for old, more in zip(shares, new, strict=True)],
                )
        ordered = sorted(steps.values(), key=lambda step: step.place)
        shown = ordered[:limit]
        events = events_of(self.states()[-1].scope, shown) if shown else {}
        found = [
            CallShare(one.at, one.id, events.get(one.id), one.reading, _chosen(*rows[one.id], tier))
            for one in shown
        ]
        following = (shown[-1].at, shown[-1].id) if len(ordered) > limit else None
        return found if tier is None else [one for one in found if one.share != NOTHING], following

    def _within(self, tier: int | None) -> tuple[Decimal, Decimal | None] | None:
        """The range of a tier, where one state of the usage is all there is; a line's maximum concerns all."""
        if tier is None or len(self.states()) > 1:
            return None
        chosen = self.tier(tier)
        return (chosen.start, chosen.end) if chosen.quantity else None

    def _total(self, tier: int) -> Share:
        return add_shares([hour.share for hour in self.hours(tier)])


def stored_document(statement: Statement) -> Opened:
    """A final document; `statement` with its period, version and organization."""
    return Opened(
        statement.public_id, statement.number, statement.organization, statement.period, statement.currency,
        tuple(stored_lines(statement)), cut_at=statement.cut_at,
    )  # fmt: skip


def draft_document(organization: Organization, reference: str, *, at: datetime) -> Opened:
    """A period without a statement: `now` (the running one, as it stands), `next` (as its statement would be), or another by
    `period_reference`. Raises NotFound."""
    if reference in (NOW, NEXT):
        period = find_period(organization, at=at)
    else:
        period = _period_started(organization, reference)
    if period is None:
        raise NotFound
    until = at if reference == NOW else None
    rated = period_cost(organization, period=period, at=until)
    return Opened(
        reference, "This period, so far", organization, period, rated.currency, tuple(draft_lines(rated)), at=until
    )  # fmt: skip


def open_document(organization: Organization, reference: str, *, at: datetime) -> Opened:
    """The organization's document of this reference: public id or number of a statement, or of a draft. Raises NotFound."""
    rows = Statement.objects.for_organization(organization).select_related(
        "organization", "period__version__plan", "period__organization"
    )
    found = rows.filter(public_id=reference).first() or rows.filter(number=reference).first()
    return stored_document(found) if found else draft_document(organization, reference, at=at)


def period_reference(period: Period, *, at: datetime) -> str:
    """How a period without a statement is named in addresses."""
    if period.starts_at <= at < period.ends_at:
        return NOW
    return period.starts_at.astimezone(UTC).strftime(_STARTED)


def line_of(document: Opened, *, meter: str, dimension: str, period: Period) -> OpenedLine | None:
    """The line that bills this meter and dimension of a period."""
    terms = cost_rules([period])[0].terms
    taker = terms.taker((meter, dimension))
    wanted = match_text(terms.usage[taker].match) if taker is not None else dimension
    for position, line in enumerate(document.lines, 1):
        billed = line.of_period_id or document.period.pk
        if billed == period.pk and (line.meter, line.dimension) == (meter, wanted):
            return document.line(position)
    return None


def _period_started(organization: Organization, reference: str) -> Period | None:
    try:
        moment = datetime.strptime(reference, _STARTED).replace(tzinfo=UTC)
    except ValueError:
        return None
    periods = Period.objects.for_organization(organization).select_related("version__plan", "organization")
    return periods.filter(starts_at=moment).first()


def _states(opened: OpenedLine) -> list[_State]:
    line, document = opened.line, opened.document
    meter = Meter.objects.filter(slug=line.meter).first()
    if meter is None:
        return []
    if line.kind != LineKind.ADJUSTMENT:
        return [_state(opened, 1, document.period, meter, document.cut_at)]
    period = Period.objects.select_related("version__plan", "organization").get(pk=line.of_period_id or 0)
    return [
        _state(opened, -1, period, meter, line.since),
        _state(opened, 1, period, meter, document.cut_at),
    ]


def _state(opened: OpenedLine, sign: int, period: Period, meter: Meter, cut_at: datetime | None) -> _State:
    line = opened.line
    terms = cost_rules([period])[0].terms
    price, takes = _price(terms, line)
    dimensions = tuple(one for one in known_dimensions(period, meter) if takes(one))
    scope = Scope(period, meter, dimensions, cut_at=cut_at, at=opened.document.at)
    hours = hour_steps(scope)
    used = _sum(step.quantity for step in hours)
    breakdown = Breakdown.of(price, used, opened.document.currency)
    return _State(sign, scope, price, hours, breakdown, _columns(line, breakdown.tiers))


def _price(terms: Terms, line: DraftLine) -> tuple[UsagePrice, Callable[[str], bool]]:
    """The price of a line, and which dimensions it takes."""
    named = [(price.meter, match_text(price.match)) for price in terms.usage]
    if (line.meter, line.dimension) in named:
        own = named.index((line.meter, line.dimension))
        return terms.usage[own], lambda dimension: terms.taker((line.meter, dimension)) == own
    free = UsagePrice(line.meter, line.unit, ZERO, ZERO, PriceModel.PER_UNIT)
    return free, lambda dimension: dimension == line.dimension


def _columns(line: DraftLine, tiers: Sequence[Tier]) -> tuple[int, ...]:
    """The line's tier for each of these; what an adjustment left out because nothing changed goes to the last column."""
    if line.kind != LineKind.ADJUSTMENT:
        return tuple(min(number, len(line.tiers)) for number in range(len(tiers)))
    places = {_range(tier): number for number, tier in reversed(list(enumerate(line.tiers)))}
    return tuple(places.get(_range(tier), len(line.tiers)) for tier in tiers)


def _sum(quantities: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for quantity in quantities:
        total = EXACT.add(total, quantity)
    return total


def _range(tier: Tier) -> tuple[Decimal, Decimal | None, Decimal]:
    return tier.start, tier.end, tier.unit_price


def _chosen(quantity: Decimal, shares: Iterable[Share], tier: int | None) -> Share:
    shares = list(shares)
    return Share(quantity, add_shares(shares).amount) if tier is None else shares[tier - 1]
