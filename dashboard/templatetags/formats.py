"""How numbers, money, times and states look on every page: `{% load formats %}`."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from core.money import format_money, format_price
from dashboard import charts

register = template.Library()
register.filter("grouped", charts.grouped)
register.filter("short", charts.short)

_SHAPES = {"time": "%H:%M:%S", "date": "%-d %b %Y", "moment": "%-d %b, %H:%M", "ago": "%-d %b, %H:%M"}
_STATES = {
    "good": ["active", "live", "open", "healthy", "verified", "confirmed", "current", "ok", "accepted"],
    "warn": [
        "trialing",
        "past_due",
        "grace",
        "rotating",
        "pending",
        "expiring",
        "test",
        "degraded",
        "slow",
        "unconfirmed",
    ],
    "bad": ["suspended", "paused", "cancelled", "revoked", "expired", "down", "failed", "refused"],
}


@register.filter
def money(amount_minor: int, currency: str = "USD") -> str:
    """`4900` -> `$49.00`: what is charged, in minor units of the currency."""
    return format_money(amount_minor, currency)


@register.filter
def unit_price(price: Decimal, currency: str = "USD") -> str:
    """`Decimal("0.0005")` -> `$0.0005`: a rate in major units, with all its digits and at least the currency's own."""
    return format_price(price, currency)


@register.filter
def duration(micros: int | None) -> str:
    """Microseconds as people say them: `840 us`, `38 ms`, `1.2 s`, `2 min 5 s`; nothing for nothing."""
    if micros is None:
        return ""
    if micros < 1_000:
        return f"{micros} us"
    if micros < 1_000_000:
        return f"{micros // 1_000} ms"
    seconds, tenths = divmod(micros // 100_000, 10)
    if seconds < 60:
        return f"{seconds}.{tenths} s"
    return f"{seconds // 60} min {seconds % 60} s"


@register.filter
def size(count: int | None) -> str:
    """Bytes: `512 B`, `1.4 kB`, `3.0 MB` (powers of ten)."""
    if count is None:
        return ""
    if count < 1_000:
        return f"{count} B"
    for unit, power in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if count < power * 1_000 or unit == "GB":
            return f"{count // power}.{count * 10 // power % 10} {unit}"
    raise AssertionError("unreachable")


@register.filter
def share(used: int | Decimal, whole: int | Decimal | None) -> int:
    """Whole per cent for a bar, 0 to 100; nothing included counts as full once anything was used."""
    if not whole:
        return 100 if used else 0
    return min(100, int(used * 100 // whole))


@register.filter
def words(state: str) -> str:
    """`past_due` -> `past due`: a state's name as it stands on a page."""
    return str(state).replace("_", " ")


@register.filter
def code_spans(text: str) -> SafeString:
    """Words between backticks as code, everything escaped: texts of our own that name headers and fields."""
    pieces = text.split("`")
    return format_html_join(
        "",
        "{}",
        ((format_html("<code>{}</code>", piece) if at % 2 else piece,) for at, piece in enumerate(pieces)),
    )


@register.simple_tag
def local_time(moment: datetime | None, shape: str = "moment", *, none: str = "never") -> SafeString | str:
    """A moment in the reader's zone; shapes: time, date, moment, ago. The page's script corrects the zone if need be."""
    if moment is None:
        return none
    here = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" data-local="{}" title="{}">{}</time>',
        moment.astimezone(ZoneInfo("UTC")).isoformat(timespec="milliseconds"),
        shape,
        f"{here:%-d %B %Y, %H:%M:%S} {here:%Z}",
        here.strftime(_SHAPES[shape]),
    )


@register.simple_tag
def zone() -> SafeString:
    """The zone of the times on this page by the name of its place, e.g. `Berlin`, for a table's head."""
    name = str(timezone.get_current_timezone())
    return format_html(
        '<span data-zone title="{}">{}</span>', name, name.rpartition("/")[2].replace("_", " ")
    )


@register.simple_tag
def status_pill(status: int | None) -> SafeString:
    """An HTTP status: good below 400, warning for the caller's faults, bad for ours; a dash when there was no answer."""
    if not status:
        return format_html('<span class="pill pill-plain">{}</span>', "none")
    kind = "good" if status < 400 else "warn" if status < 500 else "bad"
    return format_html('<span class="pill pill-{}">{}</span>', kind, status)


@register.simple_tag
def state_pill(state: str, label: str = "") -> SafeString:
    """A key's, subscription's or member's state as a pill; what is neither good nor bad stays plain."""
    kind = next((kind for kind, states in _STATES.items() if str(state) in states), "plain")
    return format_html('<span class="pill pill-{}">{}</span>', kind, label or words(state))
