import csv
import re
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent, Role, User
from billing.accounts import get_account
from billing.collection import mark_paid
from billing.credits import credit_balances, grant_credit
from billing.models import BillingAccount, Invoice, Statement
from core.clock import now
from tests.billing.kit import Customer
from tests.factories import PASSWORD, create_membership, create_organization, create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Customer:
    customer = Customer.start("Acme Maps")
    create_membership(
        organization=customer.organization, user=create_user("alice@acme.example"), role=Role.OWNER
    )
    return customer


@pytest.fixture
def alice(client: Client, acme: Customer) -> Client:
    client.force_login(User.objects.get(email="alice@acme.example"))
    return client


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def act(staff: Client, statement: Statement, name: str, **values: str) -> int:
    confirmed = {"confirm": statement.number, "reason": "A good one", "reference": "Bank 17"} | values
    return staff.post(f"/staff/documents/{statement.public_id}/act/{name}/", confirmed).status_code


def one_time_number(page: Any) -> str:
    found = re.search(r'name="once" value="([0-9a-f]{32})"', page.content.decode())
    assert found is not None
    return found[1]


def test_without_documents_the_next_step_is_named(alice: Client) -> None:
    page = alice.get("/invoices/").content.decode()

    assert "No documents yet" in page
    assert "You have none." in page


def test_a_document_has_its_lines_on_page_and_in_the_csv(alice: Client, acme: Customer) -> None:
    acme.use(12_500)
    statement = acme.finalise()

    listed = alice.get("/invoices/").content.decode()
    page = alice.get(f"/invoices/{statement.public_id}/").content.decode()
    rows = list(csv.DictReader(StringIO(alice.get(f"/invoices/{statement.public_id}/csv/").content.decode())))

    assert "Invoice ACMEMAPS-0001" in listed
    assert "due 24 Mar" in listed
    for words in ("$51.50", "2,500 calls at $0.001", "above 10,000", "plan fee", "To pay"):
        assert words in page, words
    assert [row["rounded"] for row in rows if row["rounded"]] == ["49.00", "2.50"]
    assert [row["quantity"] for row in rows] == ["", "12500", "10000", "2500"]


def test_an_unpaid_document_says_how_to_pay(alice: Client, acme: Customer, settings: LazySettings) -> None:
    statement = acme.finalise()
    address = f"/invoices/{statement.public_id}/"
    settings.INVOICE_PAY_TO = ""
    assert "Write to support to learn where to pay" in alice.get(address).content.decode()
    settings.INVOICE_PAY_TO = "Bank transfer\nIBAN DE02 1203"
    shown = alice.get(address).content.decode()
    assert "Bank transfer<br>IBAN DE02 1203" in shown
    assert "Name ACMEMAPS-0001" in shown
    mark_paid(invoice=Invoice.objects.get(statement=statement), by=None, at=now())
    assert "How to pay" not in alice.get(address).content.decode()


def test_a_document_is_a_pdf(alice: Client, acme: Customer) -> None:
    answer = alice.get(f"/invoices/{acme.finalise().public_id}/pdf/")

    assert (answer["Content-Type"], answer.content[:5]) == ("application/pdf", b"%PDF-")
    assert 'filename="ACMEMAPS-0001.pdf"' in answer["Content-Disposition"]


def test_the_list_asks_the_database_as_often_for_many_as_for_few(
    alice: Client, acme: Customer, django_assert_max_num_queries: object
) -> None:
    acme.finalise()
    acme.finalise(1)
    acme.finalise(2)

    with django_assert_max_num_queries(32):  # type: ignore[operator]
        alice.get("/invoices/")


def test_whom_documents_are_made_out_to_is_changed_for_the_next(alice: Client, acme: Customer) -> None:
    first = acme.finalise()
    values = {"legal_name": "Acme Ltd", "address": "1 Road", "tax_id": "DE1", "email": "ap@acme.example"}

    answer = alice.post("/invoices/account/", values)

    assert answer.status_code == 302
    assert acme.finalise(1).bill_to == "Acme Ltd\n1 Road\nTax number DE1"
    first.refresh_from_db()
    assert first.bill_to == "Acme Maps"
    assert alice.post("/invoices/account/", values | {"email": "no"}).status_code == 422


def test_credit_pays_an_open_invoice_on_request(alice: Client, acme: Customer) -> None:
    statement = acme.finalise()
    grant_credit(
        organization=acme.organization, amount_minor=5_000, currency="USD", reason="Sorry", by=None, at=now()
    )
    assert "Use my credit" in alice.get(f"/invoices/{statement.public_id}/").content.decode()

    alice.post(f"/invoices/{statement.public_id}/use-credit/")

    assert Invoice.objects.get(statement=statement).state == "paid"
    assert "-$49.00" in alice.get("/invoices/credit/").content.decode()


def test_staff_mark_an_invoice_as_paid(staff: Client, acme: Customer) -> None:
    statement = acme.finalise()
    assert "ACMEMAPS-0001" in staff.get("/staff/invoices/").content.decode()

    assert act(staff, statement, "paid") == 302

    invoice = Invoice.objects.get(statement=statement)
    assert (invoice.state, invoice.reference) == ("paid", "Bank 17")
    assert act(staff, statement, "paid") == 422


def test_money_acts_need_the_number_and_the_password(staff: Client, acme: Customer) -> None:
    statement = acme.finalise()

    assert act(staff, statement, "void", confirm="ACMEMAPS-0002") == 422
    other = Client()
    other.force_login(User.objects.get(email="staff@farebox.example"))
    answer = other.post(f"/staff/documents/{statement.public_id}/act/void/", {"confirm": statement.number})
    assert answer["Location"].startswith("/accounts/reauthenticate/")
    statement.refresh_from_db()
    assert not statement.is_void


def test_staff_without_the_permission_only_look(staff: Client, acme: Customer) -> None:
    statement = acme.finalise()
    User.objects.filter(email="staff@farebox.example").update(is_superuser=False)

    assert "may look, but not act" in staff.get(f"/staff/documents/{statement.public_id}/").content.decode()
    assert act(staff, statement, "void") == 403


def test_staff_take_back_make_again_and_credit(staff: Client, acme: Customer) -> None:
    first, second = acme.finalise(), acme.finalise(1)

    assert act(staff, first, "regenerate") == 302
    once = one_time_number(staff.get(f"/staff/documents/{second.public_id}/"))
    assert act(staff, second, "credit", amount="60", once=once) == 422
    assert act(staff, second, "credit", amount="9.00", once=once) == 302
    assert act(staff, second, "credit", amount="9.00", once=once) == 422  # sent again by hand
    assert act(staff, second, "void") == 422  # a credit note belongs to it

    kinds = Statement.objects.order_by("pk").values_list("kind", "state", "total_minor")
    assert list(kinds) == [
        ("period", "void", 4_900),
        ("period", "finalised", 4_900),
        ("period", "finalised", 4_900),
        ("credit_note", "finalised", -900),
    ]
    page = staff.get(f"/staff/invoices/{acme.organization.public_id}/").content.decode()
    assert "Credit note ACMEMAPS-0004" in page


def test_staff_give_up_an_invoice(staff: Client, acme: Customer) -> None:
    statement = acme.finalise()

    assert act(staff, statement, "give-up") == 302
    assert Invoice.objects.get(statement=statement).state == "uncollectible"


def test_staff_give_credit(staff: Client, acme: Customer) -> None:
    address = f"/staff/invoices/{acme.organization.public_id}/credit/"
    values = {
        "amount": "25",
        "source": "purchased",
        "reason": "Bought",
        "expires_on": "2030-01-31",
        "confirm": "Acme Maps",
    }

    assert staff.post(address, values).status_code == 422  # without the form's own number
    values["once"] = one_time_number(staff.get(f"/staff/invoices/{acme.organization.public_id}/"))
    assert staff.post(address, values | {"confirm": "Acme"}).status_code == 422
    assert staff.post(address, values | {"expires_on": "2020-01-31"}).status_code == 422
    assert staff.post(address, values).status_code == 302
    again = staff.post(address, values)
    assert again.status_code == 422
    assert "This form was sent before" in again.content.decode()
    assert credit_balances(acme.organization, at=now()) == {"USD": 2_500}
    page = staff.get(f"/staff/invoices/{acme.organization.public_id}/")
    assert staff.post(address, values | {"once": one_time_number(page)}).status_code == 302
    assert credit_balances(acme.organization, at=now()) == {"USD": 5_000}
    assert BillingAccount.objects.get().organization == acme.organization


def test_the_admin_changes_an_account_by_the_audited_act(client: Client) -> None:
    account = get_account(create_organization("Acme"))
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    values = {"legal_name": "Acme Ltd", "address": "1 Road", "tax_id": "", "email": "", "currency": "EUR"}
    url = reverse("admin:billing_billingaccount_change", args=[account.pk])
    assert client.post(url, values).status_code == 302
    account.refresh_from_db()
    assert (account.legal_name, account.currency) == ("Acme Ltd", "EUR")
    audit = AuditEvent.objects.get(action="billing.account_changed")
    assert (audit.target, audit.by.email if audit.by else "") == (
        account.number_prefix,
        "staff@farebox.example",
    )
