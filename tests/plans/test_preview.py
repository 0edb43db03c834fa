"""What a draft would charge, as staff sees it."""

from decimal import Decimal

import pytest

from plans.models import Plan, PlanVersion
from plans.preview import PreviewBill, asked_quantities, preview_bill, public_plans_note
from plans.queries import newest_version
from tests.factories import create_organization
from tests.plans.price_kit import component, meter, version_of

pytestmark = pytest.mark.django_db
D = Decimal


def bill(version: PlanVersion, *given: int) -> PreviewBill:
    components = sorted(version.components.all(), key=lambda c: c.pk)
    return preview_bill(version, asked_quantities(components, dict(enumerate(map(D, given)))))


def test_a_customer_with_so_many_calls_pays_so_much() -> None:
    create_organization()
    found = bill(newest_version("starter"))
    assert found.sentence == "A customer with 120,000 calls pays $119.00 a month."
    assert [(line.text, line.amount) for line in found.lines] == [
        ("Starter", "$49.00"),
        ("API calls", "$70.00"),
    ]
    assert found.lines[1].tiers == (
        ("50,000 calls included or free", "$0.00"),
        ("70,000 calls at $0.001", "$70.00"),
    )
    assert bill(newest_version("starter"), 0).sentence == "A customer without usage pays $49.00 a month."


def test_several_meters_dimensions_and_a_minimum() -> None:
    hours, data = meter("hours", unit="hour", dimensions=["kind"]), meter("data", unit="GB")
    version = version_of(
        component(hours, model="per_unit", unit_price=D("0.5"), match={"kind": "spot"}),
        component(hours, model="per_unit", unit_price=D(2)),
        component(data, model="package", unit_price=D(5), package_size=D(100)),
        fee_minor=0, minimum_minor=10_000, currency="EUR",
    )  # fmt: skip
    found = bill(version, 10, 3, 250)
    assert found.sentence == "A customer with 10 hours, 3 hours and 250 GB pays €100.00 a month."
    assert [(line.text, line.amount) for line in found.lines[1:]] == [
        ("Hours (spot)", "€5.00"), ("Hours", "€6.00"), ("Data", "€15.00"), ("Minimum spend", "€74.00"),
    ]  # fmt: skip


def test_it_says_where_the_door_refuses() -> None:
    create_organization()
    free = bill(newest_version("free"))
    assert free.refused == (
        "The hard quota lets 1,000 calls through: calls above it are refused with 429 quota_exceeded and cost nothing.",
    )
    assert free.lines[1].quantity == "1,000 calls"
    assert bill(newest_version("free"), 1000).refused == ()
    assert bill(newest_version("starter")).refused == ()


def test_what_a_quota_refuses_is_not_on_the_bill() -> None:
    data = meter("data", unit="GB", dimensions=["kind"])
    version = version_of(
        component(data, model="per_unit", unit_price=D(2), quota=D(10), match={"kind": "fast"}),
        component(data, model="per_unit", unit_price=D(1), quota=D(20)),
        fee_minor=0,
    )
    found = bill(version, 25, 40)
    assert (
        found.sentence == "A customer with 25 GB and 40 GB pays $55.00 a month."
    )  # 25 at 2, 5 at 1: 30 in all pass
    assert found.refused[0].startswith("The hard quota lets 30 GB through")


def test_a_maximum_and_flat_prices_are_tiers_in_words() -> None:
    steps = (("10", "1", "0"), (None, "0.5", "3"))
    version = version_of(
        component(meter("jobs", unit="job"), model="graduated", tiers=steps, maximum_minor=1200)
    )
    assert bill(version, 20).lines[1].tiers == (
        ("10 jobs at $1.00", "$10.00"),
        ("10 jobs at $0.50, $3.00 for the tier", "$8.00"),
        ("Above the line's maximum", "-$6.00"),
    )


def test_the_fifth_public_plan_is_warned_of() -> None:
    create_organization()
    assert public_plans_note(Plan.objects.get(slug="free")) == ""
    fifth = Plan.objects.create(slug="fifth", name="Fifth")
    assert public_plans_note(fifth).startswith("With Fifth there are 5 public plans.")
    fifth.is_public = False
    assert public_plans_note(fifth) == ""
