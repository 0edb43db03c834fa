"""Money: integers of the currency's minor unit for what is charged, `Decimal` for rates. Never floats."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

# ISO 4217 exponents that are not 2.
_EXPONENTS = dict.fromkeys(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ],
    0,
) | dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3)
# Amounts before rounding may have more digits than a thread's own context, which has 28.
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


def exponent(currency: str) -> int:
    """Digits of the minor unit (ISO 4217): 2 for USD, 0 for JPY, 3 for KWD."""
    return _EXPONENTS.get(currency, 2)


def to_minor(amount: Decimal, currency: str) -> int:
    """Whole minor units, rounded once, half up (away from zero on a tie, as invoices are)."""
    scaled = amount.scaleb(exponent(currency), _EXACT)
    return int(scaled.to_integral_value(ROUND_HALF_UP))


def to_major(amount_minor: int, currency: str) -> Decimal:
    """The exact decimal amount of so many minor units."""
    return Decimal(amount_minor).scaleb(-exponent(currency), _EXACT)


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount that is charged. Adding different currencies raises ValueError."""

    minor: int
    currency: str

    def __add__(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.minor + other.minor, self.currency)

    def __str__(self) -> str:
        return format_money(self.minor, self.currency)


def format_money(amount_minor: int, currency: str) -> str:
    """`$1,049.00`, `-€3.50`, `1,200 CHF`: symbol where it is unmistakable, code otherwise."""
    digits = exponent(currency)
    text = f"{abs(to_major(amount_minor, currency)):,.{digits}f}"
    sign = "-" if amount_minor < 0 else ""
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{text}" if symbol else f"{sign}{text} {currency}"


def format_price(price: Decimal, currency: str) -> str:
    """`Decimal("0.0005")` -> `$0.0005`: a rate in major units, with all its digits and at least the currency's own."""
    whole = format_money(0, currency)
    digits = f"{abs(price).normalize():,f}"
    zeros = "".join(letter for letter in whole if letter in "0.,")
    least = len(zeros.partition(".")[2])
    integer, _, decimals = digits.partition(".")
    text = f"{integer}.{decimals.ljust(least, '0')}" if least or decimals else integer
    return ("-" if price < 0 else "") + whole.replace(zeros, text)


def format_quantity(quantity: Decimal) -> str:
    """`38,412`, `1,024.5`: thousands apart, no zeros behind the last digit that counts."""
    text = f"{quantity:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
