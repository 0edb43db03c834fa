from datetime import date
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from billing.exchange import convert_total
from billing.models import ExchangeRate

pytestmark = pytest.mark.django_db


def rate(currency: str, value: str, day: date, *, into: str = "USD") -> ExchangeRate:
    return ExchangeRate.objects.create(
        currency=currency, into=into, rate=Decimal(value), valid_from=day, source="test"
    )


def test_the_newest_rate_of_the_day_holds_and_the_one_added_last() -> None:
    rate("EUR", "1.05", date(2026, 1, 1))
    rate("EUR", "9", date(2026, 3, 1))
    rate("EUR", "9", date(2026, 3, 1), into="GBP")
    assert convert_total({"EUR": 10_000}, into="USD", on=date(2026, 2, 28)).minor == 10_500
    rate("EUR", "1.10", date(2026, 3, 1))
    assert convert_total({"EUR": 10_000}, into="USD", on=date(2026, 3, 1)).minor == 11_000


def test_each_currency_is_rounded_half_up_by_itself_with_its_own_digits() -> None:
    rate("JPY", "0.0065", date(2026, 1, 1))
    rate("EUR", "1.5", date(2026, 1, 1))
    total = convert_total({"JPY": 1_000, "EUR": 1, "USD": 4_900}, into="USD", on=date(2026, 2, 1))
    assert {part.currency: part.into_minor for part in total.parts} == {"EUR": 2, "JPY": 650, "USD": 4_900}
    assert (total.minor, total.missing) == (5_552, ())


def test_without_a_rate_an_amount_is_not_in_the_sum_and_said_so() -> None:
    rate("EUR", "1.5", date(2026, 3, 1))
    total = convert_total({"EUR": 100, "USD": 100}, into="USD", on=date(2026, 2, 1))
    assert (total.minor, total.missing) == (100, ("EUR",))


@pytest.mark.parametrize(
    ("currency", "into", "value"), [("eur", "USD", "1"), ("USD", "USD", "1"), ("EUR", "USD", "0")]
)
def test_what_makes_no_sense_is_refused(currency: str, into: str, value: str) -> None:
    with pytest.raises(ValidationError):
        ExchangeRate(
            currency=currency, into=into, rate=Decimal(value), valid_from=date(2026, 1, 1), source="test"
        ).full_clean()
