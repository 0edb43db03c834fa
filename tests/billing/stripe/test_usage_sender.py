"""Sending the outbox, with a sink that answers what each test says (a fake); the real client is in test_usage_standin.py."""

import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from threading import Barrier, Lock, Thread
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.models import AuditEvent
from billing.models import FindingKind, StripeFinding, StripeUsage, UsageState
from billing.stripe import sender
from billing.stripe.outbox import UsageNotOpen, record_meter_error, send_again
from billing.stripe.sender import Sent, backoff, claim, recover, send_usage
from billing.stripe.sink import Answer, Fate, MeterEvent
from billing.stripe.unknown import Verdict, verdict
from core.errors import Forbidden
from tests.billing.kit import START
from tests.billing.stripe.usage_kit import HOUR, FakeSink, metered_customer, row, state_of
from tests.factories import create_user

pytestmark = pytest.mark.django_db(transaction=True)
AT = START + timedelta(days=1)
MINUTE = timedelta(minutes=1)


def send(sink: FakeSink, at: datetime = AT) -> Sent:
    return send_usage(at=at, sink=sink)


def open_findings(kind: FindingKind = FindingKind.USAGE) -> list[str]:
    rows = StripeFinding.objects.filter(kind=kind, closed_at=None).order_by("subject")
    return list(rows.values_list("subject", flat=True))


@pytest.mark.parametrize(
    ("fate", "state"),
    [
        (Fate.SENT, UsageState.SENT),
        (Fate.KNOWN, UsageState.SENT),
        (Fate.REFUSED, UsageState.REFUSED),
        (Fate.BUSY, UsageState.PENDING),
        (Fate.UNKNOWN, UsageState.UNKNOWN),
        (Fate.LOCKED_OUT, UsageState.PENDING),
    ],
)
def test_what_an_answer_makes_of_a_row(fate: Fate, state: UsageState) -> None:
    one = row(metered_customer())
    send(FakeSink([fate]))

    assert (state_of(one), one.attempts) == (state, 1)
    assert (one.sent_at is not None) == (state == UsageState.SENT)
    # Only a row whose fate was unknown once has to be careful about its repetition.
    assert (one.first_attempt_at is not None) == (fate in (Fate.SENT, Fate.KNOWN, Fate.UNKNOWN))
    told_loudly = {Fate.REFUSED: [one.identifier], Fate.LOCKED_OUT: ["api_key"]}
    assert open_findings() == told_loudly.get(fate, [])


def test_a_row_that_waits_is_left_alone_until_its_time() -> None:
    one, sink = row(metered_customer()), FakeSink([Fate.UNKNOWN])
    send(sink)
    one.refresh_from_db()
    send(sink, one.next_attempt_at - timedelta(milliseconds=900))
    assert len(sink.told) == 1

    send(sink, one.next_attempt_at)
    assert [event.identifier for event in sink.told] == [one.identifier] * 2
    assert state_of(one) == UsageState.SENT


def test_waits_grow_to_a_quarter_of_an_hour_with_jitter() -> None:
    assert {backoff(1) for _ in range(9)} != {backoff(1)}
    assert timedelta(seconds=1) <= backoff(1) <= timedelta(seconds=2)
    assert timedelta(seconds=450) <= backoff(40) <= timedelta(seconds=900)


def test_rows_of_a_customer_and_meter_go_in_order_one_at_a_time() -> None:
    customer = metered_customer()
    rows = [row(customer, value) for value in (1, 2, 3)]
    other = row(metered_customer("Other", shard=3))
    sink = FakeSink([Fate.SENT, Fate.SENT, Fate.BUSY])
    send(sink)

    of_customer = [
        event.value for event in sink.told if event.customer == f"cus_test_{customer.organization.pk}"
    ]
    assert of_customer == [1, 2]  # the third waits behind the second
    assert [state_of(one) for one in rows] == [UsageState.SENT, UsageState.PENDING, UsageState.PENDING]
    assert state_of(other) == UsageState.SENT


def test_the_limit_holds() -> None:
    customer = metered_customer()
    for _ in range(3):
        row(customer)
    assert send_usage(at=AT, limit=2, sink=FakeSink()).counts["sent"] == 2


def test_when_nothing_gets_through_the_run_ends() -> None:
    customer = metered_customer()
    for _ in range(3):
        row(customer)
    sink = FakeSink([Fate.UNKNOWN] * 9)
    assert send(sink).is_stopped
    assert len(sink.told) == 1


def test_a_sink_that_breaks_leaves_an_unknown_fate() -> None:
    one = row(metered_customer())

    def broken(event: MeterEvent) -> None:
        raise ValueError(event.identifier)

    send(FakeSink(before=broken))
    assert state_of(one) == UsageState.UNKNOWN


def test_a_row_is_marked_and_committed_before_its_request() -> None:
    one, seen = row(metered_customer()), list[str]()

    def look(event: MeterEvent) -> None:
        try:
            seen.append(StripeUsage.objects.get(identifier=event.identifier).state)
        finally:
            connection.close()

    send(FakeSink(before=look))
    assert seen == [UsageState.SENDING]
    assert state_of(one) == UsageState.SENT


_KILLED = """
import os, signal, django
django.setup()
from datetime import datetime
from billing.stripe.sender import send_usage

class Killer:
    def send(self, event):
        os.kill(os.getpid(), signal.SIGKILL)

send_usage(at=datetime.fromisoformat(os.environ["AT"]), sink=Killer())
"""


def test_a_sender_that_is_killed_after_the_claim_leaves_an_unknown_row_that_is_repeated() -> None:
    one = row(metered_customer())
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED], env=os.environ | {"AT": AT.isoformat()}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    sink = FakeSink()
    send(sink, AT + MINUTE)
    assert (state_of(one), sink.told) == (UsageState.SENDING, [])  # perhaps it is still at work

    assert recover(at=AT + 6 * MINUTE) == 1
    assert state_of(one) == UsageState.UNKNOWN
    send(sink, AT + 6 * MINUTE)
    assert state_of(one) == UsageState.SENT
    assert [event.identifier for event in sink.told] == [one.identifier]


def test_a_sender_that_dies_between_claim_and_mark_leaves_a_pending_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, sink = row(metered_customer()), FakeSink()
    with monkeypatch.context() as patched:
        patched.setattr(sender, "Coalesce", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            claim(at=AT)
    assert state_of(one) == UsageState.PENDING
    send(sink)
    assert (state_of(one), len(sink.told)) == (UsageState.SENT, 1)


def test_many_senders_at_once_tell_each_row_once_and_a_meter_of_a_customer_never_twice_at_a_time() -> None:
    customers = [metered_customer(f"Customer {number}", shard=number) for number in range(5)]
    rows = [row(customer, value) for value in range(1, 7) for customer in customers]
    lock, inside, crowds = Lock(), list[str](), list[str]()
    start = Barrier(4)

    class Slow(FakeSink):
        def send(self, event: MeterEvent) -> Answer:
            with lock:
                if event.customer in inside:
                    crowds.append(event.customer)
                inside.append(event.customer)
            time.sleep(0.005)
            with lock:
                inside.remove(event.customer)
                return super().send(event)

    sink = Slow()

    def run() -> None:
        try:
            start.wait(timeout=10)
            for _ in range(40):
                if not send_usage(at=AT, sink=sink).counts["sent"] and not _unfinished():
                    break
                time.sleep(0.01)
        finally:
            connection.close()

    senders = [Thread(target=run) for _ in range(4)]
    for one in senders:
        one.start()
    for one in senders:
        one.join(timeout=60)

    told = [event.identifier for event in sink.told]
    assert sorted(told) == sorted(one.identifier for one in rows)
    assert crowds == []
    for customer in customers:
        name = f"cus_test_{customer.organization.pk}"
        assert [event.value for event in sink.told if event.customer == name] == [1, 2, 3, 4, 5, 6]


def _unfinished() -> bool:
    return StripeUsage.objects.exclude(state=UsageState.SENT).exists()


@pytest.mark.parametrize(
    ("says", "state"),
    [(7, UsageState.SENT), (0, UsageState.PENDING), (3, UsageState.UNKNOWN), (None, UsageState.UNKNOWN)],
)
def test_after_its_window_a_row_is_compared_never_repeated(says: int | None, state: UsageState) -> None:
    one = row(metered_customer(), state=UsageState.UNKNOWN, first_attempt_at=AT, attempted_at=AT)
    sink = FakeSink([Fate.BUSY] * 3, says=says)
    send(sink, AT + 23 * HOUR)

    assert state_of(one) == state
    # Once it is known not to be there, it may be sent; nothing else is.
    assert len(sink.told) == (1 if says == 0 else 0)
    assert open_findings() == ([one.identifier] if says == 3 else [])


def test_rows_told_in_the_same_hour_are_taken_into_account() -> None:
    customer = metered_customer()
    row(customer, 100, state=UsageState.SENT, sent_at=AT)
    one = row(customer, 7, state=UsageState.UNKNOWN, first_attempt_at=AT, attempted_at=AT)
    send(FakeSink(says=107), AT + 24 * HOUR)
    assert state_of(one) == UsageState.SENT


def test_nothing_is_concluded_from_fresh_figures() -> None:
    customer, at = metered_customer(), AT + 24 * HOUR
    row(customer, 7, state=UsageState.SENT, sent_at=at - MINUTE)
    one = row(customer, 7, state=UsageState.UNKNOWN, first_attempt_at=AT, attempted_at=AT)
    send(FakeSink(says=7), at)
    assert state_of(one) == UsageState.UNKNOWN


def test_a_row_that_is_compared_holds_nobody_back() -> None:
    customer = metered_customer()
    row(customer, state=UsageState.UNKNOWN, first_attempt_at=AT, attempted_at=AT)
    after = row(customer)
    send(FakeSink(says=3), AT + 24 * HOUR)
    assert state_of(after) == UsageState.SENT


def test_the_verdict_is_about_sums() -> None:
    assert verdict([5], sent=10, counted=15) == Verdict.THERE
    assert verdict([5], sent=10, counted=10) == Verdict.MISSING
    assert verdict([5, -3], sent=10, counted=12) == Verdict.THERE
    assert verdict([5, -3], sent=10, counted=15) == Verdict.UNDECIDED
    assert verdict([3, -3], sent=10, counted=10) == Verdict.THERE


def test_usage_older_than_stripe_takes_is_refused_loudly() -> None:
    one = row(metered_customer())
    sink = FakeSink()
    send(sink, START + timedelta(days=35))
    assert (state_of(one), sink.told) == (UsageState.REFUSED, [])
    assert open_findings() == [one.identifier]


def test_a_finding_closes_when_the_row_is_sent_again() -> None:
    one, staff = row(metered_customer()), create_user(is_staff=True)
    sink = FakeSink([Fate.REFUSED])
    send(sink)
    with pytest.raises(Forbidden):
        send_again(row=one, by=create_user(), at=AT)

    send_again(row=one, by=staff, at=AT)
    written = AuditEvent.objects.for_organization(one.organization).get(action="stripe_usage.send_again")
    assert (written.by, written.target) == (staff, one.identifier)
    send(sink)
    assert (state_of(one), open_findings()) == (UsageState.SENT, [])
    with pytest.raises(UsageNotOpen):
        send_again(row=one, by=staff, at=AT)


def test_what_stripe_reports_of_accepted_events_is_a_finding_and_refuses_its_row() -> None:
    one = row(metered_customer(), state=UsageState.SENT, sent_at=AT)
    report = {
        "id": "evt_test_1",
        "related_object": {"id": one.meter.stripe_id, "type": "billing.meter"},
        "data": {
            "developer_message_summary": "There is 1 invalid event",
            "validation_start": "2026-02-11T08:00:00.000Z",
            "reason": {
                "error_count": 1,
                "error_types": [
                    {
                        "code": "meter_event_customer_not_found",
                        "error_count": 1,
                        "sample_errors": [
                            {"error_message": "No such customer", "request": {"identifier": one.identifier}}
                        ],
                    }
                ],
            },
        },
    }
    found = record_meter_error(report, at=AT)
    assert record_meter_error(report, at=AT + MINUTE) == found

    assert (found.organization_id, found.kind) == (one.organization_id, FindingKind.METER_ERROR)
    assert found.theirs["reason"]["error_count"] == 1
    assert state_of(one) == UsageState.REFUSED
    assert "No such customer" in one.error
    # Stripe may still know the identifier: it gets a new one.
    assert send_again(row=one, by=None, at=AT).identifier == f"{one.identifier}-again0"


def test_a_report_without_details_is_a_finding_too() -> None:
    found = record_meter_error({"id": "evt_test_2", "data": {}}, at=AT)
    assert found.organization is None


def test_the_pace_is_kept(settings: LazySettings) -> None:
    settings.STRIPE_USAGE_CALLS_PER_SECOND = 50
    for number in range(11):
        row(metered_customer(f"Customer {number}", shard=number))
    started = time.monotonic()
    assert send(FakeSink()).counts["sent"] == 11
    assert time.monotonic() - started >= 0.2
