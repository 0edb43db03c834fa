"""Staff open a difference, follow it to the calls behind, and compare again."""

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.core.mail import EmailMessage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import User
from billing.models import FindingKind, StripeFinding, StripeInvoice
from billing.stripe.compare import compare_invoices
from billing.stripe.findings import open_finding, tell_staff
from billing.stripe.sender import send_usage
from billing.stripe.usage import fill_usage
from core.clock import now
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.payer import Payer
from tests.billing.stripe.test_findings import tell_by_hand
from tests.billing.stripe.test_invoices_equal import end_month, use
from tests.eager import tasks_at_once
from tests.factories import create_organization, create_user

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/staff/stripe/findings/"
DAY = timedelta(days=1)


@pytest.fixture
def staff(client: Client) -> User:
    user = create_user("staff@farebox.example", is_staff=True)
    client.force_login(user)
    return user


def page(client: Client, address: str) -> str:
    answer = client.get(address, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def of(finding: StripeFinding) -> str:
    return reverse("dashboard:staff-stripe-finding", args=[finding.public_id])


def test_from_a_difference_to_the_calls(stripe_standin: Standin, client: Client, staff: User) -> None:
    payer = Payer.start(stripe_standin)
    payer.subscribe()
    payer.pass_time(14 * DAY + timedelta(hours=2))
    payer.hear()
    use(payer, 60_000)
    fill_usage(at=payer.at)
    send_usage(at=payer.at)
    tell_by_hand(payer, 7_000)
    invoice = end_month(payer)
    compare_invoices(at=payer.at)
    found = StripeFinding.objects.get()

    shown = page(client, of(found))

    assert "67,000" in shown and "60,000" in shown  # noqa: PT018 - both sides
    assert "$17.00" in shown and "$10.00" in shown  # noqa: PT018
    row = found.behind["hours"][0]["rows"][0]
    assert row["identifier"] in shown
    line = reverse("dashboard:staff-line", args=[found.behind["document"], found.behind["position"]])
    assert f'href="{line}"' in shown
    hour = found.behind["hours"][0]["usage"][0]["hour"]
    calls = f"{line}calls/?hour={hour}"
    assert f'href="{calls}"' in shown
    assert "60,000" in page(client, calls)
    assert of(found) in page(
        client, reverse("dashboard:staff-customer-billing", args=[payer.organization.public_id])
    )

    again = f"{of(found)}again/"
    assert "They still differ." in client.post(again, follow=True).content.decode()
    stripe_standin.fault("error", "GET", r"/v1/invoices/.*", times=4)
    assert "does not answer now" in client.post(again, follow=True).content.decode()
    stripe_standin.control("faults", "DELETE")
    StripeInvoice.objects.filter(pk=invoice.pk).update(state="void")
    assert "Both sides are equal now." in client.post(again, follow=True).content.decode()
    assert "Compare again" not in page(client, of(found))
    assert "They still" not in client.post(again, follow=True).content.decode()


def test_the_lists_grow_without_more_queries(client: Client, staff: User, settings: LazySettings) -> None:
    assert "Both sides are equal" in page(client, LIST)
    assert "None was closed yet" in page(client, f"{LIST}?state=closed")

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            page(client, LIST)
        return len(seen)

    def find(number: int) -> StripeFinding:
        owner = create_organization(f"Customer {number}")
        return open_finding(
            kind=FindingKind.CUSTOMER, subject=f"reconcile: cus_{number}", text=f"Number {number} is gone.",
            at=now(), organization_id=owner.pk, theirs={"counted": 3}, ours={"value": 4},
        )  # fmt: skip

    first = find(1)
    alone = queries()
    for number in range(2, 6):
        find(number)
    assert queries() == alone
    assert "Number 5 is gone." in page(client, LIST)
    shown = page(client, of(first))
    assert "Counted" in shown
    assert "Compare again" not in shown  # no key is set
    settings.STRIPE_SECRET_KEY = "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc"
    assert "Compare again" in page(client, of(first))
    StripeFinding.objects.filter(pk=first.pk).update(closed_at=now())
    assert "Number 1 is gone." in page(client, f"{LIST}?state=closed")
    assert "Number 1 is gone." not in page(client, LIST)


def test_strangers_find_nothing(client: Client) -> None:
    found = open_finding(kind=FindingKind.PRICE, subject="price_1", text="Gone.", at=now())
    client.force_login(create_user("bob@acme.example"))
    assert client.get(of(found)).status_code == 404
    assert client.post(f"{of(found)}again/").status_code == 404
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    assert client.get(of(found).replace("fnd_", "fnd_x")).status_code == 404


def test_the_mail_leads_to_the_page(mailoutbox: list[EmailMessage]) -> None:
    create_user("staff@farebox.example", is_staff=True)
    open_finding(kind=FindingKind.PRICE, subject="price_1", text="The price is gone.", at=now())
    with tasks_at_once():
        assert tell_staff(at=now()) == 1
    (mail,) = mailoutbox
    assert "The price is gone." in mail.body
    assert LIST in mail.body
    assert tell_staff(at=now()) == 0
