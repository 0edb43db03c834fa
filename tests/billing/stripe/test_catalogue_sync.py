"""The catalogue at a Stripe that answers over HTTP: made once, found again, put right, and left alone where customers are."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
import stripe
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.test import Client

from billing.models import (
    FindingKind,
    StripeFinding,
    StripeMeter,
    StripePrice,
    StripeProduct,
    StripeSubscription,
)
from billing.stripe import catalogue_apply, publishing
from billing.stripe.catalogue_rows import incomplete_versions, unused_versions, wanted_versions
from billing.stripe.catalogue_sync import apply_catalogue, catalogue_diff, check_catalogue, last_check
from billing.stripe.client import stripe_client
from plans.default_catalogue import install_default_catalogue
from plans.models import Plan, PlanVersion, Subscription
from plans.publishing import new_draft, publish_version
from plans.services import start_subscription
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.rules import stripe_amounts
from tests.eager import tasks_at_once
from tests.factories import create_organization, create_user
from tests.plans.price_kit import component, meter, version_of

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


@pytest.fixture
def starter(stripe_standin: Standin) -> PlanVersion:
    """The default catalogue, not yet at Stripe."""
    versions = {version.plan.slug: version for version in install_default_catalogue(at=AT)}
    return versions["starter"]


@pytest.fixture
def _eager() -> Iterator[None]:
    with tasks_at_once():
        yield


def texts(problem: str = "") -> list[str]:
    return [each.text for each in catalogue_diff(at=AT) if problem in each.problem]


def fee_row(version: PlanVersion) -> StripePrice:
    return StripePrice.objects.get(version=version, component=None)


def usage_row(version: PlanVersion) -> StripePrice:
    return StripePrice.objects.get(version=version, component__isnull=False)


def at_stripe(row: StripePrice) -> Any:
    return stripe_client().v1.prices.retrieve(row.stripe_id, {"expand": ["tiers"]})


def put_at_stripe(version: PlanVersion) -> StripeSubscription:
    """Somebody is on this version at Stripe."""
    organization = create_organization(plan="", at=AT)
    subscription = start_subscription(organization=organization, version=version, by=None, at=AT)
    return StripeSubscription.objects.create(
        organization=organization, subscription=subscription, version=version, stripe_id=f"sub_{organization.pk}",
        status="active", started_at=AT, synced_at=AT,
    )  # fmt: skip


# Making it -----------------------------------------------------------------------------------------------------------


def test_an_empty_account_lacks_everything_and_gets_it_once(
    starter: PlanVersion, stripe_standin: Standin
) -> None:
    assert {each.problem for each in catalogue_diff(at=AT)} == {"missing"}
    assert "Price starter v1: fee is not at Stripe." in texts()
    assert "Meter farebox_api_calls is not at Stripe." in texts()
    assert len(texts()) == 4 + 1 + 8  # products, a meter, fees and usage

    applied = apply_catalogue(at=AT)
    assert len(applied.done) == 13
    assert applied.failed == applied.notes == []
    assert catalogue_diff(at=AT) == []
    assert apply_catalogue(at=AT).done == []
    created = stripe_standin.control("requests")
    assert created["POST /v1/prices"] == 8
    assert created["POST /v1/products"] == 4
    assert created["POST /v1/billing/meters"] == 1


def test_what_stripe_keeps_charges_what_the_plan_says(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    fee, usage = at_stripe(fee_row(starter)).to_dict(), at_stripe(usage_row(starter)).to_dict()
    assert (fee["unit_amount"], fee["currency"], fee["recurring"]["usage_type"]) == (4900, "usd", "licensed")
    assert fee["metadata"] == {"farebox_plan": "starter", "farebox_version": "1", "farebox_component": "fee"}
    tiers = [tier | {"up_to": tier["up_to"] or "inf"} for tier in usage["tiers"]]
    tiers = [{name: value for name, value in tier.items() if value is not None} for tier in tiers]
    assert stripe_amounts(usage | {"tiers": tiers}, 120_000) == {7_000}
    row = usage_row(starter)
    assert row.meter is not None
    assert usage["recurring"]["meter"] == row.meter.stripe_id
    assert (row.meter.event_name, row.meter.scale) == ("farebox_api_calls", 0)


def test_scale_dimensions_years_and_own_items(stripe_standin: Standin) -> None:
    storage = meter("storage", unit="GB", decimals=2, dimensions=["region"])
    version = version_of(
        component(storage, model="per_unit", unit_price=Decimal("0.05"), match={"region": "eu"}),
        component(storage, model="per_unit", unit_price=Decimal("0.10")),
        interval="year", currency="JPY", minimum_minor=100,
    )  # fmt: skip
    applied = apply_catalogue(version=version, at=AT)
    assert [note.partition(": ")[2].partition(":")[0] for note in applied.notes] == [
        "storage",
        "Minimum spend",
    ]
    row = usage_row(version)
    assert row.meter is not None
    assert (row.meter.match, row.meter.scale) == ({"region": "eu"}, 2)
    price = at_stripe(row)
    assert str(price.unit_amount_decimal) == "0.0005"
    assert price.recurring.interval == "month"
    fee = at_stripe(fee_row(version))
    assert (fee.recurring.interval, fee.currency, fee.unit_amount) == ("year", "jpy", 1000)
    assert texts() == []


def test_two_versions_share_product_and_meter(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    second = publish_version(version=new_draft(version=starter, by=None, at=AT), by=None, at=AT)
    put_at_stripe(starter)
    applied = apply_catalogue(version=second, at=AT)
    assert len(applied.done) == 2
    assert StripeProduct.objects.count() == 4
    assert StripeMeter.objects.count() == 1
    assert at_stripe(fee_row(starter)).active  # somebody is on it
    assert texts() == []


def test_a_currency_that_stripe_counts_differently_is_left_out_and_says_so(stripe_standin: Standin) -> None:
    version = version_of(currency="ISK")
    assert texts() == []
    assert "2 decimals" in apply_catalogue(at=AT).notes[0]
    assert not StripePrice.objects.filter(version=version).exists()
    assert incomplete_versions(at=AT) == []


# Lost answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/products", "/v1/billing/meters", "/v1/prices"])
@pytest.mark.parametrize("kind", ["error", "error_after"])
def test_an_answer_that_was_lost_leaves_one_object(
    starter: PlanVersion, stripe_standin: Standin, kind: str, path: str
) -> None:
    stripe_standin.fault(kind, "POST", path, times=2)  # the client asks twice
    with pytest.raises(stripe.APIError):
        apply_catalogue(at=AT)
    apply_catalogue(at=AT + timedelta(hours=1))
    assert texts() == []


def test_two_runs_at_once_make_each_object_once(starter: PlanVersion, stripe_standin: Standin) -> None:
    """The second has read the account before the first made anything, and lost sight of its rows."""
    slow = catalogue_apply.Account()
    assert (slow.products, slow.meters) == ({}, {})
    apply_catalogue(at=AT)
    before = set(StripePrice.objects.values_list("stripe_id", flat=True))
    StripePrice.objects.all().delete()
    work = catalogue_apply._Work(slow, AT + timedelta(minutes=5))
    for version in wanted_versions(at=AT):
        work.attempt(version, work.lay_out)
    assert set(StripePrice.objects.values_list("stripe_id", flat=True)) == before
    assert texts() == []


def test_rows_that_were_lost_are_found_again_by_their_marks(
    starter: PlanVersion, stripe_standin: Standin
) -> None:
    apply_catalogue(at=AT)
    before = set(StripePrice.objects.values_list("stripe_id", flat=True))
    StripePrice.objects.all().delete()
    StripeMeter.objects.all().delete()
    StripeProduct.objects.all().delete()
    assert len(texts("orphan")) == 4 + 1
    assert apply_catalogue(at=AT).done == []
    assert set(StripePrice.objects.values_list("stripe_id", flat=True)) == before
    assert texts() == []


def test_another_account_gets_its_own_objects_unless_somebody_is_on_them(
    starter: PlanVersion, stripe_standin: Standin
) -> None:
    apply_catalogue(at=AT)
    before = fee_row(starter).stripe_id
    put_at_stripe(starter)
    stripe_standin.control("reset", "POST")
    applied = apply_catalogue(at=AT)
    assert len(applied.failed) == 2
    assert "customers are on it" in applied.failed[0]
    assert fee_row(starter).stripe_id == before
    assert len(texts("missing")) == 2
    StripeSubscription.objects.update(ended_at=AT)
    apply_catalogue(at=AT)
    assert fee_row(starter).stripe_id != before
    assert texts() == []


# Drift ---------------------------------------------------------------------------------------------------------------


def test_each_kind_of_drift_is_named_and_what_is_safe_is_put_right(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    api = stripe_client().v1
    api.prices.update(fee_row(starter).stripe_id, {"active": False})
    api.products.update(StripeProduct.objects.get(plan__slug="free").stripe_id, {"name": "Gratis"})
    api.billing.meters.deactivate(StripeMeter.objects.get().stripe_id)
    found = texts("differs")
    assert len(found) == 3
    assert any("active is False, here True" in text for text in found)
    assert any("name is Gratis, here Free" in text for text in found)
    assert any("status is inactive, here active" in text for text in found)
    assert len(apply_catalogue(at=AT).done) == 3
    assert texts() == []


def test_a_price_with_other_figures_is_told_and_never_edited(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    product = StripeProduct.objects.get(plan__slug="starter").stripe_id
    other = stripe_client().v1.prices.create({
        "product": product, "currency": "eur", "unit_amount": 5900, "recurring": {"interval": "year"},
    })  # fmt: skip
    mine = fee_row(starter)
    StripePrice.objects.filter(pk=mine.pk).update(stripe_id=other.id)
    assert f"Price starter v1: fee ({other.id}): " in texts("differs")[0]
    for words in (
        "currency is eur, here usd",
        "amount is 5900, here 4900",
        "interval is year x 1, here month x 1",
    ):
        assert words in texts("differs")[0]
    apply_catalogue(at=AT)
    assert fee_row(starter).stripe_id == other.id
    assert len(texts("differs")) == 1
    assert mine.stripe_id in texts("orphan")[0]


def test_tiers_and_meters_that_differ_are_told(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    row, api = usage_row(starter), stripe_client().v1
    counter = api.billing.meters.create({
        "display_name": "Other", "event_name": "other", "default_aggregation": {"formula": "count"},
    })  # fmt: skip
    other = api.prices.create({
        "product": StripeProduct.objects.get(plan__slug="starter").stripe_id, "currency": "usd",
        "billing_scheme": "tiered", "tiers_mode": "volume",
        "tiers": [{"up_to": 10, "unit_amount_decimal": "0.5"}, {"up_to": "inf", "unit_amount": 1, "flat_amount": 7}],
        "recurring": {"interval": "month", "usage_type": "metered", "meter": counter.id},
    })  # fmt: skip
    StripePrice.objects.filter(pk=row.pk).update(stripe_id=other.id)
    StripeMeter.objects.update(stripe_id=counter.id)
    text = " ".join(texts("differs"))
    assert "tiers is [10: 0.5, inf: 1 + 7], here [50000: 0, inf: 0.1]" in text
    assert "tiers mode is volume, here graduated" in text
    assert "aggregation is count, here sum" in text


# Off sale ------------------------------------------------------------------------------------------------------------


def test_prices_of_a_retired_version_go_off_sale_when_nobody_is_on_it(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    held = put_at_stripe(starter)
    publish_version(version=new_draft(version=starter, by=None, at=AT), by=None, at=AT)
    assert starter in wanted_versions(at=AT)
    apply_catalogue(at=AT)
    assert at_stripe(fee_row(starter)).active

    StripeSubscription.objects.update(ended_at=AT)
    Subscription.objects.filter(pk=held.subscription_id).update(ended_at=AT)
    assert unused_versions(at=AT + timedelta(seconds=1)) == [starter]
    assert "active is True, here False" in texts("differs")[0]
    assert len(apply_catalogue(at=AT).done) == 2
    assert not at_stripe(fee_row(starter)).active
    assert texts() == []


def test_archived_plans_are_off_sale(starter: PlanVersion) -> None:
    apply_catalogue(at=AT)
    Plan.objects.filter(pk=starter.plan_id).update(archived_at=AT)
    apply_catalogue(at=AT)
    assert not at_stripe(usage_row(starter)).active


# When it happens -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_eager")
def test_publishing_makes_the_prices(starter: PlanVersion, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        publish_version(version=new_draft(version=starter, by=None, at=AT), by=None, at=AT)
    newest = PlanVersion.objects.get(plan=starter.plan, number=2)
    assert at_stripe(fee_row(newest)).unit_amount == 4900
    assert incomplete_versions(at=AT) == []


@pytest.mark.usefixtures("_eager")
def test_publishing_does_not_wait_for_a_stripe_that_is_away_and_beat_asks_again(
    starter: PlanVersion, stripe_standin: Standin, django_capture_on_commit_callbacks: Any
) -> None:
    stripe_standin.fault("error", "POST", "/v1/products", times=2)
    with django_capture_on_commit_callbacks(execute=True):
        version = publish_version(version=new_draft(version=starter, by=None, at=AT), by=None, at=AT)
    assert version.published_at == AT
    assert not StripePrice.objects.filter(version=version).exists()
    assert publishing.lay_out_incomplete(at=AT + timedelta(hours=1)) == 4
    assert StripePrice.objects.filter(version=version).count() == 2
    asked = stripe_standin.control("requests")
    assert publishing.lay_out_incomplete(at=AT) == 0
    assert stripe_standin.control("requests") == asked  # nothing missing: nothing asked


def test_without_stripe_publishing_queues_nothing(
    settings: LazySettings, django_capture_on_commit_callbacks: Any
) -> None:
    settings.STRIPE_SECRET_KEY = ""
    with django_capture_on_commit_callbacks() as callbacks:
        install_default_catalogue(at=AT)
    assert callbacks == []
    assert publishing.lay_out_incomplete(at=AT) == publishing.check_nightly(at=AT) == 0


def test_a_version_that_stripe_refuses_holds_no_other_back(
    starter: PlanVersion, stripe_standin: Standin
) -> None:
    Plan.objects.filter(slug="free").update(name="")
    applied = apply_catalogue(at=AT)
    assert len(applied.failed) == 1
    assert applied.failed[0].startswith(" v1: ")
    assert StripePrice.objects.count() == 6


# What staff sees -----------------------------------------------------------------------------------------------------


def test_findings_open_stay_one_and_close(starter: PlanVersion) -> None:
    check_catalogue(at=AT)
    check_catalogue(at=AT + timedelta(hours=1))
    rows = StripeFinding.objects.filter(kind=FindingKind.PRICE)
    assert rows.filter(closed_at=None, opened_at=AT).count() == 13
    apply_catalogue(at=AT)
    later = AT + timedelta(hours=2)
    assert check_catalogue(at=later) == []
    assert rows.filter(closed_at=later).count() == 13
    assert last_check() == later


def test_the_night_puts_right_what_is_safe_and_keeps_the_rest(starter: PlanVersion) -> None:
    assert publishing.check_nightly(at=AT) == 0
    assert StripePrice.objects.count() == 8
    assert not StripeFinding.objects.filter(closed_at=None).exists()


def test_the_admin_shows_drift_without_asking_stripe(starter: PlanVersion, stripe_standin: Standin) -> None:
    apply_catalogue(at=AT)
    stripe_client().v1.prices.update(fee_row(starter).stripe_id, {"active": False})
    check_catalogue(at=AT)
    asked = stripe_standin.control("requests")
    client = Client()
    client.force_login(create_user(is_staff=True))
    for name in ("stripeprice", "stripeproduct", "stripemeter", "stripefinding"):
        page = client.get(f"/admin/billing/{name}/").content.decode()
        assert "Held against Stripe last: 21 Nov 2026 12:00 UTC" in page
    page = client.get("/admin/billing/stripeprice/?in_step=no").content.decode()
    assert "1 stripe price" in page
    assert "active is False, here True" in page
    page = client.get("/admin/billing/stripeprice/?in_step=yes").content.decode()
    assert "7 stripe prices" in page
    assert stripe_standin.control("requests") == asked


def test_plan_versions_say_whether_stripe_has_them(
    starter: PlanVersion, stripe_standin: Standin, django_assert_max_num_queries: Any
) -> None:
    client = Client()
    client.force_login(create_user(is_staff=True))
    address = f"/admin/plans/planversion/{starter.pk}/change/"
    assert "Stripe does not have its prices yet" in client.get(address).content.decode()
    apply_catalogue(at=AT)
    check_catalogue(at=AT)
    assert "In step with Stripe (checked 21 Nov 2026 12:00 UTC)" in client.get(address).content.decode()

    stripe_client().v1.prices.update(usage_row(starter).stripe_id, {"active": False})
    stripe_client().v1.products.update(
        StripeProduct.objects.get(plan__slug="free").stripe_id, {"name": "Gratis"}
    )
    check_catalogue(at=AT)
    asked = stripe_standin.control("requests")
    page = client.get(address).content.decode()
    assert "Stripe: Price starter v1: api_calls" in page
    assert "In step" not in page
    with django_assert_max_num_queries(25):
        page = client.get("/admin/plans/planversion/").content.decode()
    assert page.count("In step with Stripe") == 2
    assert page.count("name is Gratis, here Free") == 1
    assert stripe_standin.control("requests") == asked


def test_without_stripe_plan_versions_say_nothing_of_it(settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    install_default_catalogue(at=AT)
    client = Client()
    client.force_login(create_user(is_staff=True))
    assert "Stripe" not in client.get("/admin/plans/planversion/").content.decode().partition("<main")[2]


# By hand -------------------------------------------------------------------------------------------------------------


def test_the_command_says_what_differs_and_exits_1_until_it_is_applied(starter: PlanVersion) -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("stripe_catalogue", "diff", stdout=out)
    assert stopped.value.code == 1
    assert "missing: Price starter v1: fee is not at Stripe." in out.getvalue()
    out = StringIO()
    call_command("stripe_catalogue", "apply", stdout=out)
    assert out.getvalue().count("done: ") == 13
    out = StringIO()
    call_command("stripe_catalogue", "diff", stdout=out)
    assert out.getvalue().strip() == "Stripe has the catalogue as it is here."
    out = StringIO()
    call_command("stripe_catalogue", "apply", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"done": [], "failed": [], "notes": []}


def test_without_a_key_the_command_says_what_to_set(settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    with pytest.raises(CommandError, match="STRIPE_SECRET_KEY"):
        call_command("stripe_catalogue", "diff")


def test_a_stripe_that_refuses_the_key_is_told_in_words(starter: PlanVersion, settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = "sk_live_" + "x" * 24
    with pytest.raises(CommandError, match="Stripe did not do it"):
        call_command("stripe_catalogue", "apply")
