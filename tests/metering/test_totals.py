"""Reasons and unique values beside the totals, differences that reconcile finds in them, and counting all of it again."""

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from core.clock import now
from metering.drain import drain_all
from metering.models import PeriodTotal, ReasonTotal, UniqueValue, UsageTotal
from metering.queries import Unbilled, unbilled_calls, unbilled_count
from metering.reconcile import reconcile
from metering.totals import rebuild_totals
from plans.models import Aggregation, Meter
from tests.factories import create_meter
from tests.metering.ledger_kit import Ledger, now_us


def unique_meter(slug: str = "users") -> Meter:
    meter = create_meter(slug, unit="user")
    meter.aggregation, meter.value_property = Aggregation.UNIQUE, "user"
    meter.save()
    return meter


def fill(ledger: Ledger) -> None:
    for reason in ("upstream_error", "client_gone", "upstream_error"):
        ledger.append(ledger.event(now_us(), quantity=Decimal(0), reason=reason))
    ledger.append(ledger.event(now_us(), quantity=Decimal(3)), counted=True)
    drain_all(at=now())
    calls, ledger.meter = ledger.meter, unique_meter()
    for user in ("ann", "bob", "ann", None, "cleo"):
        ledger.append(ledger.event(now_us(), properties={"user": user}))
    drain_all(at=now())
    ledger.append(ledger.event(now_us(), properties={"user": "bob"}))
    drain_all(at=now())
    ledger.meter = calls


def test_calls_that_were_not_charged_are_counted_by_reason(ledger: Ledger) -> None:
    fill(ledger)
    found = unbilled_calls(ledger.organization, period=ledger.period, mode="live")
    assert found == [Unbilled("upstream_error", 2), Unbilled("client_gone", 1)]
    assert unbilled_count(ledger.organization, period=ledger.period, mode="live") == 3
    assert unbilled_calls(ledger.organization, period=ledger.period, mode="test") == []


def test_a_unique_count_keeps_each_value_once_a_period(ledger: Ledger) -> None:
    fill(ledger)
    values = [bytes(row.value_hash) for row in UniqueValue.objects.for_organization(ledger.organization)]
    assert len(values) == 3
    assert all(len(value) == 32 for value in values)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (lambda: ReasonTotal.objects.filter(reason="client_gone").update(count=2), "reason"),
        (lambda: ReasonTotal.objects.filter(reason="client_gone").delete(), "reason"),
        (lambda: UniqueValue.objects.all().delete(), "unique"),
        (lambda: PeriodTotal.objects.filter(meter_id=Meter.objects.get(slug="users").pk).update(dimension="a=b"), "period_total"),
    ],
)  # fmt: skip
def test_what_differs_is_found_and_counted_again(ledger: Ledger, plant: object, kind: str) -> None:
    fill(ledger)
    assert reconcile(at=now()).is_equal
    plant()  # type: ignore[operator]
    assert {one.kind for one in reconcile(at=now()).differences} == {kind}
    assert rebuild_totals(ledger.organization) == 10
    assert reconcile(at=now()).is_equal


def test_counting_again_gives_the_same_totals(ledger: Ledger) -> None:
    fill(ledger)
    tables = (UsageTotal, PeriodTotal, ReasonTotal)
    hidden = ("id", "stored_at")

    def rows() -> list[list[tuple[object, ...]]]:
        names = [[f.name for f in table._meta.fields if f.name not in hidden] for table in tables]
        return [
            sorted(table.objects.values_list(*fields), key=repr)  # type: ignore[attr-defined]
            for table, fields in zip(tables, names, strict=True)
        ]

    before = rows()
    out = StringIO()
    call_command("rebuild_totals", "--organization", ledger.organization.public_id, stdout=out)
    assert out.getvalue() == f"{ledger.organization.public_id}: 10 events\n"
    assert rows() == before
    with pytest.raises(CommandError, match="no organization"):
        call_command("rebuild_totals", "--organization", "org_none")
