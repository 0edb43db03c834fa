"""The three catalogues with totals worked out by hand."""

from decimal import Decimal

import pytest

from plans.pricing import rate_period
from tests.plans.catalogues import BURSTS, CALLS, CLOUD, DESIGN


@pytest.mark.parametrize(
    ("plan", "calls", "total_minor"),
    [
        ("free", 1_000, 0),
        ("starter", 50_000, 49_00),
        ("starter", 120_000, 119_00),  # 49 + 70,000 x 0.001
        ("professional", 120_000, 199_00),
        ("professional", 750_000, 324_00),  # 199 + 250,000 x 0.0005
        ("enterprise", 5_000_000, 999_00),
        ("enterprise", 6_000_001, 1_199_00),  # 999 + 1,000,001 x 0.0002 = 1,199.0002
    ],
)
def test_plans_of_the_design(plan: str, calls: int, total_minor: int) -> None:
    assert rate_period(DESIGN[plan], {CALLS: Decimal(calls)}).total_minor == total_minor


@pytest.mark.parametrize(
    ("calls", "amount_minor"),
    [
        (10_000, 0),
        (10_005, 1),  # 0.005: half up
        (100_000, 90_00),
        (100_001, 90_00),  # 90.0008
        (250_000, 210_00),  # 90 + 150,000 x 0.0008
    ],
)
def test_calls_of_the_cloud_are_graduated(calls: int, amount_minor: int) -> None:
    assert rate_period(CLOUD, {CALLS: Decimal(calls)}).total_minor == amount_minor


def test_a_month_in_the_cloud() -> None:
    """Ten days of 30 GB, then twenty of 60, in a month of thirty: 50 GB-months."""
    rated = rate_period(
        CLOUD,
        {
            CALLS: Decimal(250_000),
            ("storage", ""): Decimal(10 * 30 + 20 * 60) / 30,
            ("bandwidth", "direction=egress"): Decimal("123.456789"),
            ("bandwidth", "direction=ingress"): Decimal(9_999),
            ("compute", "instance_type=small;offer=on-demand"): Decimal(100),
            ("compute", "instance_type=small;offer=spot"): Decimal("200.5"),
            ("compute", "instance_type=large;offer=spot"): Decimal(10),
        },
        charge_fee=False,
    )
    assert [(line.text, line.amount_minor) for line in rated.lines] == [
        ("API calls", 210_00),
        ("Storage", 5_00),
        ("Bandwidth, out", 6_17),  # 6.17283945
        ("Bandwidth, in", 0),
        ("Compute, small, on-demand", 5_00),
        ("Compute, small, spot", 3_01),  # 3.0075
        ("Compute, large, on-demand", 0),
        ("Compute, large, spot", 60),
    ]
    assert rated.total_minor == 229_78


@pytest.mark.parametrize(("plan", "total_minor"), [("free", 0), ("pro", 29_00), ("enterprise", 199_00)])
def test_plans_with_bursts_cost_their_fee_and_sell_nothing_more(plan: str, total_minor: int) -> None:
    terms = BURSTS[plan].terms
    for calls in (Decimal(0), terms.usage[0].included, terms.usage[0].included * 2):
        assert rate_period(terms, {CALLS: calls}).total_minor == total_minor
