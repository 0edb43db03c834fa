"""The list of calls: what it is narrowed to, kept in the address, and its rows for the page and for spreadsheets."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from accounts.models import Organization
from dashboard.explain_page import route_names
from dashboard.usage_page import REASONS
from keys.models import ApiKey
from metering.models import UsageEvent
from metering.queries import EventFilter, latest_events
from plans.models import Meter

STATUSES = (("2", "2xx"), ("3", "3xx"), ("4", "4xx"), ("5", "5xx"))
CSV_HEAD = (
    "time",
    "event",
    "request",
    "mode",
    "meter",
    "quantity",
    "key",
    "route",
    "status",
    "duration_us",
    "reason",
)
BATCH = 2_000
MOST = 500_000  # rows of one file; more is asked for by narrower times


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What the reader asked for. Anything unknown is left out; `texts` are the values as the form shows them."""

    texts: dict[str, str]
    events: EventFilter

    @property
    def is_narrowed(self) -> bool:
        return any(value for name, value in self.texts.items() if name != "mode")

    def address(self, **more: str) -> str:
        """The query that keeps all of it."""
        return "?" + urlencode({name: value for name, value in (self.texts | more).items() if value})


@dataclass(frozen=True, slots=True)
class Options:
    """What the form offers: (value, words)."""

    keys: list[tuple[str, str]]
    routes: list[tuple[str, str]]
    statuses: tuple[tuple[str, str], ...]
    reasons: list[tuple[str, str]]


def narrowed(organization: Organization, query: dict[str, str], *, mode: str, zone: ZoneInfo) -> Narrowed:
    """Days are the reader's; both ends are included."""
    keys = dict(ApiKey.objects.for_organization(organization).values_list("public_id", "pk"))
    routes = {path: pk for pk, path in route_names().items()}
    start, end = _day(query.get("from", "")), _day(query.get("to", ""))
    texts = {
        "mode": mode,
        "from": start.isoformat() if start else "",
        "to": end.isoformat() if end else "",
        "key": query.get("key", "") if query.get("key") in keys else "",
        "route": query.get("route", "") if query.get("route") in routes else "",
        "status": query.get("status", "") if query.get("status") in dict(STATUSES) else "",
        "reason": query.get("reason", "") if query.get("reason") in ("billed", "unbilled", *REASONS) else "",
    }
    events = EventFilter(
        start=_midnight(start, zone) if start else None,
        end=_midnight(end + timedelta(days=1), zone) if end and end < date.max else None,
        key_id=keys.get(texts["key"]),
        route_id=routes.get(texts["route"]),
        status_class=int(texts["status"]) if texts["status"] else None,
        reason=texts["reason"],
    )
    return Narrowed(texts, events)


def options(organization: Organization) -> Options:
    keys = ApiKey.objects.for_organization(organization).order_by("name", "pk")
    paths = sorted(route_names().values())
    return Options(
        [(key.public_id, f"{key.name} ({key.mode})") for key in keys],
        [(path, path) for path in paths],
        STATUSES,
        [("billed", "charged"), ("unbilled", "not charged"), *REASONS.items()],
    )


def csv_rows(organization: Organization, chosen: Narrowed) -> Iterator[tuple[str, ...]]:
    """All calls that match, newest first, read in parts."""
    keys = dict(ApiKey.objects.for_organization(organization).values_list("pk", "public_id"))
    routes, meters = route_names(), dict(Meter.objects.values_list("pk", "slug"))
    yield CSV_HEAD
    before: tuple[datetime, str] | None = None
    for _ in range(MOST // BATCH):
        page = latest_events(
            organization, mode=chosen.texts["mode"], limit=BATCH, before=before, narrowed=chosen.events
        )
        for event in page:
            yield _csv_row(event, keys, routes, meters)
        if len(page) < BATCH:
            return
        before = (page[-1].occurred_at, str(page[-1].id))


def _csv_row(
    event: UsageEvent, keys: dict[int, str], routes: dict[int, str], meters: dict[int, str]
) -> tuple[str, ...]:
    return (
        event.occurred_at.isoformat(), str(event.id), event.request_id, event.mode, meters.get(event.meter_id, ""),
        f"{event.quantity.normalize():f}", keys.get(event.api_key_id, ""), routes.get(event.route_id, ""),
        str(event.status or ""), str(event.duration_us), event.reason,
    )  # fmt: skip


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)
