"""What the staff page "Revenue" shows, in text: figures with their definitions, the chart, and rows of the CSV."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from django.utils.dateparse import parse_date

from billing.revenue import MonthRevenue, Movement, rate_text, whole_minor
from billing.revenue_definitions import DEFINITIONS, Definition
from billing.revenue_queries import Charged
from billing.revenue_report import SHOWN_MONTHS, Choices, RevenueReport
from core.money import format_money, to_major
from dashboard.movement_chart import Flow, Moved, MovementChart

FLOWS: Mapping[Movement, Flow] = {
    Movement.NEW: Flow("new", "s1"),
    Movement.EXPANSION: Flow("expansion", "s2"),
    Movement.REACTIVATION: Flow("reactivation", "s3"),
    Movement.CONTRACTION: Flow("contraction", "s-other", is_loss=True),
    Movement.CHURN: Flow("churn", "bad", is_loss=True),
}
NONE = "–"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the month in text, with what it means."""

    definition: Definition
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class MonthRow:
    """Fixed beside usage revenue of one month, in text."""

    label: str
    fixed: str
    usage: str
    credited: str
    total: str


def choose(asked: Mapping[str, str], choices: Choices) -> tuple[date, str]:
    """The month (its first day) and currency asked for; what is not there is the newest month, the first currency."""
    try:
        month = parse_date(f"{asked.get('month', '')}-01")
    except ValueError:
        month = None
    currency = asked.get("currency", "")
    return (
        month if month in choices.months else choices.months[0],
        currency if currency in choices.currencies else choices.currencies[0],
    )


def shown_months(choices: Choices, month: date) -> int:
    """How many months up to this one are shown: a year, or since the log began."""
    return min(len([one for one in choices.months if one <= month]), SHOWN_MONTHS)


def figures(report: RevenueReport) -> list[Figure]:
    """The figures of the month asked for, in the order of their definitions."""
    month, currency = report.now, report.currency
    lost = month.moved_customers[Movement.CHURN]
    ended = month.trials_converted + month.trials_ended
    moved = month.moved_minor
    losses = moved[Movement.CHURN] + moved[Movement.CONTRACTION]
    gains = moved[Movement.EXPANSION] + moved[Movement.REACTIVATION]
    shown = {
        "mrr": (format_money(month.end_minor, currency), f"{_signed(month.end_minor - month.start_minor, currency)} this month"),
        "arr": (format_money(month.arr_minor, currency), "MRR × 12"),
        "arpu": (_average(month.arpu_minor, currency), _count(month.customers_end, "paying customer")),
        "logo_churn": (percent(month.logo_churn), f"{lost} of {_count(month.customers_start, 'customer')} lost"),
        "revenue_churn": (percent(month.revenue_churn), f"{format_money(losses, currency)} lost"),
        "net_revenue_churn": (percent(month.net_revenue_churn), f"{format_money(gains, currency)} gained back or added"),
        "ltv": (_average(month.ltv_minor, currency), "ARPU ÷ logo churn" if month.ltv_minor is not None else "nobody left"),
        "trial_conversion": (
            percent(month.trial_conversion), f"{month.trials_converted} of {_count(ended, 'trial')} over" if ended else "no trial was over",
        ),
    }  # fmt: skip
    return [Figure(one, *shown[one.slug]) for one in DEFINITIONS]


def movement_chart(report: RevenueReport) -> MovementChart:
    """MRR by movement of the months shown."""
    return MovementChart(
        ident="movements",
        title="MRR by movement",
        description="Monthly recurring revenue gained, upwards, and lost, downwards, in each month.",
        flows=tuple(FLOWS.values()),
        months=tuple(
            Moved(f"{one.month:%B %Y}", tuple(one.moved_minor[kind] for kind in FLOWS), f"{one.month:%b}")
            for one in report.months
        ),
        currency=report.currency,
    )


def month_rows(report: RevenueReport) -> list[MonthRow]:
    """Fixed beside usage revenue, the newest month first."""
    return [_month_row(one) for one in reversed(report.charged)]


def _month_row(one: Charged) -> MonthRow:
    def text(minor: int) -> str:
        return format_money(minor, one.currency)

    total = one.fixed_minor + one.usage_minor + one.credited_minor
    return MonthRow(
        f"{one.month:%B %Y}",
        text(one.fixed_minor),
        text(one.usage_minor),
        text(one.credited_minor),
        text(total),
    )


def csv_rows(report: RevenueReport) -> Iterator[list[str]]:
    """A head and a row for each month; amounts in major units with a point, rates as parts of one, empty = none."""
    yield [
        "month", "currency", "mrr_start", *(kind.value for kind in Movement), "mrr_end", "arr", "customers_start",
        "customers_end", "arpu", "logo_churn", "revenue_churn", "net_revenue_churn", "ltv", "trials_started",
        "trials_converted", "trials_ended", "trial_conversion", "charged_fixed", "charged_usage", "charged_credits",
    ]  # fmt: skip
    for month, charged in zip(report.months, report.charged, strict=True):
        yield _csv_row(month, charged)


def _csv_row(month: MonthRevenue, charged: Charged) -> list[str]:
    def major(minor: int) -> str:
        return f"{to_major(minor, month.currency):f}"

    def average(minor: Decimal | None) -> str:
        whole = whole_minor(minor)
        return "" if whole is None else major(whole)

    return [
        f"{month.month:%Y-%m}", month.currency, major(month.start_minor),
        *(major(month.moved_minor[kind]) for kind in Movement), major(month.end_minor), major(month.arr_minor),
        str(month.customers_start), str(month.customers_end), average(month.arpu_minor), rate_text(month.logo_churn) or "",
        rate_text(month.revenue_churn) or "", rate_text(month.net_revenue_churn) or "", average(month.ltv_minor), str(month.trials_started),
        str(month.trials_converted), str(month.trials_ended), rate_text(month.trial_conversion) or "", major(charged.fixed_minor),
        major(charged.usage_minor), major(charged.credited_minor),
    ]  # fmt: skip


def percent(rate: Decimal | None) -> str:
    """`4.2%`, half up; a dash where there is nothing to divide by."""
    return NONE if rate is None else f"{(rate * 100).quantize(Decimal('0.1'), ROUND_HALF_UP):f}%"


def _average(minor: Decimal | None, currency: str) -> str:
    whole = whole_minor(minor)
    return NONE if whole is None else format_money(whole, currency)


def _signed(minor: int, currency: str) -> str:
    return f"{'+' if minor > 0 else ''}{format_money(minor, currency)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
