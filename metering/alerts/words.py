"""What alerts say: the same words in mails, webhooks, history and pages."""

from decimal import Decimal

from core.money import format_money, format_quantity, to_minor
from metering.alerts.evaluate import Measure
from metering.models import Alert, AlertAction, AlertKind
from plans.models import Meter, Period

AMOUNTS = (AlertKind.SPEND, AlertKind.CAP)
SHARES = (AlertKind.INCLUDED, AlertKind.QUOTA, AlertKind.CAP)
_OF = {
    AlertKind.INCLUDED: "of the included quantity",
    AlertKind.QUOTA: "of the quota",
    AlertKind.CAP: "of the spend cap",
}


def name_of(alert: Alert) -> str:
    """`80 % of the included quantity`, `$50.00 spent on usage`, `10,000 api_calls`."""
    kind = AlertKind(alert.kind)
    if kind == AlertKind.SPEND:
        return f"{format_money(to_minor(alert.threshold, alert.currency), alert.currency)} spent on usage"
    if kind == AlertKind.METER:
        return (
            f"{format_quantity(alert.threshold)} {alert.meter.name if alert.meter else 'of the main meter'}"
        )
    of_meter = f" ({alert.meter.name})" if alert.meter and kind != AlertKind.CAP else ""
    return f"{format_quantity(alert.threshold)} % {_OF[kind]}{of_meter}"


def action_of(alert: Alert) -> str:
    """What it does, in words."""
    if alert.action == AlertAction.THROTTLE:
        return f"throttle to {format_quantity(Decimal(alert.calls_per_minute or 0))} calls a minute"
    return "block calls" if alert.action == AlertAction.BLOCK else "notify"


def figure(alert: Alert, amount: Decimal, *, meter: Meter | None, currency: str) -> str:
    """A value or limit with its unit."""
    if alert.kind in AMOUNTS:
        return format_money(to_minor(amount, currency), currency)
    return (
        f"{format_quantity(amount)} {meter.unit}{'' if amount == 1 else 's'}"
        if meter
        else format_quantity(amount)
    )


def fired_text(alert: Alert, measure: Measure, *, meter: Meter | None, period: Period, imposed: bool) -> str:
    """One sentence on what was reached, one on what that does."""
    used = figure(alert, measure.value, meter=meter, currency=period.version.currency)
    text = f"{name_of(alert)} reached: {used} in the period {days_of(period)}."
    if not imposed:
        return text
    if alert.action == AlertAction.BLOCK:
        return f"{text} Calls with live keys are refused until the period ends or it is lifted."
    return f"{text} Live keys are throttled to {alert.calls_per_minute} calls a minute until the period ends or it is lifted."


def recovered_text(
    alert: Alert, measure: Measure | None, *, meter: Meter | None, period: Period, was_imposed: bool
) -> str:
    """That it is over, and why no more is refused."""
    lifted = " The restriction is lifted." if was_imposed else ""
    if measure is None:
        return f"{name_of(alert)}: it no longer applies in the period {days_of(period)}.{lifted}"
    used = figure(alert, measure.value, meter=meter, currency=period.version.currency)
    limit = figure(alert, measure.limit, meter=meter, currency=period.version.currency)
    return f"{name_of(alert)}: back below, {used} of {limit} in the period {days_of(period)}.{lifted}"


def test_text(alert: Alert) -> str:
    return f"Test, nothing was reached: the alert {name_of(alert)} would {action_of(alert)}."


def days_of(period: Period) -> str:
    """`1 Nov to 1 Dec 2026` (UTC, the end not included)."""
    return f"{period.starts_at:%-d %b} to {period.ends_at:%-d %b %Y} (UTC)"
