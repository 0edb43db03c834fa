"""Pure: lines of Stripe's and tiers of ours that say the same, and those that do not."""

from decimal import Decimal
from typing import Any

import pytest

from billing.models import StripeMeter
from billing.stripe.sides import Pair, Side, Step, our_steps, their_side, whole_units
from plans.tiers import ZERO, PriceModel, PriceStep, UsagePrice, usage_tiers

CALLS = StripeMeter(event_name="farebox_api_calls", scale=0)
GRADUATED = UsagePrice(
    "api_calls", "call", Decimal(1_000), None, PriceModel.GRADUATED,
    steps=(PriceStep(Decimal(500), Decimal("0.01")), PriceStep(None, Decimal("0.001"), Decimal(5))),
)  # fmt: skip
PACKAGE = UsagePrice(
    "api_calls", "call", ZERO, Decimal(3), PriceModel.PACKAGE, package_size=Decimal(100)
)  # fmt: skip
QUOTA = UsagePrice("api_calls", "call", Decimal(1_000), None)


def line(quantity: int, amount: int, **more: Any) -> dict[str, Any]:
    return {"quantity": quantity, "amount": amount, "currency": "usd", "description": "API calls"} | more


def pair(lines: list[dict[str, Any]], price: UsagePrice, used: int) -> Pair:
    tiers = usage_tiers(price, Decimal(used))
    amount = sum((tier.amount for tier in tiers), ZERO)
    together, apart = our_steps(tiers, CALLS, "USD")
    ours = Side("API calls", int(amount * 100), used, "", "USD", together, apart)
    return Pair("price 1", their_side(lines, where="price_1", is_metered=True), ours)


@pytest.mark.parametrize(
    ("lines", "price", "used"),
    [
        ([line(1_000, 0), line(500, 500), line(2_500, 250), line(0, 500)], GRADUATED, 4_000),
        ([line(1_000, 0), line(500, 500), line(2_500, 750)], GRADUATED, 4_000),  # the flat price within
        ([line(0, 0)], GRADUATED, 0),
        ([line(250, 900)], PACKAGE, 250),
        ([line(1_300, 0)], QUOTA, 1_300),  # free, in one line or two
    ],
)
def test_the_same_written_otherwise(lines: list[dict[str, Any]], price: UsagePrice, used: int) -> None:
    assert pair(lines, price, used).differs == ()


@pytest.mark.parametrize(
    ("lines", "differs"),
    [
        ([line(1_000, 0), line(500, 500), line(2_500, 250)], ("amount", "tiers")),
        ([line(1_000, 0), line(500, 500), line(2_501, 750)], ("quantity", "tiers")),
        ([line(1_500, 0), line(2_500, 1_250)], ("tiers",)),
        ([line(1_000, 0, currency="eur"), line(500, 500), line(2_500, 750)], ("currency",)),
        (
            [line(1_000, 0), line(500, 500, discount_amounts=[{"amount": 50}]), line(2_500, 750)],
            ("amount", "tiers"),
        ),
    ],
)
def test_what_differs_is_named(lines: list[dict[str, Any]], differs: tuple[str, ...]) -> None:
    assert pair(lines, GRADUATED, 4_000).differs == differs


def test_tax_is_apart() -> None:
    added = {"amount": 100, "tax_behavior": "exclusive"}
    within = {"amount": 80, "tax_behavior": "inclusive"}
    side = their_side([line(1, 500, taxes=[added]), line(1, 480, taxes=[within])], where="", is_metered=False)
    assert (side.amount_minor, side.steps) == (900, ())


def test_units_are_counted_in_the_meters_scale() -> None:
    assert whole_units(Decimal("12.349"), StripeMeter(scale=2)) == 1_234
    assert Side("x", 1, 2, steps=(Step(2, 1),)).as_json()["tiers"] == [{"quantity": 2, "amount_minor": 1}]
