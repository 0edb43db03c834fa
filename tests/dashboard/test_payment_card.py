"""The payment card of the plan page, the price of an upgrade, and the button that ends a month beside the stand-in only."""

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.checks import check_payment
from billing.models import (
    StripeCustomer,
    StripeInvoice,
    StripePrice,
    StripeSubscription,
    StripeUpgrade,
    UpgradeState,
)
from billing.stripe.changes import upgrade_price
from core.clock import now
from core.money import format_money
from plans.models import Subscription, SubscriptionStatus
from plans.paid import pause_subscription
from plans.queries import current_subscription, newest_version
from plans.services import activate_subscription, mark_past_due
from tests.cast import Cast, create_cast
from tests.factories import create_user

pytestmark = pytest.mark.django_db
ADD_CARD, PORTAL = "Add a payment method", "Card, address and tax number"


@pytest.fixture
def cast(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Cast:
    monkeypatch.setattr("billing.stripe.quotes._balance", lambda *_: 0)  # Stripe is not asked here
    settings.STRIPE_SECRET_KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"
    return create_cast()


def price_at_stripe(cast: Cast) -> None:
    version = current_subscription(cast.northwind, at=now()).version
    StripePrice.objects.get_or_create(version=version, stripe_id="price_test_fee")


def pays(cast: Cast) -> StripeSubscription:
    """Northwind pays by card: the state that Checkout leaves behind."""
    price_at_stripe(cast)
    subscription = activate_subscription(
        subscription=current_subscription(cast.northwind, at=now()), by=None, at=now()
    )
    StripeCustomer.objects.create(
        organization=cast.northwind, stripe_id="cus_test", card="Visa ending in 4242"
    )
    return StripeSubscription.objects.create(
        organization=cast.northwind, subscription=subscription, version=subscription.version, stripe_id="sub_test",
        status="active", started_at=subscription.started_at, synced_at=now(),
        current_period_end=now() + timedelta(days=20),
    )  # fmt: skip


def page(client: Client, url: str = "/plan/") -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_without_stripe_there_is_no_card(cast: Cast, client: Client, settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    price_at_stripe(cast)
    client.force_login(cast.alice)
    shown = page(client)
    assert "Starter is paid by invoice here" in shown
    for absent in (ADD_CARD, PORTAL, "STRIPE_SECRET_KEY"):
        assert absent not in shown
    assert client.post(reverse("dashboard:plan-pay")).status_code == 302
    told = page(client)
    assert "No card can be taken for this plan yet" in told
    assert "STRIPE_SECRET_KEY" not in told


def test_without_stripe_a_paid_plan_after_the_trial_is_begun_by_hand(
    cast: Cast, client: Client, settings: LazySettings
) -> None:
    settings.STRIPE_SECRET_KEY = ""
    Subscription.objects.for_organization(cast.northwind).update(trial_ends_at=now())
    client.force_login(cast.alice)
    assert "Write to support to go on with it" in page(client)
    change = page(client, reverse("dashboard:plan-change", args=["professional"]))
    assert "Professional is paid by invoice here" in change
    assert "Change to Professional</button>" not in change
    assert client.post(reverse("dashboard:plan-change", args=["free"])).status_code == 302  # needs no payment


def test_without_stripe_staff_read_what_has_to_be_set(
    cast: Cast, client: Client, settings: LazySettings
) -> None:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    addresses = [
        "/staff/invoices/",
        reverse("dashboard:staff-customer-billing", args=[cast.northwind.public_id]),
    ]
    for address in addresses:
        assert "STRIPE_SECRET_KEY" not in page(client, address)
    settings.STRIPE_SECRET_KEY = ""
    for address in addresses:
        shown = page(client, address)
        assert "STRIPE_SECRET_KEY" in shown
        assert "docs/stripe.md" in shown


def test_the_checks_name_what_is_missing(settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY, settings.INVOICE_PAY_TO, settings.STRIPE_TRIAL_NEEDS_CARD = "", "", True
    assert [one.id for one in check_payment(None)] == ["billing.I001", "billing.W001", "billing.I002"]
    settings.STRIPE_SECRET_KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"
    assert check_payment(None) == []


def test_a_paused_plan_says_what_to_do(cast: Cast, client: Client) -> None:
    row = pays(cast)
    StripeSubscription.objects.update(status="paused")
    pause_subscription(subscription=row.subscription, by=None, at=now())
    client.force_login(cast.alice)
    shown = page(client)
    assert "Paused" in shown
    assert "Nothing is charged while the plan is paused" in shown
    assert PORTAL in shown
    assert "the next invoice is made on" not in shown


def test_who_can_pay_is_asked_for_a_card(cast: Cast, client: Client) -> None:
    price_at_stripe(cast)
    client.force_login(cast.alice)
    shown = page(client)
    assert ADD_CARD in shown
    assert PORTAL not in shown


def test_who_pays_sees_the_card_and_the_next_charge(cast: Cast, client: Client) -> None:
    pays(cast)
    client.force_login(cast.alice)
    shown = page(client)
    assert ADD_CARD not in shown
    for text in ("Visa ending in 4242", "Charged by itself", PORTAL):
        assert text in shown


def test_who_cancelled_is_charged_no_more(cast: Cast, client: Client) -> None:
    row = pays(cast)
    row.cancels_at = row.current_period_end
    row.save()
    client.force_login(cast.alice)
    assert "Nothing more is charged" in page(client)


def test_developers_have_no_buttons_and_may_not_pay(cast: Cast, client: Client) -> None:
    price_at_stripe(cast)
    client.force_login(cast.bob)
    shown = page(client)
    assert "payment-heading" in shown
    assert ADD_CARD not in shown
    for name in ("plan-pay", "payment-portal"):
        assert client.post(reverse(f"dashboard:{name}")).status_code == 403


def test_an_upgrade_names_what_is_paid_now(
    cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, at = pays(cast), now()
    monkeypatch.setattr("dashboard.views.plan.now", lambda: at)
    price = upgrade_price(row, newest_version("professional"), at=at)
    client.force_login(cast.alice)
    shown = page(client, reverse("dashboard:plan-change", args=["professional"]))
    assert f"Pay {format_money(price.due_minor, price.currency)} and change" in shown


def waiting(cast: Cast) -> StripeUpgrade:
    return StripeUpgrade.objects.create(
        organization=cast.northwind, replaces=pays(cast), version=newest_version("professional"),
        stripe_id="sub_waits", url="https://stripe.test/i/1", due_minor=15_000, currency="USD", asked_at=now(),
        expires_at=now() + timedelta(minutes=30),
    )  # fmt: skip


def test_an_upgrade_that_waits_for_the_bank_is_shown_until_stripe_tells_that_it_is_paid(
    cast: Cast, client: Client
) -> None:
    upgrade = waiting(cast)
    client.force_login(cast.alice)
    shown = page(client)
    assert f"Your bank asks you to confirm {format_money(15_000, 'USD')}" in shown
    assert "Confirm the payment" in shown
    client.force_login(cast.bob)
    assert "Confirm the payment" not in page(client)

    row = upgrade.replaces
    row.ended_at = now()
    row.save()
    row.pk, row.stripe_id, row.ended_at = None, upgrade.stripe_id, None
    row.save()
    client.force_login(cast.alice)
    assert "Confirm the payment" not in page(client)


@pytest.mark.parametrize(
    ("state", "leads_to"),
    [
        (UpgradeState.WAITING, "https://stripe.test/i/1"),
        (UpgradeState.PAID, "/plan/"),
        (UpgradeState.DROPPED, "/plan/"),
    ],
)
def test_confirming_leads_to_the_bank_unless_it_is_answered(
    cast: Cast, client: Client, monkeypatch: pytest.MonkeyPatch, state: UpgradeState, leads_to: str
) -> None:
    upgrade = waiting(cast)
    upgrade.state = state
    monkeypatch.setattr("dashboard.views.payment.look_at_upgrade", lambda **_: upgrade)
    client.force_login(cast.alice)
    answer = client.post(reverse("dashboard:upgrade-confirm"))
    assert answer.headers["Location"] == leads_to


def test_nobody_pays_before_the_address_is_confirmed(cast: Cast, client: Client) -> None:
    price_at_stripe(cast)
    client.force_login(cast.alice)
    answer = client.post(reverse("dashboard:plan-pay"), follow=True)
    assert "Confirm your address first: the payment waits for it" in answer.content.decode()
    assert not StripeCustomer.objects.exists()

    pays(cast)
    answer = client.post(reverse("dashboard:plan-change", args=["professional"]))
    assert answer.status_code == 422
    assert "Open the link in the mail" in answer.content.decode()
    assert current_subscription(cast.northwind, at=now()).version.plan.slug == "starter"


def test_the_plan_page_asks_as_often_with_a_card_as_without(cast: Cast, client: Client) -> None:
    price_at_stripe(cast)
    client.force_login(cast.alice)
    page(client)
    with CaptureQueriesContext(
        connection,
    ) as without:
        page(client)
    StripePrice.objects.all().delete()
    pays(cast)
    with CaptureQueriesContext(connection) as with_card:
        page(client)
    assert len(with_card) <= len(without) + 2  # the subscription there, and an upgrade that waits


def test_without_stripe_a_card_plan_is_not_cancelled_and_nobody_reads_settings(
    cast: Cast, client: Client, settings: LazySettings
) -> None:
    row = pays(cast)
    settings.STRIPE_SECRET_KEY = ""
    client.force_login(cast.alice)
    told = client.post("/plan/cancel/", {"confirm": "Northwind Maps"}, follow=True).content.decode()
    assert "Card payments do not work here now. Nothing was changed" in told
    assert "STRIPE_SECRET_KEY" not in told
    row.subscription.refresh_from_db()
    assert row.subscription.cancels_at is None
    again = client.post("/plan/keep/", follow=True)
    assert "There is no cancellation to undo" in again.content.decode()


def test_a_month_ends_early_only_beside_the_stand_in(cast: Cast, client: Client) -> None:
    pays(cast)
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    url = reverse("dashboard:staff-month-end", args=[cast.northwind.public_id])
    assert client.post(url).status_code == 404
    assert client.get(url).status_code == 404
    client.force_login(cast.alice)
    assert client.post(url).status_code == 404


def test_no_month_ends_here_while_the_stand_in_is_down(
    cast: Cast, client: Client, settings: LazySettings
) -> None:
    row = pays(cast)
    settings.STRIPE_API_HOST = "http://127.0.0.1:1"
    staff = create_user("staff@farebox.example", is_staff=True)
    staff.is_superuser = True
    staff.save()
    client.force_login(staff)
    ends = list(row.subscription.periods.values_list("ends_at", flat=True))
    url = reverse("dashboard:staff-month-end", args=[cast.northwind.public_id])
    assert "The stand-in does not answer" in client.post(url, follow=True).content.decode()
    assert list(row.subscription.periods.values_list("ends_at", flat=True)) == ends


def fails(cast: Cast) -> StripeInvoice:
    """The renewal's charge was declined: what the webhook leaves behind."""
    row = pays(cast)
    mark_past_due(subscription=row.subscription, by=None, at=now())
    return StripeInvoice.objects.create(
        organization=cast.northwind, stripe_subscription=row, stripe_id="in_test", number="NW-0007", state="open",
        currency="USD", total_minor=4_900, due_minor=4_900, created_at=now(), failed_at=now(), attempts=1,
        hosted_url="https://pay.test/in_test",
    )  # fmt: skip


def test_a_failed_payment_is_named_with_the_way_to_pay_it(cast: Cast, client: Client) -> None:
    fails(cast)
    client.force_login(cast.alice)
    assert "$49.00 of invoice NW-0007 could not be charged" in page(client)
    upgrade = page(client, reverse("dashboard:plan-change", args=["professional"]))
    assert "Invoice NW-0007 over $49.00 is still to be paid" in upgrade
    assert "and change</button>" not in upgrade
    client.force_login(cast.bob)
    shown = page(client)
    assert "NW-0007 could not be charged" in shown
    assert "https://pay.test/in_test" not in shown


def test_the_demo_ends_the_days_of_grace_at_once(cast: Cast, client: Client, settings: LazySettings) -> None:
    fails(cast)
    staff = create_user("staff@farebox.example", is_staff=True)
    staff.is_superuser = True
    staff.save()
    client.force_login(staff)
    url = reverse("dashboard:staff-grace-end", args=[cast.northwind.public_id])
    assert client.post(url).status_code == 404  # without the stand-in
    settings.STRIPE_API_HOST = "http://127.0.0.1:12111"
    assert client.get(url).status_code == 404
    assert client.post(url).status_code == 302
    assert current_subscription(cast.northwind, at=now()).status == SubscriptionStatus.SUSPENDED
    assert client.post(url).status_code == 404  # it is over
