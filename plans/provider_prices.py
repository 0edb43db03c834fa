"""Prices of language models as their providers list them, from the package genai-prices: read when staff ask, never when rating.

What changed becomes a new dated row (plans/models/language.py); rows that begun stay as they are, and models whose newest row
is the owner's own are left alone.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal

import genai_prices
from django.db import transaction
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import ModelPrice as ListedPrice

from plans.models import LanguageModel, ModelPrice

SOURCE = "genai-prices"
CURRENCY = "USD"  # the package's
# What the package calls the prices of our kinds.
_KINDS = {
    "input": "input_mtok", "cached_input": "cache_read_mtok", "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok", "image_input": "input_image_mtok", "image_output": "output_image_mtok",
    "audio_input": "input_audio_mtok", "output": "output_mtok", "reasoning": "output_reasoning_mtok", "audio_output": "output_audio_mtok",
}  # fmt: skip
Prices = dict[str, Decimal | None]


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A model's prices from a moment on that differ from the newest rows that we have: by the input tokens above which each
    holds."""

    model: str
    starts_at: datetime
    rows: dict[int, Prices]
    markup: Decimal
    before: dict[int, Prices]

    def __str__(self) -> str:
        words = [f"{self.model} from {self.starts_at:%Y-%m-%d %H:%M} UTC, markup {self.markup:f}:"]
        for above, prices in sorted(self.rows.items()):
            where = f"above {above} input tokens: " if above else ""
            old = self.before.get(above, {})
            words.append(
                where
                + ", ".join(
                    f"{kind} {_text(old.get(kind))} -> {_text(price)}" if old.get(kind) != price else f"{kind} {_text(price)}"
                    for kind, price in prices.items()
                    if price is not None or old.get(kind) is not None
                )
            )  # fmt: skip
        return "\n  ".join(words)


def _text(price: Decimal | None) -> str:
    return "-" if price is None else f"{price.normalize():f}"


def price_changes(
    *, providers: Collection[str], names: Collection[str], markup: Decimal | None, at: datetime
) -> list[PriceChange]:
    """What the providers' lists would change: of the named models, or of those that are sold. `markup` None keeps each
    model's own."""
    own = {model.name: model for model in LanguageModel.objects.prefetch_related("prices")}
    wanted = set(names) or set(own)
    found = []
    for name, listed in _listed(providers, wanted):
        rows = list(own[name].prices.all()) if name in own else []
        if any(not row.source.startswith(SOURCE) for row in _newest(rows)):
            continue  # the owner's own prices
        of_now = _newest([row for row in rows if row.starts_at <= at])
        before = {row.above_input: _of_row(row) for row in of_now}
        added = markup if markup is not None else (of_now[0].markup if of_now else Decimal(0))
        was = of_now[0].markup if of_now else None
        for starts_at, prices in _dated(listed, at):
            known = before if starts_at == at else {
                row.above_input: _of_row(row) for row in rows if row.starts_at == starts_at
            }  # fmt: skip
            if prices and (prices != known or (starts_at == at and was != added)):
                found.append(PriceChange(name, starts_at, prices, added, known))
    return found


def unlisted(*, providers: Collection[str], names: Collection[str]) -> list[str]:
    """Those of the named providers and models that the package does not list: mistyped, most of the time."""
    known = {provider.id for provider in get_snapshot().providers}
    listed = {name for name, _ in _listed(providers, names)}
    return [name for name in providers if name not in known] + [name for name in names if name not in listed]


@transaction.atomic
def apply_price_changes(changes: Collection[PriceChange]) -> int:
    """Write them as new rows; models that are not sold yet are made. How many rows there are more."""
    rows = [
        ModelPrice(
            model=LanguageModel.objects.get_or_create(name=change.model)[0],
            starts_at=change.starts_at,
            above_input=above,
            currency=CURRENCY,
            markup=change.markup,
            source=f"{SOURCE} {genai_prices.__version__}",
            **prices,
        )
        for change in changes
        for above, prices in change.rows.items()
    ]
    return len(ModelPrice.objects.bulk_create(rows))


def _listed(providers: Collection[str], wanted: Collection[str]) -> Iterator[tuple[str, ModelInfo]]:
    """The models of these providers (of any, where none is named) by the names that are wanted; the first that lists one."""
    left = set(wanted)
    for provider in get_snapshot().providers:
        if providers and provider.id not in providers:
            continue
        for model in provider.models:
            for name in sorted(n for n in left if n == model.id or model.is_match(n)):
                left.remove(name)
                yield name, model


def _dated(model: ModelInfo, at: datetime) -> list[tuple[datetime, dict[int, Prices]]]:
    """The rows that hold now, and those announced for later; prices that change with the time of day are not for us."""
    if not isinstance(model.prices, list):
        return [(at, _rows(model.prices))]
    dated: list[tuple[datetime, ConditionalPrice]] = []
    for price in model.prices:
        if isinstance(price.constraint, StartDateConstraint):
            dated.append((datetime.combine(price.constraint.start_date, time(), UTC), price))
        elif not isinstance(price.constraint, TimeOfDateConstraint):
            dated.append((datetime.min.replace(tzinfo=UTC), price))
    begun = [price for starts_at, price in dated if starts_at <= at]
    later = [(starts_at, _rows(price.prices)) for starts_at, price in dated if starts_at > at]
    return ([(at, _rows(begun[-1].prices))] if begun else []) + later


def _rows(listed: ListedPrice) -> dict[int, Prices]:
    """One row, or one more for each number of input tokens above which other prices hold; none without a price of input."""
    given = {kind: getattr(listed, name, None) for kind, name in _KINDS.items()}
    given["output"] = given["output"] or getattr(listed, "output_image_mtok", None)  # models that only draw
    if given["input"] is None:
        return {}
    borders = {0} | {
        t.start for price in given.values() if isinstance(price, TieredPrices) for t in price.tiers
    }
    calls = getattr(listed, "requests_kcount", None)
    rows = {}
    for border in sorted(borders):
        prices: Prices = {kind: _at_border(price, border) for kind, price in given.items()}
        prices["output"] = prices["output"] or Decimal(0)  # embeddings
        prices["per_call"] = calls / 1000 if isinstance(calls, Decimal) else Decimal(0)
        rows[border] = prices
    return rows


def _at_border(price: "Decimal | TieredPrices | None", border: int) -> Decimal | None:
    if not isinstance(price, TieredPrices):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= border), price.base)


def _newest(rows: Collection[ModelPrice]) -> list[ModelPrice]:
    newest = max((row.starts_at for row in rows), default=None)
    return [row for row in rows if row.starts_at == newest]


def _of_row(row: ModelPrice) -> Prices:
    return {kind: getattr(row, kind) for kind in (*_KINDS, "per_call")}
