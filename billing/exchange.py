"""Sums over currencies, for showing only: every amount is charged, owed and paid in its own currency."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.models import ExchangeRate
from core.money import to_major, to_minor


@dataclass(frozen=True, slots=True)
class Converted:
    """One currency's amount as shown in another. Without a rate of that day or before, `into_minor` is None."""

    currency: str
    minor: int
    into: str
    into_minor: int | None
    rate: ExchangeRate | None


@dataclass(frozen=True, slots=True)
class ConvertedTotal:
    """The sum of what could be converted. `missing`: currencies without a rate, which are not in it."""

    into: str
    minor: int
    parts: tuple[Converted, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(part.currency for part in self.parts if part.into_minor is None)


def rates_on(day: date, *, into: str, currencies: Iterable[str]) -> dict[str, ExchangeRate]:
    """The newest rate of each currency that was in force on a day."""
    found = ExchangeRate.objects.filter(into=into, currency__in=list(currencies), valid_from__lte=day)
    newest = found.order_by("currency", "-valid_from", "-pk").distinct("currency")
    return {rate.currency: rate for rate in newest}


def convert_total(amounts: Mapping[str, int], *, into: str, on: date) -> ConvertedTotal:
    """Minor units per currency, converted each by itself and rounded half up, then added up."""
    rates = rates_on(on, into=into, currencies=amounts)
    parts = tuple(_convert(amounts[one], one, into, rates.get(one)) for one in sorted(amounts))
    return ConvertedTotal(into, sum(part.into_minor or 0 for part in parts), parts)


def rank_amounts(amounts: Sequence[tuple[int, str]], *, into: str, on: date) -> list[Decimal]:
    """What amounts (minor units, currency) are worth in one currency, major units, for sorting only; without a rate one
    counts as one."""
    rates = rates_on(on, into=into, currencies={currency for _, currency in amounts})
    worth = {currency: rate.rate for currency, rate in rates.items()}
    return [to_major(minor, currency) * worth.get(currency, Decimal(1)) for minor, currency in amounts]


def _convert(minor: int, currency: str, into: str, rate: ExchangeRate | None) -> Converted:
    if currency == into:
        return Converted(currency, minor, into, minor, None)
    shown = to_minor(to_major(minor, currency) * rate.rate, into) if rate else None
    return Converted(currency, minor, into, shown, rate)
