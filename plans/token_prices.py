"""What the tokens of a call to a language model cost: a pure function of a dated price row, in major currency units.

Amounts have nine decimals, the most that meters count: a call's cost is rounded half up there, a bound of it always up.
Prices are per million tokens, as providers list them; a kind without a price of its own costs what its family does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal, localcontext

MILLION = Decimal(1_000_000)
NANO = Decimal("0.000000001")
INPUT_KINDS = ("input", "cached_input", "cache_write", "audio_input")
OUTPUT_KINDS = ("output", "reasoning", "audio_output")
KINDS = (*INPUT_KINDS, *OUTPUT_KINDS)


@dataclass(frozen=True, slots=True, eq=False)
class TokenPrices:
    """Prices that hold from `starts_at` for calls with more than `above_input` input tokens. `per_million` by kind: `input` and
    `output` are always there. `markup` is added to all of it: 0.25 is 25 %."""

    row_id: int
    starts_at: datetime
    currency: str
    per_million: Mapping[str, Decimal]
    per_call: Decimal = Decimal(0)
    markup: Decimal = Decimal(0)
    above_input: int = 0

    def price(self, kind: str) -> Decimal:
        """Of a million tokens of this kind, markup included."""
        family = "input" if kind in INPUT_KINDS else "output"
        return self.per_million.get(kind, self.per_million[family]) * (1 + self.markup)

    def cost(self, tokens: Mapping[str, int]) -> Decimal:
        """Of a call with these tokens, by kind."""
        with localcontext(prec=60):
            return self._sum(tokens).quantize(NANO, ROUND_HALF_UP)

    def most(self, *, input_tokens: int, output_tokens: int) -> Decimal:
        """No call with at most so many tokens of either side costs more, whatever their kinds turn out to be."""
        with localcontext(prec=60):
            dearest_input = max(INPUT_KINDS, key=self.price)
            dearest_output = max(OUTPUT_KINDS, key=self.price)
            found = self._sum({dearest_input: input_tokens, dearest_output: output_tokens})
            return found.quantize(NANO, ROUND_UP)

    def lines(self, tokens: Mapping[str, int]) -> list[tuple[str, int, Decimal, Decimal]]:
        """How a cost came about: (kind, tokens, price of a million, amount before rounding) of each kind that there was."""
        with localcontext(prec=60):
            return [
                (kind, tokens[kind], self.price(kind), tokens[kind] * self.price(kind) / MILLION)
                for kind in KINDS
                if tokens.get(kind)
            ]

    def _sum(self, tokens: Mapping[str, int]) -> Decimal:
        amounts = [count * self.price(kind) / MILLION for kind, count in tokens.items() if count]
        return sum(amounts, self.per_call * (1 + self.markup))


def prices_at(rows: Iterable[TokenPrices], *, at: datetime, input_tokens: int = 0) -> TokenPrices | None:
    """The row that holds at this moment for a call with so many input tokens; None where the model has no price yet."""
    begun = [row for row in rows if row.starts_at <= at]
    if not begun:
        return None
    newest = max(row.starts_at for row in begun)
    fitting = [
        row
        for row in begun
        if row.starts_at == newest and (not row.above_input or input_tokens > row.above_input)
    ]
    return max(fitting, key=lambda row: row.above_input, default=None)
