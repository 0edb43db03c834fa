"""Pages that open a line, down to calls and back up."""

import csv
import re
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.test import Client

from accounts.models import Role
from core.clock import now
from metering.services import ingest_history
from tests.billing.kit import HOUR, START, Customer
from tests.billing.test_explain import meter_of, report, sell
from tests.factories import create_membership, create_meter, create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(client: Client) -> Customer:
    """10,003 calls in two hours of a closed period, and its owner looking."""
    made = Customer.start()
    owner = create_user("owner@acme.example")
    create_membership(organization=made.organization, user=owner, role=Role.OWNER)
    client.force_login(owner)
    meter = create_meter()
    events = [report(made, meter, START + number * HOUR, "9999") for number in (1,)]
    events += [report(made, meter, START + 2 * HOUR + number * HOUR / 60, "1") for number in range(4)]
    ingest_history(events, at=now())
    return made


def links(content: str, part: str) -> list[str]:
    return [one.replace("&amp;", "&") for one in re.findall(r'href="([^"]*)"', content) if part in one]


def read(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def table(client: Client, address: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(read(client, address))))


def test_from_the_invoice_down_to_the_calls(customer: Customer, client: Client) -> None:
    statement = customer.finalise()
    invoice = read(client, f"/invoices/{statement.public_id}/")
    line = links(invoice, "/lines/2/")[0]
    page = read(client, line)
    assert "above 10,000" in page
    hours = read(client, links(page, "hours/?tier=2")[0])
    assert "3 calls" in hours
    assert "$0.003" in hours
    calls = read(client, links(hours, "calls/?hour=")[0])
    assert calls.count('<th scope="row"') == 3 + 1
    assert "$0.003" in calls
    assert statement.number in calls


def test_csv_of_every_level_adds_up(customer: Customer, client: Client) -> None:
    statement = customer.finalise()
    line = f"/invoices/{statement.public_id}/lines/2/"
    tiers = table(client, f"{line}?format=csv")
    hours = table(client, f"{line}hours/?format=csv")
    calls = table(client, f"{line}calls/?hour={hours[-1]['hour'][:13]}&format=csv")
    assert sum(Decimal(one["amount"]) for one in tiers) == Decimal("0.003")
    assert sum(Decimal(one["amount"]) for one in hours) == Decimal("0.003")
    assert [one["amount"] for one in calls] == ["0", "0.001", "0.001", "0.001"]
    assert sum(Decimal(one["quantity"]) for one in calls) == Decimal(hours[-1]["quantity"]) == 4


def test_the_running_period_is_opened_from_the_usage_page_by_every_member(client: Client) -> None:
    made = Customer.start(at=now())
    developer = create_user("dev@acme.example")
    create_membership(organization=made.organization, user=developer, role=Role.DEVELOPER)
    client.force_login(developer)
    page = read(client, "/usage/")
    assert links(page, "/invoices/now/lines/") == ["/invoices/now/lines/1/", "/invoices/now/lines/2/"]
    assert "plan&#x27;s fee" in read(client, "/invoices/now/lines/1/")
    assert client.get("/invoices/next/lines/1/").status_code == 403


@pytest.mark.parametrize(
    "tail",
    ["lines/9/", "lines/0/", "lines/1/hours/", "lines/2/calls/", "lines/2/calls/?hour=yesterday", "lines/2/calls/?hour=9999-12-31T23", "lines/2/?tier=7", "lines/2/?tier=x"],
)  # fmt: skip
def test_what_is_not_there_is_missing(customer: Customer, client: Client, tail: str) -> None:
    statement = customer.finalise()
    assert client.get(f"/invoices/{statement.public_id}/{tail}").status_code == 404


def test_readings_that_decide_are_shown(client: Client) -> None:
    meter = meter_of("max")
    made = Customer.start(version=sell([meter]))
    owner = create_user("owner@acme.example")
    create_membership(organization=made.organization, user=owner, role=Role.OWNER)
    client.force_login(owner)
    ingest_history(
        [report(made, meter, START + HOUR + n * HOUR / 60, q) for n, q in enumerate(["5", "9", "7"])],
        at=now(),
    )
    statement = made.finalise()
    page = read(client, f"/invoices/{statement.public_id}/lines/2/calls/?hour=2026-02-10T09")
    assert "reads 9" in page
    assert "4 units" in page
    assert "0 units" in page


def test_a_call_is_found_and_leads_to_its_line(customer: Customer, client: Client) -> None:
    statement = customer.finalise()
    hours = table(client, f"/invoices/{statement.public_id}/lines/2/calls/?hour=2026-02-10T10&format=csv")
    found = read(client, f"/usage/find/?find={hours[-1]['event']}")
    assert statement.number in found
    assert "$0.001" in found
    assert links(found, f"/invoices/{statement.public_id}/lines/2/")
    assert "No call has this id" in read(client, "/usage/find/?find=req_nothing")
    several = table(client, f"/invoices/{statement.public_id}/lines/2/calls/?hour=2026-02-10T09&format=csv")
    assert " calls</dd>" in read(client, f"/usage/find/?find={several[0]['event']}")
    staff = create_user("staff@example.com", is_staff=True)
    client.force_login(staff)
    assert "Acme" in read(client, f"/staff/calls/?find={hours[-1]['event']}")
    assert "above 10,000" in read(client, f"/staff/documents/{statement.public_id}/lines/2/")


def test_the_number_of_queries_does_not_grow(
    customer: Customer, client: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    statement = customer.finalise()
    for tail in ("", "hours/?tier=2", "calls/?hour=2026-02-10T10"):
        with django_assert_max_num_queries(45):
            read(client, f"/invoices/{statement.public_id}/lines/2/{tail}")
