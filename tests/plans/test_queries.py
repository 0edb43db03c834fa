"""What is on sale, and a version's prices as rating takes them."""

from decimal import Decimal

import pytest

from core.clock import now
from plans.models import Plan, PlanVersion
from plans.pricing import PriceModel, PriceStep, UsagePrice
from plans.publishing import publish_version
from plans.queries import PREFETCH, newest_version, price_lists, public_versions, terms_of
from tests.factories import create_meter, create_organization
from tests.plans.price_kit import component, version_of

pytestmark = pytest.mark.django_db
D = Decimal


def on_sale(plan: Plan, *, number: int, **fields: object) -> PlanVersion:
    draft = PlanVersion.objects.create(plan=plan, number=number, **fields)
    return publish_version(version=draft, by=None, at=now())


def test_terms_carry_all_that_a_component_says() -> None:
    meter = create_meter("compute", unit="hour")
    meter.dimensions = ["kind", "region"]
    meter.save()
    version = version_of(
        component(
            meter, model="graduated", included=D(5), maximum_minor=900, match={"region": "eu", "kind": "spot"},
            tiers=((None, D("0.5"), D(2)), (D(10), D(1), D(0))), position=2,
        ),
        component(meter, model="package", unit_price=D(3), package_size=D(100), text="Compute", position=1),
        minimum_minor=5000,
    )  # fmt: skip
    terms = terms_of(version)
    assert (terms.currency, terms.fee_minor, terms.minimum_minor) == ("USD", 1000, 5000)
    assert terms.usage == (
        UsagePrice("compute", "hour", D(0), D(3), PriceModel.PACKAGE, package_size=D(100), text="Compute"),
        UsagePrice(
            "compute", "hour", D(5), None, PriceModel.GRADUATED,
            steps=(PriceStep(D(10), D(1), D(0)), PriceStep(None, D("0.5"), D(2))),
            maximum_minor=900, match=(("kind", "spot"), ("region", "eu")), text="compute (spot, eu)",
        ),
    )  # fmt: skip


def test_prefetched_terms_ask_nothing(django_assert_num_queries: object) -> None:
    meter = create_meter()
    version_of(component(meter, model="volume", tiers=((D(1), D(1), D(0)), (None, D(2), D(0)))))
    versions = list(PlanVersion.objects.select_related("plan").prefetch_related(*PREFETCH))
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert [len(terms_of(version).usage) for version in versions] == [1]


def test_each_currency_and_interval_is_a_list_of_its_own() -> None:
    create_organization()
    plan = Plan.objects.get(slug="starter")
    on_sale(plan, number=2, currency="EUR", fee_minor=4500)
    on_sale(plan, number=3, interval="year", fee_minor=49000)
    assert newest_version("starter").number == 1  # dollars and monthly, although other lists are newer
    assert newest_version("starter", currency="EUR").number == 2
    assert newest_version("starter", interval="year").number == 3
    assert [v.plan.slug for v in public_versions("USD", "year")] == ["starter"]
    assert price_lists() == [("USD", "month"), ("USD", "year"), ("EUR", "month")]
    with pytest.raises(PlanVersion.DoesNotExist):
        newest_version("starter", currency="EUR", interval="year")


def test_a_plan_without_the_default_currency_is_still_on_sale() -> None:
    plan = Plan.objects.create(slug="swiss", name="Swiss")
    on_sale(plan, number=1, currency="CHF")
    assert newest_version("swiss").currency == "CHF"
    assert [v.plan.slug for v in public_versions()] == ["swiss"]
