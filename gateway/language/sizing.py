"""From tokens to charges: what is reserved for a call to a language model, and what it is charged in the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal

from gateway.language.tokens import Tokens
from gateway.routes import FurtherMeter, LanguageTerms, ModelEntry
from keys.limits import CallLimits
from keys.records import KeyRecord
from metering.calls import Admission, Charge, Settling, Weighted
from metering.scoped import Weights, hold, weighted
from plans.models import Measure
from plans.token_prices import NO_PICTURES, Pictures, TokenPrices, prices_at


class NoPrice(Exception):
    """The model has no price that holds now, and the route bills its cost."""


@dataclass(frozen=True, slots=True)
class Bound:
    """No more tokens and pictures than these."""

    input: int
    output: int
    pictures: Pictures = NO_PICTURES

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Sizing:
    """The rules of one call: its meters, and the model's prices at the moment of its admission."""

    terms: LanguageTerms
    model: ModelEntry
    call_units: Decimal
    at: datetime
    route_id: int = 0

    def __post_init__(self) -> None:
        if self._bills_cost and prices_at(self.model.prices, at=self.at) is None:
            raise NoPrice(self.model.name)

    @property
    def _bills_cost(self) -> bool:
        return any(meter.measure == Measure.COST for meter in self.terms.meters)

    def reserve(self, record: KeyRecord, request: Admission, bound: Bound) -> Admission:
        """The admission with everything that a call within this bound may be charged."""
        span = record.span_at(request.span_start_us)
        units = [self._units(meter, self._most(meter, bound), ROUND_UP) for meter in self.terms.meters]
        further = [
            Charge(
                meter.meter_id,
                count,
                span.quota(meter.meter_id) if span is not None else -1,
                request.quota_code,
            )
            for meter, count in zip(self.terms.meters[1:], units[1:], strict=True)
        ]
        request = replace(request, units=units[0], further=tuple(further))
        if record.limits is None:
            return request
        weights = self._weights(bound.total, bound.input, bound.output, units)
        return hold(request, record.limits, weights, route_id=self.route_id, model=self.model.name)

    def never_fits(self, record: KeyRecord, bound: Bound) -> bool:
        """Whether a limit is lower than this one call: no waiting helps."""
        limits, day = record.limits, record.day_tokens
        if limits is None:
            return False
        windows = self._windows(limits, self._bound_weights(bound))
        return any(w.weight > w.limit for w in windows) or (day is not None and bound.total > day.limit)

    def corrections(
        self, record: KeyRecord, bound: Bound, tokens: Tokens, quantities: Sequence[Decimal]
    ) -> dict[str, tuple[int, int]]:
        """What windows counted at the reservation and what is true, by name, where these differ."""
        if record.limits is None:
            return {}
        units = [
            int(q.scaleb(meter.decimals)) for meter, q in zip(self.terms.meters, quantities, strict=True)
        ]
        true = self._weights(tokens.total, tokens.all_input, tokens.all_output, units)
        counted = self._windows(record.limits, self._bound_weights(bound))
        return {
            c.name: (c.weight, t.weight)
            for c, t in zip(counted, self._windows(record.limits, true), strict=True)
            if c.weight != t.weight
        }

    def _bound_weights(self, bound: Bound) -> Weights:
        units = [self._units(meter, self._most(meter, bound), ROUND_UP) for meter in self.terms.meters]
        return self._weights(bound.total, bound.input, bound.output, units)

    def _weights(self, tokens: int, of_prompt: int, of_answer: int, units: Sequence[int]) -> Weights:
        by_meter = {meter.meter_id: n for meter, n in zip(self.terms.meters, units, strict=True)}
        return Weights(tokens, of_prompt, of_answer, by_meter)

    def _windows(self, limits: CallLimits, weights: Weights) -> tuple[Weighted, ...]:
        return weighted(limits, weights, route_id=self.route_id, model=self.model.name)

    def more(self, record: KeyRecord, request: Admission, before: Bound, after: Bound) -> Admission:
        """The admission of a slice: what `after` needs beyond `before`."""
        old, new = self.reserve(record, request, before), self.reserve(record, request, after)
        return replace(
            new,
            units=new.units - old.units,
            further=_differences(new.further, old.further),
            daily=_differences(new.daily, old.daily),
            weighted=tuple(
                replace(n, weight=n.weight - o.weight)
                for n, o in zip(new.weighted, old.weighted, strict=True)
                if n.weight > o.weight
            ),
        )  # fmt: skip

    def quantities(self, tokens: Tokens, pictures: Pictures = NO_PICTURES) -> list[Decimal]:
        """What the call counts as, by meter, the route's own first; whole smallest units of each."""
        return [
            Decimal(self._units(meter, self._true(meter, tokens, pictures), ROUND_HALF_UP)).scaleb(
                -meter.decimals
            )
            for meter in self.terms.meters
        ]

    def settle(
        self, request: Admission, quantities: Sequence[Decimal], events: Sequence[bytes], tokens: int
    ) -> list[Settling]:
        """The true units of every charge, with the events of those that have one."""
        settled = [
            Settling(int(quantity.scaleb(meter.decimals)), event)
            for meter, quantity, event in zip(self.terms.meters, quantities, events, strict=True)
        ]
        return settled + [Settling(0 if isinstance(c.meter_id, str) else tokens) for c in request.daily]

    def price_row(self, tokens: Tokens) -> TokenPrices | None:
        """The row by which a call with these tokens is priced."""
        return prices_at(self.model.prices, at=self.at, input_tokens=tokens.all_input)

    def _most(self, meter: FurtherMeter, bound: Bound) -> Decimal:
        match meter.measure:
            case Measure.TOKENS:
                return Decimal(bound.total)
            case Measure.INPUT_TOKENS:
                return Decimal(bound.input)
            case Measure.OUTPUT_TOKENS:
                return Decimal(bound.output)
            case Measure.PICTURES:
                return Decimal(bound.pictures.count)
            case Measure.COST:
                rows = {
                    prices_at(self.model.prices, at=self.at, input_tokens=n) for n in self._borders(bound)
                }
                return max(
                    row.most(input_tokens=bound.input, output_tokens=bound.output, pictures=bound.pictures)
                    for row in rows
                    if row is not None
                )
        return self.call_units

    def _borders(self, bound: Bound) -> list[int]:
        """Numbers of input tokens at which each row that may price the call holds."""
        return [0, *(row.above_input + 1 for row in self.model.prices if row.above_input < bound.input)]

    def _true(self, meter: FurtherMeter, tokens: Tokens, pictures: Pictures) -> Decimal:
        match meter.measure:
            case Measure.TOKENS:
                return Decimal(tokens.total)
            case Measure.INPUT_TOKENS:
                return Decimal(tokens.all_input)
            case Measure.OUTPUT_TOKENS:
                return Decimal(tokens.all_output)
            case Measure.PICTURES:
                return Decimal(pictures.count)
            case Measure.COST:
                row = self.price_row(tokens)
                return row.cost(tokens.by_kind(), pictures) if row is not None else Decimal(0)
        return self.call_units

    @staticmethod
    def _units(meter: FurtherMeter, quantity: Decimal, rounding: str) -> int:
        return int(quantity.scaleb(meter.decimals).to_integral_value(rounding))


def _differences(new: Sequence[Charge], old: Sequence[Charge]) -> tuple[Charge, ...]:
    return tuple(replace(n, units=n.units - o.units) for n, o in zip(new, old, strict=True))
