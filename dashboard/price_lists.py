"""Which price lists a page shows: the currency and interval that were asked for, the customer's own, or the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest

from plans.models import Interval, PlanVersion
from plans.queries import price_lists

WORDS = {Interval.MONTH: "Monthly", Interval.YEAR: "Yearly"}


@dataclass(frozen=True, slots=True)
class Option:
    text: str
    url: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class ListChoice:
    """The list shown, and the switches to the others; a switch with one way is empty."""

    currency: str
    interval: str
    intervals: tuple[Option, ...]
    currencies: tuple[Option, ...]

    @property
    def has_switch(self) -> bool:
        return bool(self.intervals or self.currencies)


def choose_lists(request: HttpRequest, *, own: PlanVersion | None = None) -> ListChoice:
    """By `?currency=` and `?interval=`; what is not sold falls back to what is."""
    on_sale = price_lists()
    wanted = (request.GET.get("currency", ""), request.GET.get("interval", ""))
    home = (own.currency, own.interval) if own is not None else ("", "")
    currency, interval = _nearest(on_sale, wanted, home)
    intervals = sorted({pair[1] for pair in on_sale if pair[0] == currency})
    currencies = list(dict.fromkeys(pair[0] for pair in on_sale))
    return ListChoice(
        currency,
        interval,
        _options(request, [(WORDS[Interval(i)], currency, i) for i in intervals], currency, interval),
        _options(
            request, [(c, c, _interval_in(on_sale, c, interval)) for c in currencies], currency, interval
        ),
    )


def _nearest(
    on_sale: Sequence[tuple[str, str]], wanted: tuple[str, str], home: tuple[str, str]
) -> tuple[str, str]:
    """The pair that has most of what was wanted, then of the customer's own, then the first."""

    def fit(pair: tuple[str, str]) -> tuple[bool, ...]:
        return (pair[0] == wanted[0], pair[1] == wanted[1], pair[0] == home[0], pair[1] == home[1])

    return max(on_sale, key=fit, default=("", ""))


def _interval_in(on_sale: Sequence[tuple[str, str]], currency: str, interval: str) -> str:
    """The same interval in another currency, where it is sold."""
    return interval if (currency, interval) in on_sale else next(i for c, i in on_sale if c == currency)


def _options(
    request: HttpRequest, ways: Sequence[tuple[str, str, str]], currency: str, interval: str
) -> tuple[Option, ...]:
    if len(ways) < 2:
        return ()
    return tuple(
        Option(
            text,
            f"{request.path}?{urlencode({'currency': c, 'interval': i})}",
            (c, i) == (currency, interval),
        )
        for text, c, i in ways
    )
