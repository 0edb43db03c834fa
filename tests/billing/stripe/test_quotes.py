"""What the page of an upgrade shows is charged, although calls go on while it is read, and Stripe keeps money from before."""

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse

from billing.models import LineKind, StripeFinding, StripeItem
from billing.statements import finalise_due
from billing.stripe.catalogue_apply import apply_catalogue
from billing.stripe.changes import change_paid_plan
from billing.stripe.client import plain, stripe_client
from billing.stripe.compare import compare_invoices
from billing.stripe.quotes import GOOD_FOR, PriceChanged, quote_upgrade
from core.money import format_money
from plans.models import PlanVersion
from plans.queries import newest_version
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_invoices_equal import assert_equal, end_month, use
from tests.factories import create_membership, create_plan, create_user

pytestmark = pytest.mark.django_db(transaction=True)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def payer(stripe_standin: Standin) -> Payer:
    """Alice on Starter (49.00 a month, 50,000 calls), ten days into a paid month."""
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(24 * DAY)
    payer.hear()
    return payer


@pytest.fixture
def professional(payer: Payer) -> PlanVersion:
    return newest_version("professional")


def confirm(payer: Payer, version: PlanVersion, quote: str) -> None:
    change_paid_plan(organization=payer.organization, version=version, by=None, at=payer.at, quote=quote)
    payer.hear()


def charged(payer: Payer) -> int:
    """By the newest invoice at Stripe, minor units."""
    found = stripe_client().v1.invoices.list({"customer": payer.customer_id, "limit": 1}).data[0]
    assert plain(found)["status"] == "paid"
    return int(plain(found)["amount_paid"])


@pytest.mark.parametrize("calls", [10_000, 60_000], ids=["a part", "all that was left"])
def test_calls_while_the_page_is_read_do_not_change_the_amount(
    payer: Payer, professional: PlanVersion, calls: int
) -> None:
    use(payer, 20_000)
    payer.pass_time(HOUR)
    price, quote = quote_upgrade(payer.row, professional, at=payer.at)
    assert 0 < price.credit_minor < 4_900
    use(payer, calls)
    payer.pass_time(GOOD_FOR - timedelta(seconds=30))

    confirm(payer, professional, quote)

    assert charged(payer) == price.due_minor == 19_900 - price.credit_minor
    payer.pass_time(HOUR)
    finalise_due(at=payer.at)
    end_month(payer)
    assert_equal(payer)  # what was given too much is on the next invoice
    statement = payer.organization.statements.filter(kind="period", lines__kind=LineKind.FEE_CREDIT).first()
    stated = statement.lines.get(kind=LineKind.FEE_CREDIT).amount_minor if statement else 0
    given = StripeItem.objects.filter(kind=LineKind.FEE_CREDIT).values_list("amount_minor", flat=True)
    assert len(given) == 2
    assert sum(given) == stated > -price.credit_minor
    compare_invoices(at=payer.at)
    assert not StripeFinding.objects.filter(closed_at=None).exists()


def test_an_amount_that_is_not_true_any_more_is_not_charged(payer: Payer, professional: PlanVersion) -> None:
    before = charged(payer)
    _, old = quote_upgrade(payer.row, professional, at=payer.at)
    _, other = quote_upgrade(payer.row, newest_version("starter"), at=payer.at)
    payer.pass_time(GOOD_FOR + timedelta(minutes=1))
    _, rich = quote_upgrade(payer.row, professional, at=payer.at)
    keep(payer, 700)

    for quote in (old, other, rich, rich[:-2], ""):
        with pytest.raises(PriceChanged):
            confirm(payer, professional, quote)

    assert charged(payer) == before
    assert payer.row.version.plan.slug == "starter"


def keep(payer: Payer, amount_minor: int) -> None:
    """Stripe keeps this for the customer."""
    sent = {"amount": -amount_minor, "currency": "usd"}
    stripe_client().v1.customers.balance_transactions.create(payer.customer_id, sent)  # type: ignore[arg-type]


@pytest.mark.parametrize("balance", [700, -300, 50_000], ids=["kept", "owed", "more than the fee"])
def test_what_stripe_keeps_is_in_the_amount(payer: Payer, professional: PlanVersion, balance: int) -> None:
    keep(payer, balance)
    price, quote = quote_upgrade(payer.row, professional, at=payer.at)
    rest = 19_900 - price.credit_minor - balance
    assert (price.due_minor, price.left_minor) == (max(rest, 0), max(-rest, 0))

    confirm(payer, professional, quote)

    assert charged(payer) == price.due_minor
    customer = plain(stripe_client().v1.customers.retrieve(payer.customer_id))
    assert customer["balance"] == -price.left_minor


@pytest.fixture
def client_then(payer: Payer, client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Alice's browser, in the stand-in's time."""
    monkeypatch.setattr("dashboard.views.plan.now", lambda: payer.at)
    user = create_user("alice@acme.example")
    create_membership(organization=payer.organization, user=user, role="owner")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    client.force_login(user)
    return client


def test_the_rest_of_a_year_is_in_the_next_amount_on_the_page(payer: Payer, client_then: Client) -> None:
    """From a year to a dearer month, and on to another: the page shows what Stripe will charge."""
    create_plan("small-year", fee_minor=90_000, interval="year")
    create_plan("big-month", fee_minor=19_900)
    create_plan("bigger-month", fee_minor=200_000)
    apply_catalogue(at=payer.at)
    for plan in ("small-year", "big-month"):
        price, quote = quote_upgrade(payer.row, newest_version(plan), at=payer.at)
        confirm(payer, newest_version(plan), quote)
        payer.pass_time(DAY)
    assert price.left_minor > 0
    price, _ = quote_upgrade(payer.row, newest_version("bigger-month"), at=payer.at)
    assert 0 < price.used_minor < price.fee_minor - price.credit_minor

    url = reverse("dashboard:plan-change", args=["bigger-month"]) + "?currency=USD&interval=month"
    shown = client_then.get(url).content.decode()

    assert f"less {format_money(price.used_minor, 'USD')} that we keep for you" in shown
    assert f"Pay {format_money(price.due_minor, 'USD')} and change" in shown
    answer = client_then.post(url)  # not from the page: nothing was shown
    assert answer.status_code == 422
    assert "The amount has changed" in answer.content.decode()
    quote = shown.partition('name="quote" value="')[2].partition('"')[0]
    assert client_then.post(url, {"quote": quote}).status_code == 302
    assert charged(payer) == price.due_minor


def test_without_an_answer_of_stripe_there_is_no_button(payer: Payer, client_then: Client) -> None:
    payer.standin.fault("error", "GET", "/v1/customers/", times=4)
    shown = client_then.get(reverse("dashboard:plan-change", args=["professional"])).content.decode()
    assert "does not answer now" in shown
    assert "and change" not in shown
