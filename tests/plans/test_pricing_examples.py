"""Rating against numbers that no one here chose: worked examples of public documentation and test suites, with their sources.

Each case is a price, a quantity and the amount that the source gives for it. Where sources differ (what a flat price costs
without usage), docs/rating.md says which one is followed.
"""

from decimal import Decimal
from typing import NamedTuple

import pytest

from plans.pricing import PriceModel, PriceStep, Terms, UsagePrice, rate_period, usage_line

ZERO = Decimal(0)

STRIPE = "docs.stripe.com/subscriptions/pricing-models/tiered-pricing"
STRIPE_TALK = "insiders.stripe.dev/t/how-to-charge-for-free-overflow-tokens/2696"
LAGO = "getlago/lago-api: spec/services/charges/charge_models/"
LAGO_DOCS = "getlago.com/docs/guide/plans/charges/"
LAGO_CONTRACT = "getlago.com/docs/guide/lago-cloud/contract-billing"
OPENMETER = "openmeterio/openmeter: openmeter/billing/rating/service/rate/"
KONG = "Kong/developer.konghq.com: app/metering-and-billing/pricing-models.md"
ZUPLO = "zuplo.com/docs/articles/monetization/pricing-models"
AUTUMN = "docs.useautumn.com/documentation/modelling-pricing/graduated-pricing"
FLEXPRICE = "docs.flexprice.io/docs/product-catalogue/plans/billing-models/"
CHARGEBEE = "chargebee.com/docs/billing/2.0/product-catalog/package-pricing"
RECURLY = "docs.recurly.com/recurly-subscriptions/docs/quantity-based-pricing"
ZUORA = "docs.zuora.com: RatingDetail schema, example: tiered pricing mode"
ZUORA_VOLUME = "knowledgecenter.zuora.com: charge models, volume pricing"
ORB = "docs.withorb.com/product-catalog/price-configuration"
AWS_LAMBDA = "aws.amazon.com/lambda/pricing (2020), example 1"
AWS_TRANSFER = "devnotes.tech/understanding-aws-s3-pricing-a-complete-cost-breakdown-with-examples"
PUBSUB = "cloud.google.com/pubsub/pricing (2019), example: message ingestion and delivery"
HUAWEI = "support.huaweicloud.com/intl/en-us/price-functiongraph: billing scenario I"


class Example(NamedTuple):
    """What the source says: so much of this price costs `amount` (major units)."""

    source: str
    price: UsagePrice
    quantity: str
    amount: str


def per_unit(each: str, *, included: str = "0", maximum_minor: int | None = None) -> UsagePrice:
    return UsagePrice(
        "m", "unit", Decimal(included), Decimal(each), PriceModel.PER_UNIT, maximum_minor=maximum_minor
    )


def package(each: str, size: str, *, included: str = "0", maximum_minor: int | None = None) -> UsagePrice:
    return UsagePrice(
        "m", "unit", Decimal(included), Decimal(each), PriceModel.PACKAGE,
        package_size=Decimal(size), maximum_minor=maximum_minor,
    )  # fmt: skip


def stepped(model: PriceModel, *steps: str, maximum_minor: int | None = None) -> UsagePrice:
    """Steps as `up_to unit_price flat_price`; the last one goes up to `-`."""
    parsed = []
    for step in steps:
        up_to, each, flat = step.split()
        parsed.append(PriceStep(None if up_to == "-" else Decimal(up_to), Decimal(each), Decimal(flat)))
    return UsagePrice("m", "unit", ZERO, None, model, tuple(parsed), maximum_minor=maximum_minor)


def graduated(*steps: str, maximum_minor: int | None = None) -> UsagePrice:
    return stepped(PriceModel.GRADUATED, *steps, maximum_minor=maximum_minor)


def volume(*steps: str) -> UsagePrice:
    return stepped(PriceModel.VOLUME, *steps)


STRIPE_VOLUME = volume("5 7 0", "10 6.5 0", "- 6 0")
LAGO_GRADUATED = graduated("10 0.10 0.02", "- 0.05 0.03")
LAGO_VOLUME = volume("100 2 10", "200 1 0", "- 0.5 50")
METER_GRADUATED = graduated("5 0 100", "10 0 50", "15 10 0", "- 5 0")
METER_CHEAPER = graduated("5 0 100", "10 0 50", "15 5 0", "- 1 0")
METER_VOLUME = volume("5 0 100", "10 0 150", "15 10 0", "- 5 0")
ZUPLO_STEPS = ("1000 0.10 0", "10000 0.05 0", "- 0.01 0")

EXAMPLES = [
    Example(STRIPE + " (volume)", STRIPE_VOLUME, "1", "7"),
    Example(STRIPE + " (volume)", STRIPE_VOLUME, "5", "35"),
    Example(STRIPE + " (volume)", STRIPE_VOLUME, "6", "39"),
    Example(STRIPE + " (volume)", STRIPE_VOLUME, "20", "120"),
    Example(STRIPE + " (volume)", STRIPE_VOLUME, "25", "150"),
    Example(STRIPE + " (graduated)", graduated("5 7 0", "10 6.5 0", "- 6 0"), "5", "35"),
    Example(STRIPE_TALK, graduated("100000 0 4", "- 0.000065 0"), "100070", "4.00"),
    Example(LAGO + "graduated_service_spec.rb", LAGO_GRADUATED, "0", "0"),
    Example(LAGO + "graduated_service_spec.rb", LAGO_GRADUATED, "1", "0.12"),
    Example(LAGO + "graduated_service_spec.rb", LAGO_GRADUATED, "10", "1.02"),
    Example(LAGO + "graduated_service_spec.rb", LAGO_GRADUATED, "11", "1.10"),
    Example(LAGO + "graduated_service_spec.rb", LAGO_GRADUATED, "12", "1.15"),
    Example(LAGO + "volume_service_spec.rb", LAGO_VOLUME, "0", "0"),
    Example(LAGO + "volume_service_spec.rb", LAGO_VOLUME, "1", "12"),
    Example(LAGO + "volume_service_spec.rb", LAGO_VOLUME, "100", "210"),
    Example(LAGO + "volume_service_spec.rb", LAGO_VOLUME, "101", "101"),
    Example(LAGO + "volume_service_spec.rb", LAGO_VOLUME, "200", "200"),
    Example(LAGO + "volume_service_spec.rb", LAGO_VOLUME, "300", "200"),
    Example(LAGO + "package_service_spec.rb", package("1", "10"), "121", "13"),
    Example(LAGO + "package_service_spec.rb", package("1", "10", included="10"), "121", "12"),
    Example(LAGO_DOCS + "charge-models/package", package("5", "100", included="100"), "201", "10"),
    Example(
        LAGO_DOCS + "charge-models/volume",
        volume("10000 0.0010 10", "50000 0.0008 10", "100000 0.0006 10", "- 0.0004 10"),
        "65000",
        "49",
    ),
    Example(OPENMETER + "tieredgraduated_test.go", METER_CHEAPER, "22", "182"),
    Example(OPENMETER + "tieredgraduated_test.go", METER_GRADUATED, "3", "100"),
    Example(OPENMETER + "tieredgraduated_test.go", METER_GRADUATED, "5", "100"),
    Example(OPENMETER + "tieredgraduated_test.go", METER_GRADUATED, "5.001", "150"),
    Example(OPENMETER + "tieredgraduated_test.go", METER_GRADUATED, "7", "150"),
    Example(OPENMETER + "tieredgraduated_test.go", METER_GRADUATED, "12", "170"),
    Example(OPENMETER + "tieredgraduated_test.go", METER_GRADUATED, "22", "235"),
    Example(OPENMETER + "tieredgraduated_test.go", graduated("5 10 0", "- 8 0"), "8", "74"),
    Example(
        OPENMETER + "tieredgraduated_test.go (maximum)",
        graduated("5 0 100", "10 0 50", "15 5 0", "- 1 0", maximum_minor=170_00),
        "22",
        "170",
    ),
    Example(OPENMETER + "tieredvolume_test.go", METER_VOLUME, "3", "100"),
    Example(OPENMETER + "tieredvolume_test.go", METER_VOLUME, "5", "100"),
    Example(OPENMETER + "tieredvolume_test.go", METER_VOLUME, "14", "140"),
    Example(OPENMETER + "tieredvolume_test.go", METER_VOLUME, "15", "150"),
    Example(OPENMETER + "tieredvolume_test.go", METER_VOLUME, "16", "80"),
    Example(OPENMETER + "tieredvolume_test.go", METER_VOLUME, "100", "500"),
    Example(OPENMETER + "package_test.go", package("15", "10"), "0", "0"),
    Example(OPENMETER + "package_test.go", package("15", "10"), "5", "15"),
    Example(OPENMETER + "package_test.go", package("15", "10"), "10", "15"),
    Example(OPENMETER + "package_test.go", package("15", "10"), "11", "30"),
    Example(OPENMETER + "package_test.go", package("15", "10"), "22", "45"),
    Example(OPENMETER + "package_test.go (maximum)", package("15", "10", maximum_minor=100_00), "110", "100"),
    Example(OPENMETER + "unit_test.go", per_unit("100"), "10", "1000"),
    Example(OPENMETER + "unit_test.go (maximum, reached)", per_unit("10", maximum_minor=100_00), "10", "100"),
    Example(OPENMETER + "unit_test.go (maximum, passed)", per_unit("10", maximum_minor=100_00), "12", "100"),
    Example(OPENMETER + "unit_test.go (rounded up)", package("10", "1000000"), "1500001", "20"),
    Example(KONG, graduated("1000 0 500", "- 0.1 0"), "2000", "600"),
    Example(ZUPLO + " (per unit)", per_unit("0.001"), "100000", "100"),
    Example(ZUPLO + " (graduated)", graduated(*ZUPLO_STEPS), "15000", "600"),
    Example(ZUPLO + " (volume)", volume(*ZUPLO_STEPS), "15000", "150"),
    Example(AUTUMN, graduated("1000 0.01 0", "10000 0.008 0", "- 0.005 0"), "15000", "107"),
    Example(FLEXPRICE + "flat-fee", per_unit("0.05"), "1000", "50"),
    Example(FLEXPRICE + "tiered (packages)", package("1", "1000"), "4500", "5"),
    Example(FLEXPRICE + "package", volume("1000 0 50", "5000 0 200", "- 0 350"), "4500", "200"),
    Example(FLEXPRICE + "package", volume("1000 0 50", "5000 0 200", "- 0 350"), "1500", "200"),
    Example(CHARGEBEE, package("1.25", "1000000"), "10", "1.25"),
    Example(CHARGEBEE, package("1.25", "1000000"), "1000000", "1.25"),
    Example(CHARGEBEE, package("1.25", "1000000"), "1500000", "2.50"),
    Example(RECURLY, graduated("100 1 0", "- 0.5 0"), "150", "125"),
    Example(ZUORA, per_unit("2.00", included="100"), "130", "60"),
    Example(ZUORA_VOLUME, volume("50 120 0", "- 100 0"), "5", "600"),
    Example(ZUORA_VOLUME, volume("50 120 0", "- 100 0"), "60", "6000"),
    Example(ORB + " (bulk)", volume("10 0.50 0", "- 0.40 0"), "10", "5.00"),
    Example(ORB + " (bulk)", volume("10 0.50 0", "- 0.40 0"), "101", "40.40"),
    Example(ORB + " (package)", package("0.80", "10"), "4", "0.80"),
    Example(ORB + " (package)", package("0.80", "10"), "11", "1.60"),
    Example(AWS_LAMBDA + " (compute)", per_unit("0.00001667", included="400000"), "1500000", "18.34"),
    Example(AWS_LAMBDA + " (requests)", per_unit("0.0000002", included="1000000"), "3000000", "0.40"),
    Example(AWS_TRANSFER, graduated("10240 0.09 0", "- 0.085 0"), "15360", "1356.80"),
    Example(PUBSUB, per_unit("60", included="0.01"), "7.416", "444.36"),
    Example(HUAWEI, per_unit("0.0000002", included="1000000"), "2200000", "0.24"),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one.source}: {one.quantity}")
def test_public_example(example: Example) -> None:
    line = usage_line(example.price, Decimal(example.quantity), "USD")
    assert Decimal(line.amount_minor) / 100 == Decimal(example.amount)


def test_there_are_at_least_thirty_from_ten_sources() -> None:
    assert len(EXAMPLES) >= 30
    assert len({example.source.split("/")[0].split(" ")[0] for example in EXAMPLES}) >= 10


@pytest.mark.parametrize(
    ("source", "price", "quantity", "minimum", "true_up"),
    [
        (LAGO_DOCS + "spending-minimum", per_unit("0.010"), "5000", "100", "50"),
        (LAGO_CONTRACT + " (below)", per_unit("1"), "800", "1000", "200"),
        (LAGO_CONTRACT + " (above)", per_unit("1"), "1300", "1000", "0"),
        (OPENMETER + "tieredvolume_test.go", METER_VOLUME, "5", "150", "50"),
        (OPENMETER + "tieredvolume_test.go", METER_VOLUME, "5", "100", "0"),
        (OPENMETER + "tieredvolume_test.go", METER_VOLUME, "100", "100", "0"),
        (OPENMETER + "package_test.go", package("15", "10"), "0", "100", "100"),
        (OPENMETER + "unit_test.go", per_unit("10"), "0", "100", "100"),
    ],
)
def test_public_example_of_a_minimum(
    source: str, price: UsagePrice, quantity: str, minimum: str, true_up: str
) -> None:
    terms = Terms("T", "USD", 4900, (price,), int(minimum) * 100)
    rated = rate_period(terms, {("m", ""): Decimal(quantity)})
    found = [line.amount_minor for line in rated.lines if line.kind == "minimum"]
    assert sum(found) == int(true_up) * 100, source


def test_lambda_bill_of_two_lines() -> None:
    """AWS Lambda's pricing page adds 18.34 for compute and 0.40 for requests to 18.74: lines are rounded, then added."""
    compute = UsagePrice("compute", "GB-second", Decimal(400_000), Decimal("0.00001667"))
    requests = UsagePrice("requests", "request", Decimal(1_000_000), Decimal("0.0000002"))
    usage = {("compute", ""): Decimal(1_500_000), ("requests", ""): Decimal(3_000_000)}
    assert rate_period(Terms("Lambda", "USD", 0, (compute, requests)), usage).total_minor == 18_74
