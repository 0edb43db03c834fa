"""Staff correct an event that they found by its id or its request's."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import AuditEvent, User
from core.clock import now
from metering.drain import drain_all
from metering.models import PeriodTotal
from metering.reconcile import reconcile
from tests.factories import create_user
from tests.metering.conftest import ledger
from tests.metering.ledger_kit import Ledger, now_us

__all__ = ["ledger"]
ADDRESS = "/staff/correct/"


def recorded(ledger: Ledger, **more: Any) -> str:
    event = ledger.event(now_us(), request_id="req_" + "7" * 22, **more)
    ledger.append(event, counted=True)
    drain_all(at=now())
    return str(event.id)


@pytest.fixture
def staff(client: Client, ledger: Ledger) -> User:
    person = create_user("ada@farebox.example", is_staff=True)
    client.force_login(person)
    return person


def test_an_event_is_found_by_its_id_and_by_its_request(client: Client, staff: User, ledger: Ledger) -> None:
    event = recorded(ledger)
    for words in (event, "req_" + "7" * 22, f" {event} "):
        page = client.get(ADDRESS, {"find": words}).content.decode()
        assert ledger.organization.name in page
        assert "Comes to" in page
    second = recorded(ledger)
    page = client.get(ADDRESS, {"find": "req_" + "7" * 22}).content.decode()
    assert f"?find={event}" in page
    assert f"?find={second}" in page
    for words in ("req_none", "019a0f0e-7d3c-7c41-8a52-0d5b1c9d2f10"):
        assert "no such event" in client.get(ADDRESS, {"find": words}).content.decode()
    assert client.get(ADDRESS).status_code == 200


def test_a_correction_is_made_once_and_said(client: Client, staff: User, ledger: Ledger) -> None:
    event = recorded(ledger, quantity=5)
    where = f"{ADDRESS}?find={event}"
    said = client.post(where, {"what": "quantity", "quantity": "3", "reason": "two were ours"}, follow=True)
    assert "Corrected: 5 is now 3." in said.content.decode()
    said = client.post(where, {"what": "quantity", "quantity": "3", "reason": "two were ours"}, follow=True)
    assert "comes to 3 already" in said.content.decode()
    said = client.post(where, {"what": "void", "reason": "all were ours"}, follow=True)
    assert "Corrected: 3 is now 0." in said.content.decode()
    assert PeriodTotal.objects.get().sum == ledger.counter() == 0
    assert [audit.by for audit in AuditEvent.objects.filter(action="usage.corrected")] == [staff, staff]
    assert reconcile(at=now()).is_equal


def test_what_cannot_be_done_is_said_on_the_form(
    client: Client, staff: User, ledger: Ledger, settings: Any
) -> None:
    event = recorded(ledger, quantity=5)
    for data, words in (
        ({"what": "quantity", "reason": "r"}, "Say how much"),
        ({"what": "quantity", "quantity": "0.5", "reason": "r"}, "counts 0 decimals"),
        ({"what": "void", "reason": ""}, "required"),
    ):
        assert words in client.post(f"{ADDRESS}?find={event}", data).content.decode()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answer = client.post(f"{ADDRESS}?find={event}", {"what": "void", "reason": "r"})
    assert "nothing was changed" in answer.content.decode()
    assert PeriodTotal.objects.get().sum == 5


def test_staff_need_the_permission(client: Client, ledger: Ledger) -> None:
    event = recorded(ledger)
    helper = create_user("helper@farebox.example")
    helper.is_staff = True
    helper.save()
    client.force_login(helper)
    assert "may look" in client.get(ADDRESS, {"find": event}).content.decode()
    answer = client.post(f"{ADDRESS}?find={event}", {"what": "void", "reason": "r"})
    assert answer.status_code == 403
    helper.user_permissions.add(Permission.objects.get(codename="add_usageevent"))
    answer = client.post(f"{ADDRESS}?find={event}", {"what": "void", "reason": "r"})
    assert answer.status_code == 302


def test_corrections_are_named_in_the_list_of_calls(client: Client, staff: User, ledger: Ledger) -> None:
    event = recorded(ledger, quantity=5)
    client.post(f"{ADDRESS}?find={event}", {"what": "quantity", "quantity": "3", "reason": "r"})
    (row,) = [one for one in client.get(ADDRESS, {"find": "req_" + "7" * 22}).context["found"] if one.reason]
    assert (row.reason, row.quantity) == ("correction", -2)
    page = client.get(ADDRESS, {"find": str(row.id)}).content.decode()
    assert f"?find={event}" in page
    assert '<button class="button button-primary" type="submit">Correct' not in page
