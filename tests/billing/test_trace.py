"""From a call up to its line, and the two commands."""

import json
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from billing.breakdown import add_shares
from billing.explain import stored_document
from billing.trace import LATE, NOT_BILLED, find_calls, trace
from core.clock import now
from metering.models import UsageEvent
from metering.services import ingest_history
from metering.usage_corrections import correct_usage
from plans.services import roll_periods
from tests.billing.kit import HOUR, START, Customer
from tests.billing.test_explain import report
from tests.factories import create_meter

pytestmark = pytest.mark.django_db


def row(identifier: UUID) -> UsageEvent:
    return UsageEvent.objects.get(id=identifier)


def run(name: str, *args: str) -> str:
    out = StringIO()
    call_command(name, *args, stdout=out)
    return out.getvalue()


def test_a_call_leads_to_its_tiers_line_and_statement() -> None:
    customer = Customer.start()
    customer.use(9_999)
    used = customer.use(3)
    found = trace(row(used.id), at=START + HOUR)
    assert found.document is not None
    assert found.document.reference == "now"
    statement = customer.finalise()
    found = trace(row(used.id), at=now())
    assert found.document is not None
    assert (found.document.name, found.line and found.line.position) == (statement.number, 2)
    assert [(one.number, one.share.quantity) for one in found.tiers] == [(1, 1), (2, 2)]
    assert found.cost == Decimal("0.002")


def test_costs_of_all_calls_are_the_line() -> None:
    customer = Customer.start()
    for quantity in (4_000, 7_000, 13, 500):
        customer.use(quantity)
    event = UsageEvent.objects.earliest("occurred_at")
    correct_usage(event.id, quantity=Decimal(3_000), reason="test", by=None, at=now())
    statement = customer.finalise()
    traces = [trace(one, at=now()) for one in UsageEvent.objects.filter(corrects_id=None)]
    line = stored_document(statement).line(2)
    assert add_shares([one.share for one in traces]).amount == line.exact == Decimal("0.513")
    assert traces[0].corrections


def test_late_usage_is_traced_to_the_next_document() -> None:
    customer = Customer.start()
    customer.use(10_000)
    customer.finalise()
    late = customer.use(7)
    assert trace(row(late.id), at=now()).note == LATE
    roll_periods(at=customer.period().ends_at + HOUR)
    following = customer.finalise(1)
    found = trace(row(late.id), at=now())
    assert found.document is not None
    assert (found.document.name, found.cost) == (following.number, Decimal("0.007"))


def test_test_calls_are_on_no_line() -> None:
    customer = Customer.start()
    used = customer.use(1)
    event = row(used.id)
    event.mode = "test"
    assert trace(event, at=now()).note == NOT_BILLED


def test_calls_are_found_by_request_and_by_event_and_only_ones_own() -> None:
    customer, stranger = Customer.start(), Customer.start("Contoso")
    event = report(customer, create_meter(), START + HOUR, "1")
    event = replace(event, request_id="req_0123456789012345678901", door="gateway")
    ingest_history([event], at=now())
    for text in (event.request_id, f" {event.id} "):
        assert [one.id for one in find_calls(str(text))] == [event.id]
        assert [one.id for one in find_calls(str(text), organization=customer.organization)] == [event.id]
        assert find_calls(str(text), organization=stranger.organization) == []
    assert find_calls("") == find_calls("x" * 41) == find_calls("req_unknown") == find_calls("req_\0") == []


def test_the_commands_say_the_same() -> None:
    customer = Customer.start()
    customer.use(9_999)
    used = customer.use(3)
    statement = customer.finalise()
    hour = f"{row(used.id).occurred_at:%Y-%m-%dT%H}"
    text = run("explain", f"{statement.number}/2")
    assert "10,000" in text
    rows: list[dict[str, Any]] = json.loads(run("explain", f"{statement.number}/2", "--tier", "2", "--json"))[
        "rows"
    ]
    assert [one["amount"] for one in rows] == ["0.002"]
    calls = json.loads(run("explain", f"{statement.number}/2", "--hour", hour, "--json"))["rows"]
    assert [one["quantity"] for one in calls] == ["9999", "3"]
    assert "Exactly $49.00, rounded once by $0.00" in run("explain", f"{statement.number}/1")
    with pytest.raises(CommandError, match="no tier 3; it has 2"):
        run("explain", f"{statement.number}/2", "--tier", "3")
    assert statement.number in run("trace", str(used.id))
    (facts,) = json.loads(run("trace", str(used.id), "--json"))
    assert (facts["document"], facts["line"], facts["cost"]) == (statement.number, 2, "0.002")


@pytest.mark.parametrize("args", [["explain", "nothing"], ["explain", "X-1/1"], ["trace", "req_unknown"]])
def test_what_is_not_there_is_said(args: list[str]) -> None:
    with pytest.raises(CommandError):
        run(*args)
