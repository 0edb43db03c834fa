import io

import pytest
from django.core.management import call_command

from core.clock import now
from plans.default_catalogue import OFFERS, install_default_catalogue
from plans.models import Plan, PlanVersion
from plans.queries import public_versions

pytestmark = pytest.mark.django_db


def test_the_four_plans_are_on_sale_as_designed() -> None:
    install_default_catalogue(at=now())
    shown = [
        (
            v.plan.slug,
            v.fee_minor,
            int(c.included),
            c.unit_price and format(c.unit_price.normalize(), "f"),
            v.trial_days,
        )
        for v in public_versions()
        for c in v.components.all()
    ]
    assert shown == [
        ("free", 0, 1_000, None, 0),
        ("starter", 4_900, 50_000, "0.001", 14),
        ("professional", 19_900, 500_000, "0.0005", 14),
        ("enterprise", 99_900, 5_000_000, "0.0002", 30),
    ]
    limits = [limit.calls for v in public_versions() for limit in v.rate_limits.all()]
    assert limits == [10, 100, 500, 2_000]


def test_installing_twice_changes_nothing() -> None:
    install_default_catalogue(at=now())
    install_default_catalogue(at=now())
    assert PlanVersion.objects.count() == len(OFFERS)


def test_an_owners_own_catalogue_is_left_alone() -> None:
    Plan.objects.create(slug="own", name="Own")
    call_command("install_catalogue", "--if-empty", stdout=io.StringIO())
    assert list(Plan.objects.values_list("slug", flat=True)) == ["own"]
