"""What the page of a difference with Stripe shows: both sides beside each other, and the calls behind a line of usage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from django.urls import reverse

from billing.models import StripeFinding
from billing.stripe.behind import HOUR_FORMAT
from core.money import format_money
from dashboard.charts import grouped
from dashboard.explain_page import Addresses

ADDRESS = "dashboard:staff-line"
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Both:
    """One thing as both sides have it, in words."""

    what: str
    theirs: str
    ours: str

    @property
    def differs(self) -> bool:
        return self.theirs != self.ours


@dataclass(frozen=True, slots=True)
class Calls:
    """Usage of an hour of the ledger; `url` opens its calls."""

    hour: datetime
    events: int
    units: int
    url: str


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour at Stripe: what it was told and what it counted, by which rows, and of which calls."""

    hour: datetime
    told: int
    counted: int
    rows: list[Json]
    calls: list[Calls]


def both_sides(finding: StripeFinding) -> list[Both]:
    """Quantity, amount and tiers; without amounts, whatever the sides say."""
    theirs, ours = finding.theirs, finding.ours
    if "amount_minor" not in theirs and "amount_minor" not in ours:
        return [
            Both(_words(name), _text(theirs.get(name)), _text(ours.get(name))) for name in {**theirs, **ours}
        ]
    currency = theirs.get("currency") or ours.get("currency") or _currency(finding)
    found = [Both("Line", _text(theirs.get("line")), _text(ours.get("line")))]
    if theirs.get("quantity") or ours.get("quantity"):
        found.append(Both("Units", _count(theirs), _count(ours)))
    found.append(Both("Amount, without tax", _amount(theirs, currency), _amount(ours, currency)))
    pairs = zip_longest(theirs.get("tiers") or (), ours.get("tiers") or ())
    found += [
        Both(f"Tier {number}", _tier(one, currency), _tier(other, currency))
        for number, (one, other) in enumerate(pairs, 1)
    ]
    return found


def line_url(finding: StripeFinding) -> str:
    """The page that explains our line; '' where there is none."""
    found = _line(finding)
    return reverse(ADDRESS, args=found) if found else ""


def hours_url(finding: StripeFinding) -> str:
    """The hours of our line; '' where no calls are known behind it."""
    found = _line(finding)
    return reverse(f"{ADDRESS}-hours", args=found) if found and "events" in finding.behind else ""


def hours(finding: StripeFinding) -> Iterator[Hour]:
    """The hours that differ, oldest first."""
    found = _line(finding)
    where = Addresses("", "", reverse(f"{ADDRESS}-calls", args=found)) if found else None
    for one in finding.behind.get("hours") or ():
        calls = [
            Calls(
                _hour(used["hour"]), used["events"], used["units"],
                where.of_calls(_hour(used["hour"]), None) if where else "",
            )
            for used in one["usage"]
        ]  # fmt: skip
        yield Hour(_hour(one["hour"]), one["told"], one["counted"], one["rows"], calls)


def _line(finding: StripeFinding) -> list[Any]:
    source = finding.behind if "document" in finding.behind else finding.ours
    return [source["document"], source["position"]] if "document" in source else []


def _hour(text: str) -> datetime:
    return datetime.strptime(text, HOUR_FORMAT).replace(tzinfo=UTC)


def _currency(finding: StripeFinding) -> str:
    return finding.invoice.currency if finding.invoice else "USD"


def _amount(side: Json, currency: str) -> str:
    return format_money(side["amount_minor"], currency) if "amount_minor" in side else "nothing"


def _count(side: Json) -> str:
    return grouped(int(side["quantity"])) if side.get("quantity") else "not counted"


def _tier(step: Json | None, currency: str) -> str:
    if step is None:
        return "none"
    return f"{grouped(step['quantity'])} for {format_money(step['amount_minor'], currency)}"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
