"""The staff page of usage told to Stripe: figures, filters, pages, sending again."""

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEvent, User
from billing.models import StripeUsage, UsageState
from core.clock import now
from dashboard.views import staff_stripe
from tests.billing.kit import Customer
from tests.billing.stripe.usage_kit import metered_customer, row, state_of
from tests.factories import PASSWORD, create_user

pytestmark = pytest.mark.django_db
PAGE = "/staff/stripe/usage/"


@pytest.fixture(autouse=True)
def configured(settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"


@pytest.fixture
def staff(client: Client) -> User:
    user = create_user("staff@farebox.example", is_staff=True)
    client.force_login(user)
    return user


@pytest.fixture
def acme() -> Customer:
    return metered_customer("Acme Rockets")


def page(client: Client, query: str = "") -> str:
    answer = client.get(PAGE + query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_without_stripe_it_says_what_to_set(client: Client, staff: User, settings: LazySettings) -> None:
    settings.STRIPE_SECRET_KEY = ""
    shown = page(client)
    assert "Stripe is not set up" in shown
    assert "STRIPE_SECRET_KEY" in shown


def test_with_rows_but_no_key_it_warns(
    client: Client, staff: User, acme: Customer, settings: LazySettings
) -> None:
    row(acme)
    settings.STRIPE_SECRET_KEY = ""
    assert "nothing is sent" in page(client)


def test_before_anything_was_told_it_says_when_rows_come(client: Client, staff: User) -> None:
    assert "Nothing was told yet" in page(client)


def test_figures_lag_and_customers(client: Client, staff: User, acme: Customer) -> None:
    waiting_since = now() - timedelta(hours=3)
    row(acme, created_at=waiting_since)
    row(acme, state=UsageState.SENDING, created_at=waiting_since)
    row(acme, state=UsageState.UNKNOWN, first_attempt_at=now(), created_at=waiting_since)
    row(acme, state=UsageState.REFUSED, error="No active meter found", created_at=waiting_since)
    row(acme, state=UsageState.SENT, sent_at=now())
    row(acme, state=UsageState.SENT, sent_at=now() - timedelta(days=2))
    context = client.get(PAGE).context
    figures = context["outbox"]

    assert (figures.pending, figures.unknown, figures.refused, figures.sent) == (2, 1, 1, 1)
    assert figures.oldest_at == waiting_since
    assert context["is_late"]
    assert context["lag"] == "the oldest for 3\xa0hours"
    [one] = context["customers"]
    assert (one.organization, one.pending, one.unknown, one.refused) == (acme.organization, 2, 1, 1)
    assert "No active meter found" in page(client)


def test_rows_are_narrowed_by_state_and_customer(client: Client, staff: User, acme: Customer) -> None:
    other = metered_customer("Beta Boats", shard=3)
    row(acme, 111_111)
    row(acme, 222_222, state=UsageState.REFUSED)
    row(other, 333_333, state=UsageState.REFUSED)

    shown = page(client, f"?state=refused&customer={acme.organization.public_id}")
    assert "222,222" in shown
    assert "111,111" not in shown
    assert "333,333" not in shown
    assert "Nothing is in this state" in page(client, "?state=unknown")
    assert "111,111" in page(client, "?state=nonsense&before=nonsense")


def test_pages_turn(client: Client, staff: User, acme: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staff_stripe, "PAGE", 2)
    rows = [row(acme, value) for value in (101, 102, 103)]
    first = client.get(PAGE + "?state=pending").context
    assert [one.value for one in first["rows"]] == [103, 102]
    assert first["older_url"] == f"?state=pending&before={rows[1].pk}"

    second = client.get(PAGE + first["older_url"]).context
    assert [one.value for one in second["rows"]] == [101]
    assert (second["newest_url"], second["older_url"]) == ("?state=pending", "")


def test_queries_do_not_grow_with_rows_and_customers(client: Client, staff: User, acme: Customer) -> None:
    row(acme, state=UsageState.REFUSED)
    counts = []
    for more in (0, 5):
        for number in range(more):
            row(metered_customer(f"Customer {number}", shard=number), state=UsageState.REFUSED)
        with CaptureQueriesContext(connection) as queries:
            page(client)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


def again(client: Client, one: StripeUsage) -> int:
    return client.post(f"{PAGE}{one.identifier}/again/").status_code


def test_a_refused_row_is_sent_again_and_that_is_written_down(
    client: Client, staff: User, acme: Customer
) -> None:
    one = row(acme, state=UsageState.REFUSED)
    assert again(client, one) == 302
    assert state_of(one) == UsageState.REFUSED  # the password comes first

    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert again(client, one) == 302
    assert state_of(one) == UsageState.PENDING
    written = AuditEvent.objects.for_organization(acme.organization).get(action="stripe_usage.send_again")
    assert (written.by, written.details["before"]) == (staff, "refused")

    assert again(client, one) == 302
    assert "not refused" in page(client)


def test_sending_again_needs_the_permission(client: Client, acme: Customer) -> None:
    one = row(acme, state=UsageState.REFUSED)
    clerk = create_user("clerk@farebox.example", is_staff=True)
    clerk.is_superuser = False
    clerk.save()
    client.force_login(clerk)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert "Send again" not in page(client)
    assert again(client, one) == 403
    assert state_of(one) == UsageState.REFUSED

    clerk.user_permissions.add(Permission.objects.get(codename="change_stripeusage"))
    assert "Send again" in page(client)
    assert again(client, one) == 302
    assert state_of(one) == UsageState.PENDING


def test_the_admin_shows_the_outbox_and_changes_nothing(client: Client, staff: User, acme: Customer) -> None:
    one = row(acme)
    shown = client.get("/admin/billing/stripeusage/?q=Acme")
    assert one.identifier in shown.content.decode()
    assert client.get("/admin/billing/stripeusage/add/").status_code == 403
