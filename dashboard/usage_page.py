"""What the usage page shows, read once: figures, the period's chart, the live minutes, the latest calls."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.urls import reverse

from accounts.models import Organization
from billing.explain import NOW
from core.money import format_money
from dashboard.charts import Bar, Chart, Minute, grouped, keep_largest, minute_chart
from keys.queries import key_names
from metering.costs import period_cost
from metering.models import UsageEvent
from metering.queries import (
    EventFilter,
    Unbilled,
    UsagePoint,
    has_only_test_calls,
    latest_events,
    minute_series,
    period_quantity,
    refusals,
    unbilled_calls,
    usage_series,
)
from plans.models import Meter, Period, Route
from plans.pricing import Rated
from plans.queries import find_period, sandbox_limits

GROUPS = {"key": "api_key_id", "route": "route_id"}
HOURS_SHOWN = 48
DAYS_SHOWN = 366
RANGES = ("day", "previous", "hour", "7", "30", "90", "custom")
REASONS = {
    "upstream_error": "upstream failed",
    "upstream_timeout": "upstream timed out",
    "upstream_unavailable": "upstream unreachable",
    "client_error": "bad request",
    "client_gone": "client left",
    "expired": "not settled in time",
    "unreported": "its end was not reported",
    "connection_closed": "how a connection ended",
    "replayed": "answered again",
    "filtered": "outside the meter's filter",
}
CORRECTIONS = {"correction": "a correction", "void": "a void"}  # they change what is charged


@dataclass(frozen=True, slots=True)
class Choices:
    """What the reader asked to see; anything unknown falls back to the first choice."""

    mode: str
    group: str
    step: str
    start: date | None = None
    end: date | None = None

    @classmethod
    def of(cls, query: dict[str, str]) -> "Choices":
        pick = {"mode": ("live", "test"), "by": ("key", "route"), "step": RANGES}
        chosen = {
            name: query[name] if query.get(name) in allowed else allowed[0] for name, allowed in pick.items()
        }
        start, end = _day(query.get("from", "")), _day(query.get("to", ""))
        is_custom = chosen["step"] == "custom" and start is not None and end is not None and start <= end
        if chosen["step"] == "custom" and not is_custom:
            chosen["step"] = "day"
        return cls(chosen["mode"], chosen["by"], chosen["step"], *((start, end) if is_custom else ()))

    @property
    def query(self) -> dict[str, str]:
        """What keeps these choices in an address."""
        days = {"from": self.start.isoformat(), "to": self.end.isoformat()} if self.start and self.end else {}
        return {"mode": self.mode, "by": self.group, "step": self.step} | days


def choices_for(organization: Organization, query: dict[str, str]) -> tuple[Choices, bool]:
    """What this address asks for, and whether it shows test calls unasked: to who has made no live call yet, the first
    calls would look lost."""
    unasked = "mode" not in query and has_only_test_calls(organization)
    return Choices.of(query | {"mode": "test"} if unasked else query), unasked


@dataclass(frozen=True, slots=True)
class ChoiceMenu:
    """A menu of one choice: its label is the present one; items are (text, address, is the present one)."""

    label: str
    items: list[tuple[str, str, bool]]


MENUS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("mode", (("live", "Live"), ("test", "Test"))),
    ("by", (("key", "By key"), ("route", "By route"))),
    (
        "step",
        (
            ("day", "This period"),
            ("previous", "Last period"),
            ("hour", "Last 48 hours"),
            ("7", "Last 7 days"),
            ("30", "Last 30 days"),
            ("90", "Last 90 days"),
            ("custom", "Days of your choice"),
        ),
    ),  # fmt: skip
)


def choice_menus(choices: Choices) -> list[ChoiceMenu]:
    """The menus of the usage page; each item keeps the other choices."""
    chosen, menus = choices.query, []
    for name, options in MENUS:
        options = options if name != "step" or choices.start else options[:-1]
        items = [
            (text, "?" + urlencode(chosen | {name: value}), chosen[name] == value) for value, text in options
        ]
        menus.append(ChoiceMenu(dict(options)[chosen[name]], items))
    return menus


@dataclass(frozen=True, slots=True)
class Figures:
    """The row of figures on top. `included` None: no quantity is included; `share` in per cent of it, whole."""

    calls: Decimal
    included: Decimal | None
    left: Decimal | None
    share: int
    is_hard: bool
    unbilled: list[Unbilled]
    refused: list[Unbilled]

    @property
    def included_text(self) -> str:
        return grouped(self.included or 0)

    @property
    def state(self) -> str:
        """How the bar looks: a full hard quota means refusals, a full included quantity means overage."""
        if self.share < 80:
            return ""
        return "bad" if self.is_hard and self.share >= 100 else "warn"

    @property
    def left_note(self) -> str:
        if not self.is_hard:
            return "more is charged as overage"
        return "calls are refused until the next period" if not self.left else "then refused"

    @property
    def unbilled_note(self) -> str:
        return " · ".join(
            f"{grouped(one.calls)} {REASONS.get(one.reason, one.reason)}" for one in self.unbilled[:3]
        )

    @property
    def unbilled_total(self) -> int:
        return sum(one.calls for one in self.unbilled)

    @property
    def refused_total(self) -> int:
        return sum(one.calls for one in self.refused)


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call as the table shows it."""

    event: UsageEvent
    path: str
    key_name: str
    pill: str
    charged: str
    correction: str = ""


def figures(organization: Organization, *, period: Period, meter: Meter, mode: str, at: datetime) -> Figures:
    """Calls of the period, what is included and left, and what was not charged."""
    calls = period_quantity(organization, period=period, mode=mode, meter=meter)
    included, is_hard = _included(period, meter, mode)
    return Figures(
        calls=calls,
        included=included,
        left=max(included - calls, Decimal(0)) if included is not None else None,
        share=min(int(calls * 100 / included), 100) if included else 0,
        is_hard=is_hard,
        unbilled=unbilled_calls(organization, period=period, mode=mode),
        refused=refusals(organization, mode=mode, start=period.starts_at, end=period.ends_at),
    )


def period_chart(
    organization: Organization,
    *,
    period: Period,
    meter: Meter,
    choices: Choices,
    zone: ZoneInfo,
    at: datetime,
    expected: dict[date, Decimal] | None = None,
) -> Chart:
    """Usage of the period by day, or of its last 48 hours by hour, stacked by key or route; `expected` is hatched on top of
    the days that are still to come."""
    start, end = _window(period, choices, at, zone)
    points = usage_series(
        organization, mode=choices.mode, meter=meter, start=start, end=end,
        group=GROUPS[choices.group], step="hour" if choices.step == "hour" else "day", zone=zone,
    )  # fmt: skip
    names = key_names(organization) if choices.group == "key" else _route_names()
    steps = _steps(start, end, choices.step, zone)
    series, columns = keep_largest(_rows(points, names, steps))
    ticks = _ticks(len(steps))
    bars = tuple(
        Bar(
            _label(moment, choices.step),
            columns[place] if columns else (),
            expected=_expected(expected, moment, choices),
            tick=_tick(moment, choices.step) if place in ticks else "",
        )
        for place, moment in enumerate(steps)
    )
    unit = "hour" if choices.step == "hour" else "day"
    return Chart(
        "usage", f"{meter.name} per {unit}", f"{meter.name} per {unit} by {choices.group}, {zone.key}.",
        series, bars, unit=meter.unit + "s", bar_heading=unit.capitalize(),
    )  # fmt: skip


def _expected(daily: dict[date, Decimal] | None, moment: datetime, choices: Choices) -> Decimal:
    """Only the running period's own days have an expectation."""
    if daily is None or choices.step != "day" or choices.start:
        return Decimal(0)
    return daily.get(moment.date(), Decimal(0))


def live_chart(organization: Organization, *, mode: str, zone: ZoneInfo, at: datetime) -> Chart:
    """The last 60 minutes: what passed and what was refused."""
    points = minute_series(organization, mode=mode, at=at)
    minutes = [Minute(f"{p.at.astimezone(zone):%H:%M}", p.billed + p.unbilled, p.refused) for p in points]
    return minute_chart(
        ident="live", title="Last 60 minutes", description=f"Calls per minute, {zone.key}.", minutes=minutes
    )


def call_rows(
    organization: Organization, *, mode: str, limit: int = 10, before: tuple[datetime, str] | None = None,
    narrowed: EventFilter | None = None,
) -> list[CallRow]:  # fmt: skip
    """The latest calls with the names of their key and route."""
    names, routes = key_names(organization), _route_names()
    return [
        _call_row(event, names, routes)
        for event in latest_events(organization, mode=mode, limit=limit, before=before, narrowed=narrowed)
    ]


def bill(organization: Organization, *, period: Period, at: datetime) -> tuple[Rated, list[dict[str, str]]]:
    """This period's cost so far and its lines as label and amount."""
    rated = period_cost(organization, period=period, at=at)
    rows = [
        {
            "label": line_text(line.text, line.unit, line.quantity, period),
            "value": format_money(line.amount_minor, rated.currency),
            "why_url": reverse("dashboard:invoice-line", args=[NOW, position]),
        }
        for position, line in enumerate(rated.lines, 1)
    ]
    rows.append({"label": "Total", "value": format_money(rated.total_minor, rated.currency), "kind": "total"})
    return rated, rows


def line_text(text: str, unit: str, quantity: Decimal, period: Period) -> str:
    """`Starter, monthly` for the fee; `38,412 calls` for usage."""
    if not unit:
        return f"{text}, {period.version.get_interval_display().lower()}"
    return f"{quantity.normalize():,f} {unit}{'' if quantity == 1 else 's'}"


def _included(period: Period, meter: Meter, mode: str) -> tuple[Decimal | None, bool]:
    if mode == "test":
        return sandbox_limits(meter).included, True
    component = period.version.components.filter(meter=meter).first()
    if component is None:
        return None, False
    return component.included, period.is_trial or component.unit_price is None


def _window(period: Period, choices: Choices, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    if choices.step == "hour":
        end = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        return end - timedelta(hours=HOURS_SHOWN), end
    if choices.step == "previous":
        before = find_period(period.organization, at=period.starts_at - timedelta(microseconds=1))
        return (before.starts_at, before.ends_at) if before else (period.starts_at, period.ends_at)
    today = at.astimezone(zone).date()
    if choices.start and choices.end:
        last = min(choices.end, choices.start + timedelta(days=DAYS_SHOWN - 1))
        return _midnight(choices.start, zone), _midnight(last + timedelta(days=1), zone)
    if choices.step.isdecimal():
        first = today - timedelta(days=int(choices.step) - 1)
        return _midnight(first, zone), _midnight(today + timedelta(days=1), zone)
    return period.starts_at, period.ends_at


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 2000 <= day.year < 2200 else None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _steps(start: datetime, end: datetime, step: str, zone: ZoneInfo) -> list[datetime]:
    """The local starts of all steps that touch `[start, end)`; days are calendar days of the zone."""
    moment = start.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    if step == "hour":
        return [start.astimezone(zone) + timedelta(hours=number) for number in range(HOURS_SHOWN)]
    moment, steps = moment.replace(hour=0), []
    while moment < end.astimezone(zone):
        steps.append(moment)
        moment += timedelta(days=1)
    return steps


def _rows(
    points: Sequence[UsagePoint], names: dict[int, str], steps: list[datetime]
) -> dict[str, list[int | Decimal]]:
    """A row per name, a column per step."""
    places = {moment: place for place, moment in enumerate(steps)}
    rows: dict[str, list[int | Decimal]] = defaultdict(lambda: [0] * len(steps))
    for point in points:
        place = places.get(point.at)
        if place is not None:
            row = rows[names.get(point.group_id, "reported")]
            row[place] = row[place] + point.quantity
    return dict(rows)


def _ticks(count: int) -> set[int]:
    """About five labels, the first among them."""
    return set(range(0, count, max(count // 5, 1)))


def _label(moment: datetime, step: str) -> str:
    return f"{moment:%-d %b %H:%M}" if step == "hour" else f"{moment:%-d %b}"


def _tick(moment: datetime, step: str) -> str:
    return f"{moment:%H:%M}" if step == "hour" else f"{moment:%-d %b}"


def _route_names() -> dict[int, str]:
    routes = Route.objects.select_related("product")
    return {route.pk: f"/{route.product.slug}{route.path}" for route in routes}


def _call_row(event: UsageEvent, names: dict[int, str], routes: dict[int, str]) -> CallRow:
    charged = "" if event.reason in CORRECTIONS else REASONS.get(event.reason, event.reason)
    kind = "good" if 200 <= event.status < 400 else "warn" if 400 <= event.status < 500 else "bad"
    return CallRow(
        event=event,
        path=routes.get(event.route_id, "reported usage"),
        key_name=names.get(event.api_key_id, ""),
        pill=kind if event.status else "plain",
        charged=charged,
        correction=CORRECTIONS.get(event.reason, "a correction" if event.corrects_id else ""),
    )
