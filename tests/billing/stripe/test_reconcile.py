"""R14: webhooks are lost for days, then the nightly job: all is found and mended in one run, the second changes nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core.management import call_command
from django.core.management.base import CommandError

from billing.models import StripeCustomer, StripeFinding, StripeInvoice, StripeSubscription
from billing.stripe import upgrades
from billing.stripe.changes import change_paid_plan
from billing.stripe.checkout import paying
from billing.stripe.client import stripe_client
from billing.stripe.reconcile import find_unlike, mend_unlike
from plans.models import SubscriptionStatus
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer

pytestmark = pytest.mark.django_db
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    return Payer.start(stripe_standin)


@pytest.fixture
def paid(payer: Payer) -> Payer:
    payer.subscribe()
    payer.pass_time(14 * DAY + 2 * HOUR)
    payer.hear()
    assert find_unlike(at=payer.at) == []
    return payer


def tables() -> dict[str, Any]:
    """All that is kept of billing and plans."""
    return {
        model._meta.label: list(model._base_manager.order_by("pk").values())
        for label in ("billing", "plans")
        for model in apps.get_app_config(label).get_models()
        if model._meta.managed
    }


def mended_once(payer: Payer) -> list[str]:
    """What the one run mended; nothing is left, and the next run changes no row."""
    done = mend_unlike(at=payer.at)
    assert done.left == []
    before = tables()
    again = mend_unlike(at=payer.at)
    assert (again.mended, again.left, tables()) == ([], [], before)
    return [one.what for one in done.mended]


def test_a_lost_sign_up(payer: Payer) -> None:
    assert payer.fill_in(payer.checkout())
    assert not StripeSubscription.objects.exists()
    payer.pass_time(3 * DAY)

    assert set(mended_once(payer)) == {"customer", "subscription", "invoice"}

    assert payer.row.status == "trialing"
    assert payer.subscription.version.plan.slug == "starter"


def test_a_lost_renewal(paid: Payer) -> None:
    paid.pass_time(31 * DAY + 3 * HOUR)
    assert set(mended_once(paid)) == {"subscription", "invoice"}
    assert [one.state for one in paid.invoices if one.total_minor] == ["paid", "paid"]


def test_a_lost_failure_of_payment(paid: Payer) -> None:
    client, customer = stripe_client().v1, paid.organization.stripe_customer.stripe_id
    method = client.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer})
    client.subscriptions.update(paid.row.stripe_id, {"default_payment_method": method.id})
    paid.pass_time(31 * DAY + 3 * HOUR)
    assert set(mended_once(paid)) == {"subscription", "invoice"}
    assert paid.subscription.status == SubscriptionStatus.PAST_DUE


def test_a_lost_cancellation(paid: Payer) -> None:
    stripe_client().v1.subscriptions.cancel(paid.row.stripe_id)
    paid.pass_time(3 * DAY)
    assert mended_once(paid) == ["subscription"]
    assert paying(paid.organization) is None
    assert paid.subscription.status == SubscriptionStatus.CANCELLED


def test_an_upgrade_that_stripe_made_and_we_lost(paid: Payer, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the process died")

    old = paid.row.stripe_id
    with monkeypatch.context() as patch:
        patch.setattr(upgrades, "apply_subscription", crash)
        with pytest.raises(RuntimeError):
            change_paid_plan(
                organization=paid.organization, version=newest_version("professional"), by=None, at=paid.at
            )
    assert paid.row.stripe_id == old

    assert "subscription" in mended_once(paid)

    assert (paid.row.version, paid.subscription.version) == (newest_version("professional"),) * 2
    assert StripeSubscription.objects.get(stripe_id=old).ended_at == paid.row.started_at
    assert stripe_client().v1.subscriptions.retrieve(old).status == "canceled"


def _lose_metadata(payer: Payer) -> None:
    customer = payer.organization.stripe_customer.stripe_id
    stripe_client().v1.customers.update(customer, {"metadata": {"farebox_organization": ""}})


def _deactivate_price(payer: Payer) -> None:
    price = payer.row.version.stripe_prices.first()
    assert price is not None
    stripe_client().v1.prices.update(price.stripe_id, {"active": False})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_lose_metadata, "customer"),
        (_deactivate_price, "price"),
        (lambda payer: StripeInvoice.objects.all().delete(), "invoice"),
        (lambda payer: StripeInvoice.objects.update(due_minor=7), "invoice"),
        (lambda payer: StripeSubscription.objects.update(status="past_due"), "subscription"),
        (
            lambda payer: stripe_client().v1.subscriptions.update(
                payer.row.stripe_id, {"cancel_at_period_end": True}
            ),
            "subscription",
        ),
        (
            lambda payer: stripe_client().v1.subscription_schedules.create(
                {"from_subscription": payer.row.stripe_id}
            ),
            "subscription",
        ),
    ],
)
def test_each_kind_of_difference(payer: Payer, change: Callable[[Payer], Any], what: str) -> None:
    payer.subscribe()
    payer.hear()
    assert find_unlike(at=payer.at) == []
    change(payer)
    assert {one.what for one in find_unlike(at=payer.at)} == {what}
    assert set(mended_once(payer)) == {what}


def test_a_deleted_customer_is_for_people(paid: Payer) -> None:
    stripe_client().v1.customers.delete(paid.organization.stripe_customer.stripe_id)
    done = mend_unlike(at=paid.at)
    assert [one.what for one in done.left] == ["customer"]
    assert StripeFinding.objects.get(closed_at=None).organization == paid.organization
    StripeCustomer.objects.all().delete()
    mend_unlike(at=paid.at)
    assert not StripeFinding.objects.filter(closed_at=None).exists()


def test_requests_do_not_grow_with_customers(payer: Payer) -> None:
    def requests() -> int:
        before: int = sum(payer.standin.control("requests").values())
        find_unlike(at=payer.at)
        return int(sum(payer.standin.control("requests").values())) - before

    payer.subscribe()
    payer.hear()
    alone = requests()
    for number in range(4):
        other = Payer.start(payer.standin, f"Other {number}")
        other.subscribe()
        other.hear()
    assert requests() == alone


def test_the_command(payer: Payer, settings: LazySettings, capsys: pytest.CaptureFixture[str]) -> None:
    assert payer.fill_in(payer.checkout())
    with pytest.raises(SystemExit) as ended:
        call_command("stripe_reconcile")
    assert ended.value.code == 1
    assert "unknown here" in capsys.readouterr().out
    call_command("stripe_reconcile", "--mend")
    call_command("stripe_reconcile", "--organization", payer.organization.public_id)
    assert capsys.readouterr().out.endswith("0 differs\n")
    settings.STRIPE_SECRET_KEY = ""
    with pytest.raises(CommandError, match="STRIPE_SECRET_KEY"):
        call_command("stripe_reconcile")
