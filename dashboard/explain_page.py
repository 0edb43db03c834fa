"""What the pages of an opened line show: tiers, hours or calls, each with its sum and the way one level down."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import ValidationError

from billing.breakdown import Share, add_shares
from billing.explain import CallShare, OpenedLine
from billing.models import LineKind
from billing.wording import DisplayTier, display_lines, plain, quantity_words
from core.errors import NotFound
from core.hours import check_moment
from core.money import format_money, format_price
from keys.queries import key_names
from metering.steps import Cursor
from plans.models import Route

HOURS_SHOWN = 100
HOUR_FORMAT = "%Y-%m-%dT%H"
RULES = {
    "included": "Units in the order of time: the included ones are free, those above cost the unit price.",
    "per_unit": "Every unit costs the unit price.",
    "graduated": "Units fill the tiers in the order of time; a tier's flat price falls on who reaches it.",
    "volume": "Every unit costs what the tier says that the whole quantity reached in the end.",
    "package": "Units come in packages: a package is charged to the call that begins it.",
}
WORDS = {
    LineKind.FEE: "The plan's fee for this period. It does not depend on usage.",
    LineKind.FEE_CREDIT: "The plan was changed before its fee was used up: the smaller of the share of time left and the share of included quantity left is given back.",
    LineKind.MINIMUM: "Usage came to less than the plan's minimum: this is the rest of it.",
    LineKind.WRITE_OFF: "Usage went above the spend cap: what is above it is not charged.",
    LineKind.CREDIT: "Given back by us; the reason is the line's text.",
    LineKind.ADJUSTMENT: "Usage of an earlier period that came late or was corrected: the difference to what was billed.",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a level. `url` opens it, '' where nothing lies below."""

    label: str
    quantity: str
    amount: str
    url: str = ""
    note: str = ""
    moment: datetime | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """A page: its rows, their sum, and what they add up to."""

    name: str  # tiers, hours or calls
    rows: Sequence[Row]
    sum_quantity: str
    sum_amount: str
    older: str = ""
    newer: str = ""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the three levels of one line are."""

    line: str
    hours: str
    calls: str

    def of_hours(self, tier: int | None) -> str:
        return self.hours + _query(tier=tier)

    def of_calls(self, hour: datetime, tier: int | None) -> str:
        return self.calls + _query(hour=hour.astimezone(UTC).strftime(HOUR_FORMAT), tier=tier)


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a line an address asks for. Anything unknown: NotFound."""

    tier: int | None = None
    hour: datetime | None = None
    after: Cursor | None = None
    page: int = 1

    @classmethod
    def of(cls, query: dict[str, str], line: OpenedLine) -> "Selection":
        tier = int(query["tier"]) if query.get("tier", "").isdecimal() else None
        if query.get("tier") and tier is None:
            raise NotFound
        if tier is not None:
            line.tier(tier)
        page = int(query["page"]) if query.get("page", "").isdecimal() and len(query["page"]) < 6 else 1
        return cls(tier, _hour(query.get("hour", "")), _cursor(query.get("after", "")), max(page, 1))


def words_of(line: OpenedLine) -> str:
    """Why this line costs what it does, in a sentence."""
    if line.line.kind in WORDS:
        return WORDS[LineKind(line.line.kind)]
    return RULES.get(line.model, "")


def tier_words(line: OpenedLine) -> tuple[DisplayTier, ...]:
    return display_lines([line.line], currency=line.document.currency)[0].tiers


def tier_level(line: OpenedLine, where: Addresses) -> Level:
    """The tiers, and what rounding added; together the line."""
    currency, unit = line.document.currency, line.line.unit
    rows = [
        Row(
            f"{words.range or 'once'} {words.price_words}" if line.is_metered else words.range or "once",
            words.quantity, words.amount, where.of_hours(number) if line.is_metered else "",
        )
        for number, words in enumerate(tier_words(line), 1)
    ]  # fmt: skip
    if line.rounding:
        rows.append(Row("Rounded once, half up", "", format_price(line.rounding, currency)))
    quantity = quantity_words(line.line.quantity, unit) if line.is_metered else ""
    return Level("tiers", rows, quantity, format_money(line.line.amount_minor, currency))


def hour_level(line: OpenedLine, chosen: Selection, where: Addresses) -> Level:
    """Hours of the line or of one tier, 100 a page; the sum is of all of them."""
    hours = line.hours(chosen.tier)
    first = (chosen.page - 1) * HOURS_SHOWN
    rows = [
        _row(line, one.share, moment=one.hour, url=where.of_calls(one.hour, chosen.tier),
             note=f"{one.events} event{'' if one.events == 1 else 's'}")
        for one in hours[first : first + HOURS_SHOWN]
    ]  # fmt: skip
    address = where.hours
    older = (
        address + _query(tier=chosen.tier, page=chosen.page + 1) if len(hours) > first + HOURS_SHOWN else ""
    )
    newer = address + _query(tier=chosen.tier, page=chosen.page - 1) if chosen.page > 1 else ""
    return _level("hours", line, rows, [one.share for one in hours], older, newer)


def call_level(line: OpenedLine, chosen: Selection, where: Addresses) -> Level:
    """Calls of one hour, by cursor; the sum is the hour's."""
    if chosen.hour is None:
        raise NotFound
    calls, following = line.calls(chosen.hour, tier=chosen.tier, after=chosen.after)
    hour = [one.share for one in line.hours(chosen.tier) if one.hour == chosen.hour]
    names, routes = key_names(line.document.organization), route_names()
    rows = [
        _row(line, one.share, moment=one.at, note=_call_note(line, one, names, routes),
             request_id=(one.event.request_id if one.event else "") or str(one.id))
        for one in calls
    ]  # fmt: skip
    address = where.of_calls(chosen.hour, chosen.tier)
    older = (
        f"{address}&{urlencode({'after': f'{following[0].isoformat()}~{following[1]}'})}" if following else ""
    )
    return _level("calls", line, rows, hour, older, address if chosen.after else "")


def csv_rows(line: OpenedLine, level: str, chosen: Selection) -> Iterator[tuple[str, ...]]:
    """A level for spreadsheets: exact, and whole, however many pages it has."""
    currency = line.document.currency
    if level == "tiers":
        yield ("tier", "range", "quantity", "unit_price", "flat", "amount", "currency")
        for number, (words, tier) in enumerate(zip(tier_words(line), line.line.tiers, strict=True), 1):
            numbers = (plain(tier.quantity), plain(tier.unit_price), plain(tier.flat), plain(tier.amount))
            yield (str(number), words.range, *numbers, currency)
    elif level == "hours":
        yield ("hour", "events", "quantity", "amount", "currency")
        for one in line.hours(chosen.tier):
            yield (one.hour.isoformat(), str(one.events), *_numbers(one.share), currency)
    else:
        yield ("time", "event", "request", "reading", "quantity", "amount", "currency")
        for call in _all_calls(line, chosen):
            request = call.event.request_id if call.event else ""
            head = (call.at.isoformat(), str(call.id), request, plain(call.reading))
            yield (*head, *_numbers(call.share), currency)


def route_names() -> dict[int, str]:
    """Paths by id, for tables of calls."""
    routes = Route.objects.select_related("product")
    return {route.pk: f"/{route.product.slug}{route.path}" for route in routes}


def _all_calls(line: OpenedLine, chosen: Selection) -> Iterator[CallShare]:
    if chosen.hour is None:
        raise NotFound
    after: Cursor | None = None
    while True:
        page, after = line.calls(chosen.hour, tier=chosen.tier, after=after, limit=1_000)
        yield from page
        if after is None:
            return


def _level(
    name: str, line: OpenedLine, rows: Sequence[Row], shares: Sequence[Share], older: str, newer: str
) -> Level:
    total = add_shares(shares)
    return Level(
        name, rows, quantity_words(total.quantity, line.line.unit),
        format_price(total.amount, line.document.currency), older, newer,
    )  # fmt: skip


def _row(
    line: OpenedLine, share: Share, *, moment: datetime, url: str = "", note: str = "", request_id: str = ""
) -> Row:
    quantity = quantity_words(share.quantity, line.line.unit)
    amount = format_price(share.amount, line.document.currency)
    return Row("", quantity, amount, url, note, moment, request_id)


def _call_note(line: OpenedLine, call: CallShare, names: dict[int, str], routes: dict[int, str]) -> str:
    event, notes = call.event, []
    if event is None:
        return ""
    if event.period_id != line.states()[-1].scope.period.pk:
        notes.append("carried over")
    notes.append(
        routes.get(event.route_id, "") or ("a correction" if event.corrects_id else "reported usage")
    )
    notes.append(names.get(event.api_key_id, ""))
    if event.reason:
        notes.append(event.reason.replace("_", " "))
    if not line.states()[-1].scope.meter.is_additive:
        notes.append(f"reads {plain(call.reading)}")
    return " · ".join(note for note in notes if note)


def _numbers(share: Share) -> tuple[str, str]:
    return plain(share.quantity), plain(share.amount)


def _query(**values: object) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _hour(text: str) -> datetime | None:
    if not text:
        return None
    try:
        hour = datetime.strptime(text, HOUR_FORMAT).replace(tzinfo=UTC)
        check_moment(hour)
    except (ValueError, ValidationError):
        raise NotFound from None
    return hour


def _cursor(text: str) -> Cursor | None:
    moment, _, identifier = text.partition("~")
    try:
        at = datetime.fromisoformat(moment)
        return (at, UUID(identifier)) if at.tzinfo else None
    except ValueError:
        return None
