"""What the tokens of a call to a language model cost: a pure function of a dated price row, in major currency units.

Amounts have nine decimals, the most that meters count: a call's cost is rounded half up there, a bound of it always up.
Prices are per million tokens, as providers list them; a kind without a price of its own costs what its family does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal, localcontext

MILLION = Decimal(1_000_000)
NANO = Decimal("0.000000001")
INPUT_KINDS = ("input", "cached_input", "cache_write", "cache_write_1h", "audio_input", "image_input")
OUTPUT_KINDS = ("output", "reasoning", "audio_output", "image_output")
_NEXT_OF_KIN = {"cache_write_1h": "cache_write"}  # what costs as much, before the family is asked
_WORD = r"[\w.-]{1,40}"  # a quality, or a size
_PICTURE = re.compile(rf"(\*|{_WORD})/(\*|{_WORD})")
_AMOUNT = re.compile(r"\d{1,12}(\.\d{1,12})?")
KINDS = (*INPUT_KINDS, *OUTPUT_KINDS)


@dataclass(frozen=True, slots=True)
class Pictures:
    """So many pictures that a model draws, of one quality and size; '' where nobody said."""

    count: int = 0
    quality: str = ""
    size: str = ""


NO_PICTURES = Pictures()


@dataclass(frozen=True, slots=True, eq=False)
class TokenPrices:
    """Prices that hold from `starts_at` for calls with more than `above_input` input tokens. `per_million` by kind: `input` and
    `output` are always there. `markup` is added to all of it: 0.25 is 25 %.
    `per_picture`: by "quality/size", either of them `*` for any; what no entry fits costs as much as the dearest."""

    row_id: int
    starts_at: datetime
    currency: str
    per_million: Mapping[str, Decimal]
    per_call: Decimal = Decimal(0)
    markup: Decimal = Decimal(0)
    above_input: int = 0
    per_picture: Mapping[str, Decimal] = field(default_factory=dict)

    def price(self, kind: str) -> Decimal:
        """Of a million tokens of this kind, markup included."""
        family = "input" if kind in INPUT_KINDS else "output"
        kin = _NEXT_OF_KIN.get(kind, family)
        return self.per_million.get(kind, self.per_million.get(kin, self.per_million[family])) * (
            1 + self.markup
        )

    def picture(self, quality: str, size: str) -> Decimal:
        """Of one picture, markup included."""
        names = (f"{quality}/{size}", f"{quality}/*", f"*/{size}", "*/*")
        dearest = max(self.per_picture.values(), default=Decimal(0))
        own = next((self.per_picture[name] for name in names if name in self.per_picture), dearest)
        return own * (1 + self.markup)

    def dearest_picture(self, quality: str, size: str) -> Decimal:
        """No picture costs more whose quality and size are these, where they are known."""
        if quality and size:
            return self.picture(quality, size)
        known = {
            name: price
            for name, price in self.per_picture.items()
            if _may_be(name.partition("/")[0], quality) and _may_be(name.partition("/")[2], size)
        }
        fits_any = {"*/*", f"{quality}/*" if quality else f"*/{size}"} & known.keys()
        listed = known if fits_any else self.per_picture  # what fits no entry is as dear as the dearest
        return max(listed.values(), default=Decimal(0)) * (1 + self.markup)

    def cost(self, tokens: Mapping[str, int], pictures: Pictures = NO_PICTURES) -> Decimal:
        """Of a call with these tokens, by kind, and pictures."""
        with localcontext(prec=60):
            drawn = pictures.count * self.picture(pictures.quality, pictures.size)
            return (self._sum(tokens) + drawn).quantize(NANO, ROUND_HALF_UP)

    def most(self, *, input_tokens: int, output_tokens: int, pictures: Pictures = NO_PICTURES) -> Decimal:
        """No call with at most so many tokens of either side and so many pictures costs more, whatever their kinds turn out to
        be, and what nobody said of the pictures."""
        with localcontext(prec=60):
            dearest_input = max(INPUT_KINDS, key=self.price)
            dearest_output = max(OUTPUT_KINDS, key=self.price)
            found = self._sum({dearest_input: input_tokens, dearest_output: output_tokens})
            found += pictures.count * self.dearest_picture(pictures.quality, pictures.size)
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


def _may_be(own: str, asked: str) -> bool:
    return not asked or own in ("*", asked)


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


def is_picture_word(said: str) -> bool:
    """Whether this can be a quality or a size."""
    return re.fullmatch(_WORD, said) is not None


def check_picture_prices(given: object) -> None:
    """Raises ValueError, with what is wrong, unless they are amounts in quotes by "quality/size"."""
    if not isinstance(given, Mapping):
        raise ValueError('Write an object: {"hd/1024x1792": "0.12"}.')
    for name, price in given.items():
        if not isinstance(name, str) or not _PICTURE.fullmatch(name):
            raise ValueError(f"{name} is no quality/size; * stands for any.")
        if not isinstance(price, str) or not _AMOUNT.fullmatch(price):
            raise ValueError(f"The price of {name} is no amount in quotes, with at most 12 decimals.")
