"""Corrections of usage: opposite rows, counted where the event was, told to the counters, done once."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission

from accounts.models import AuditEvent, User
from core.clock import now, to_micros
from core.errors import Forbidden
from core.ids import event_id, new_nonce
from metering.drain import drain_all
from metering.events import Event
from metering.models import PeriodTotal, UsageEvent, UsageTotal
from metering.period_usage import late_since, period_quantities_at
from metering.queries import unbilled_calls
from metering.rebuild import rebuild_counters
from metering.reconcile import reconcile
from metering.totals import rebuild_totals
from metering.usage_corrections import (
    CorrectionRefused,
    UnknownEvent,
    correct_usage,
    events_of_request,
    find_event,
    quantity_now,
)
from plans.models import Aggregation
from tests.factories import create_organization, create_user
from tests.metering.ledger_kit import Ledger
from tests.metering.test_aggregation import START, Books, _of_kind, books

__all__ = ["books"]


def correct(identifier: UUID, quantity: str | None) -> tuple[UUID, ...]:
    value = None if quantity is None else Decimal(quantity)
    return correct_usage(identifier, quantity=value, reason="counted twice", by=None, at=now()).rows


def test_a_correction_is_a_row_with_the_difference_in_the_place_of_its_event(ledger: Ledger) -> None:
    wrong = ledger.call(units=5)
    ledger.call(units=2)
    drain_all(at=now())
    staff = create_user(is_staff=True)
    User.objects.filter(pk=staff.pk).update(is_superuser=False)
    with pytest.raises(Forbidden):
        correct_usage(
            wrong.id, quantity=Decimal(3), reason="two were ours", by=User.objects.get(pk=staff.pk), at=now()
        )
    staff.user_permissions.add(Permission.objects.get(codename="add_usageevent"))
    staff = User.objects.get(pk=staff.pk)
    done = correct_usage(wrong.id, quantity=Decimal(3), reason="two were ours", by=staff, at=now())
    row = UsageEvent.objects.get(corrects_id=wrong.id)
    event = UsageEvent.objects.get(id=wrong.id)
    assert (done.before, done.quantity, done.rows) == (5, 3, (row.id,))
    assert (row.quantity, row.reason, row.door) == (-2, "correction", "correct")
    same = ("occurred_at", "period_id", "api_key_id", "route_id", "status", "dimension", "request_id")
    assert [getattr(row, name) for name in same] == [getattr(event, name) for name in same]
    assert row.corrects_occurred_at == event.occurred_at
    assert row.stored_at > event.stored_at
    assert PeriodTotal.objects.get().sum == ledger.counter() == 5
    assert unbilled_calls(ledger.organization, period=ledger.period, mode="live") == []
    assert reconcile(at=now()).is_equal
    (audit,) = AuditEvent.objects.filter(action="usage.corrected")
    assert (audit.by, audit.target, audit.details["reason"]) == (staff, str(wrong.id), "two were ours")


def test_asked_for_again_it_does_nothing(ledger: Ledger) -> None:
    wrong = ledger.call(units=5)
    drain_all(at=now())
    assert len(correct(wrong.id, "3")) == 1
    assert correct(wrong.id, "3") == correct(wrong.id, "3.0") == ()
    assert len(correct(wrong.id, "4")) == 1
    assert PeriodTotal.objects.get().sum == ledger.counter() == 4
    assert AuditEvent.objects.filter(action="usage.corrected").count() == 2


def test_a_void_takes_back_everything_and_can_be_taken_back(ledger: Ledger) -> None:
    ledger.call(units=2)
    wrong = ledger.call(units=9)
    drain_all(at=now())
    correct(wrong.id, "7")
    assert len(correct(wrong.id, None)) == 1
    assert correct(wrong.id, None) == ()
    total, hour = PeriodTotal.objects.get(), UsageTotal.objects.get()
    assert (total.sum, total.billed_count, total.max, ledger.counter()) == (2, 1, 2, 2)
    assert (hour.sum, hour.billed_count, hour.min, hour.max, hour.last) == (2, 1, 2, 2, 2)
    ledger.call(units=4)
    drain_all(at=now())
    correct(wrong.id, "1")
    assert (PeriodTotal.objects.get().sum, PeriodTotal.objects.get().max, ledger.counter()) == (7, 4, 7)
    assert quantity_now(UsageEvent.objects.get(id=wrong.id)) == 1
    assert reconcile(at=now()).is_equal


def test_what_was_not_billed_can_be_billed_after_all(ledger: Ledger) -> None:
    failed = ledger.call(units=0, reason="upstream_error", reserve=1)
    drain_all(at=now())
    correct(failed.id, "1")
    assert PeriodTotal.objects.get().sum == ledger.counter() == 1
    with pytest.raises(CorrectionRefused, match="not billed"):
        correct(failed.id, None)
    assert reconcile(at=now()).is_equal


def test_counters_that_are_rebuilt_hold_the_corrections(ledger: Ledger) -> None:
    wrong = ledger.call(units=5)
    drain_all(at=now())
    correct(wrong.id, None)
    ledger.call(units=3)
    drain_all(at=now())
    rebuild_counters(at=now(), organization=ledger.organization, reset=True)
    assert ledger.counter() == 3
    assert reconcile(at=now()).is_equal


@pytest.mark.parametrize(
    ("quantity", "match"),
    [("0.5", "0 decimals"), ("-1", "out of range"), ("1e30", "out of range"), ("NaN", "decimals")],
)
def test_quantities_that_the_meter_cannot_count_are_refused(
    ledger: Ledger, quantity: str, match: str
) -> None:
    event = ledger.call()
    drain_all(at=now())
    with pytest.raises(CorrectionRefused, match=match):
        correct(event.id, quantity)
    assert UsageEvent.objects.count() == 1


def test_only_events_that_are_there_and_no_corrections_are_corrected(ledger: Ledger) -> None:
    event = ledger.call(units=2)
    drain_all(at=now())
    (row,) = correct(event.id, "1")
    with pytest.raises(CorrectionRefused, match=str(event.id)):
        correct(row, "3")
    for unknown in (event_id(to_micros(now()), new_nonce()), UUID(int=0), UUID(int=2**128 - 1)):
        with pytest.raises(UnknownEvent):
            correct(unknown, "3")
    with pytest.raises(UnknownEvent):
        find_event(event.id, organization=create_organization())
    with pytest.raises(CorrectionRefused, match="reason"):
        correct_usage(event.id, quantity=None, reason=" ", by=None, at=now())


def test_an_event_is_found_by_its_request(ledger: Ledger) -> None:
    ledger.append(ledger.event(to_micros(now()), request_id="req_1"))
    drain_all(at=now())
    (event,) = events_of_request("req_1")
    assert find_event(event.id) == event
    assert events_of_request("req_2") == []


@pytest.mark.parametrize("kind", [Aggregation.MAX, Aggregation.LAST, Aggregation.TIME_WEIGHTED])
def test_a_reading_is_replaced_in_its_place(books: Books, kind: str) -> None:
    first, second = (
        books.event(kind, START + timedelta(hours=hour), value) for hour, value in ((0, "4"), (1, "9"))
    )
    twin = books.event(kind, START + timedelta(hours=1), "5")
    books.store(first, twin, second) if twin.id < second.id else books.store(first, second, twin)
    september = books.periods[0]
    slug = (f"m_{kind}", "region=")
    before = books.quantities(september)[slug]
    cut = now()
    rows = correct(second.id, "6.5")
    assert len(rows) == 2
    later = 30 * 24 - 1
    expected = {"max": Decimal("6.5"), "last": Decimal(5), "time_weighted": Decimal(4 + 5 * later)}[kind]
    assert books.quantities(september)[slug] == expected
    assert period_quantities_at(september, cut_at=cut)[slug] == before
    assert len(correct(twin.id, None)) == 1
    expected = {"max": Decimal("6.5"), "last": Decimal("6.5"), "time_weighted": 4 + Decimal("6.5") * later}[
        kind
    ]
    assert books.quantities(september)[slug] == expected
    assert late_since(september, cut_at=cut).get(slug, 0) == expected - before
    assert correct(second.id, "6.5") == ()
    correct(second.id, None)
    correct(first.id, None)
    assert slug not in books.quantities(september)
    assert reconcile(at=now()).is_equal


def test_of_a_unique_count_only_the_last_event_of_a_value_takes_it_away(books: Books) -> None:
    events = [
        books.event("unique", START + timedelta(hours=n), "1", user=user) for n, user in enumerate("abb")
    ]
    books.store(*events)
    september, slug = books.periods[0], ("m_unique", "region=")
    for event, count in zip((events[1], events[2]), (2, 1), strict=True):
        correct(event.id, None)
        assert books.quantities(september)[slug] == count
    with pytest.raises(CorrectionRefused, match="void"):
        correct(events[0].id, "2")
    assert reconcile(at=now()).is_equal


@pytest.mark.parametrize("seed", range(10))
def test_after_any_corrections_everything_is_as_if_it_had_been_right(books: Books, seed: int) -> None:
    random = Random(seed)
    right: dict[UUID, Event | None] = {}
    moments = []
    for _ in range(25):
        if random.random() < 0.5 or not right:
            for _ in range(3):
                event = _random_event(books, random)
                books.store(event)
                right[event.id] = event
        else:
            identifier = random.choice(list(right))
            event = next(e for e in books.events if e.id == identifier)
            unique = event.meter_id == books.meters[Aggregation.UNIQUE].pk
            quantity = None if unique or random.random() < 0.4 else str(random.randrange(100))
            correct(identifier, quantity)
            right[identifier] = None if quantity is None else _with(event, quantity)
        moments.append((now(), [e for e in right.values() if e]))
    for period in books.periods:
        for cut_at, events in random.sample(moments, 4):
            assert _nonzero(period_quantities_at(period, cut_at=cut_at)) == _nonzero(
                _model(books, events, period)
            )
        assert _nonzero(books.quantities(period)) == _nonzero(_model(books, moments[-1][1], period))
    assert reconcile(at=now()).is_equal
    rebuild_totals(books.ledger.organization)
    assert reconcile(at=now()).is_equal


def _random_event(books: Books, random: Random) -> Event:
    kind = random.choice(Aggregation.values)
    at = START + timedelta(minutes=random.choice([random.randrange(180), random.randrange(60 * 24 * 60)]))
    return books.event(kind, at, str(random.randrange(50)), user=random.choice("ab"))


def _with(event: Event, quantity: str) -> Event:
    return replace(event, quantity=Decimal(quantity))


def _model(books: Books, events: list[Event], period: object) -> dict[tuple[str, str], Decimal]:
    found = {}
    for kind, meter in books.meters.items():
        quantity = _of_kind(kind, [e for e in events if e.meter_id == meter.pk], period)  # type: ignore[arg-type]
        found[meter.slug, "region="] = quantity or Decimal(0)
    return found


def _nonzero(quantities: dict[tuple[str, str], Decimal]) -> dict[tuple[str, str], Decimal]:
    return {key: quantity for key, quantity in quantities.items() if quantity}
