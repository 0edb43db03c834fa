"""Corrections by an owner's service and from the command line."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import AuditEvent
from core.clock import now
from metering.models import UsageEvent
from metering.reconcile import reconcile
from tests.factories import create_organization, create_user
from tests.metering.test_ingest import OWNER, Reporter, reporter

__all__ = ["reporter"]


def post(reporter: Reporter, **body: Any) -> Any:
    fields = {"organization": reporter.organization.public_id, "reason": "counted twice"} | body
    headers = {"Authorization": f"Bearer {OWNER}"}
    return Client().post("/api/usage/correct", fields, content_type="application/json", headers=headers)


def test_an_event_is_corrected_once(reporter: Reporter) -> None:
    event = reporter.recorded()
    before = reporter.total()
    answer = post(reporter, event_id=event, quantity="1")
    assert answer.status_code == 200, answer.content
    (row,) = answer.json()["corrections"]
    assert answer.json() == {
        "event_id": event,
        "before": str(int(before)),
        "quantity": "1",
        "corrections": [row],
    }
    assert post(reporter, event_id=event, quantity="1").json()["corrections"] == []
    assert reporter.total() == 1
    assert post(reporter, event_id=event, quantity=None).json()["quantity"] == "0"
    assert reporter.total() == 0
    details = [audit.details for audit in AuditEvent.objects.filter(action="usage.corrected").order_by("pk")]
    assert [(one["quantity"], one["through"]) for one in details] == [
        ("1", "environment"),
        ("void", "environment"),
    ]
    assert reconcile(at=now()).is_equal


def test_nothing_is_corrected_for_another_organization_or_with_unknown_fields(reporter: Reporter) -> None:
    event = reporter.recorded()
    other = create_organization()
    for body, status, code in (
        ({"organization": other.public_id}, 404, "unknown_event"),
        ({"organization": "org_none"}, 404, "unknown_event"),
        ({"void": True}, 400, "validation_error"),
        ({"reason": ""}, 400, "validation_error"),
        ({"quantity": "x"}, 400, "validation_error"),
        ({"quantity": "0.25"}, 409, "correction_refused"),
    ):
        answer = post(reporter, **{"event_id": event, "quantity": "1"} | body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert UsageEvent.objects.count() == 1


def test_the_command_says_what_it_did(reporter: Reporter) -> None:
    event = reporter.recorded()
    staff = create_user("ada@example.com", is_staff=True)
    out = StringIO()
    call_command("correct", event, "--quantity", "1", "--reason", "typo", "--by", staff.email, stdout=out)
    assert out.getvalue().splitlines()[0].endswith("is now 1")
    call_command("correct", event, "--quantity", "1", "--reason", "typo", stdout=out)
    assert out.getvalue().endswith("comes to 1 already\n")
    call_command("correct", event, "--void", "--reason", "typo", stdout=out)
    assert reporter.total() == 0
    assert [audit.by for audit in AuditEvent.objects.filter(action="usage.corrected").order_by("pk")] == [
        staff,
        None,
    ]
    for words in (["--quantity", "many"], ["--quantity", "0.5"], ["--void", "--by", "nobody@example.com"]):
        with pytest.raises(CommandError):
            call_command("correct", event, *words, "--reason", "typo")
