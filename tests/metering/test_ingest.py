import json
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import orjson
import pytest
from django.db import OperationalError, connection
from django.test import Client
from redis import Redis

from accounts.models import Organization
from core.clock import now, to_micros
from core.redis import usage_redis
from core.redis_layout import organization_key, stream_key, usage_key
from metering.calls import day_name
from metering.drain import drain_all
from metering.engine import Engine, MeteringUnavailable
from metering.ingest import Reported, _Books
from metering.models import DeadLetter, PeriodTotal, UsageEvent
from metering.reconcile import reconcile
from plans.daily_tokens import set_daily_tokens
from plans.models import Period
from plans.queries import current_period
from plans.services import roll_periods
from tests.factories import create_meter, create_organization
from tests.metering.api_kit import problem

TRACK = "/api/usage/track"
OWNER = "owner-key-for-tests-only-0123456789"


@dataclass
class Reporter:
    """A service of the owner's that reports usage of one organization."""

    organization: Organization

    def event(self, key: str = "job-1", **changes: Any) -> dict[str, Any]:
        made = {
            "idempotency_key": key,
            "organization": self.organization.public_id,
            "meter": "api_calls",
            "quantity": "3",
        }
        return {name: value for name, value in (made | changes).items() if value is not None}

    def send(self, *events: Any) -> list[dict[str, str]]:
        answer = self.post({"events": list(events)})
        assert answer.status_code == 200, answer.content
        body = orjson.loads(answer.content)
        counts = Counter(verdict["status"] for verdict in body["events"])
        assert {name: body[name] for name in ("accepted", "duplicate", "rejected")} == {
            name: counts[name] for name in ("accepted", "duplicate", "rejected")
        }
        verdicts: list[dict[str, str]] = body["events"]
        return verdicts

    def statuses(self, *events: Any) -> list[str]:
        return [verdict["status"] for verdict in self.send(*events)]

    def post(self, body: Any, *, key: str = OWNER) -> Any:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = Client(raise_request_exception=False)
        return client.post(TRACK, raw, content_type="application/json", headers=headers)

    def stream(self) -> list[dict[str, Any]]:
        entries: Any = usage_redis().xrange(stream_key(self.organization.shard))
        return [orjson.loads(fields[b"e"]) for _, fields in entries]

    def recorded(self) -> str:
        """The id of an event that was reported and stands in the ledger."""
        (verdict,) = self.send(self.event())
        drain_all(at=now(), budget_seconds=20)
        return str(verdict["event_id"])

    def total(self, period: Period | None = None, mode: str = "live") -> Decimal:
        """What the ledger has for the period, after a drain that leaves nothing."""
        drain_all(at=now(), budget_seconds=20)
        assert not DeadLetter.objects.exists()
        period = period or current_period(self.organization, at=now())
        found = PeriodTotal.objects.for_organization(self.organization).filter(period_id=period.pk, mode=mode)
        return sum((row.sum for row in found), Decimal(0))


@pytest.fixture
def reporter(transactional_db: None, usage_redis: Redis) -> Reporter:
    return Reporter(create_organization(plan="starter", at=now() - timedelta(days=1)))


# --- what is taken -----------------------------------------------------------------------------------------------


def test_one_event_goes_into_the_stream_as_it_was_reported(reporter: Reporter) -> None:
    happened = now() - timedelta(hours=2)
    answer = reporter.post(
        reporter.event(time=happened.isoformat(), properties={"job": 7, "where": "Zürich"})
    )
    assert answer.status_code == 200, answer.content
    (verdict,) = orjson.loads(answer.content)["events"]
    (event,) = reporter.stream()
    assert verdict == {"status": "accepted", "event_id": event["id"]}
    expected = {
        "org": str(reporter.organization.pk), "mode": "live", "door": "ingest", "xid": "job-1", "src": "api",
        "at": str(int(happened.timestamp() * 1_000_000)), "props": {"job": 7, "where": "Zürich"},
        "rid": answer["X-Request-Id"],
    }  # fmt: skip
    assert {name: str(v) if name == "at" else v for name, v in event.items() if name in expected} == expected
    assert reporter.total() == 3
    assert UsageEvent.objects.for_organization(reporter.organization).get().quantity == 3


def test_a_batch_has_a_verdict_for_each_event_in_order(reporter: Reporter) -> None:
    verdicts = reporter.send(
        reporter.event("a"),
        reporter.event("b", quantity="-1"),
        reporter.event("a"),
        reporter.event("c"),
        "what",
    )
    assert [v["status"] for v in verdicts] == ["accepted", "rejected", "duplicate", "accepted", "rejected"]
    assert reporter.total() == 6


def test_a_repeat_is_a_duplicate_before_and_after_the_drain(reporter: Reporter) -> None:
    assert reporter.statuses(reporter.event()) == ["accepted"]
    assert reporter.statuses(reporter.event()) == ["duplicate"]
    assert reporter.total() == 3
    assert reporter.statuses(reporter.event(quantity="9")) == ["duplicate"]
    _forget_claims()
    assert reporter.statuses(reporter.event()) == ["duplicate"]
    assert reporter.total() == 3
    assert reconcile(at=now()).is_equal


def _forget_claims() -> None:
    """As after a week, or after Redis came back from an older copy: only the ledger remembers the ids."""
    client = usage_redis()
    claims = [key for key in client.scan_iter("*") if client.type(key) == b"string"]
    assert claims
    client.delete(*claims)


def test_ids_are_the_organizations_own(reporter: Reporter) -> None:
    other = Reporter(create_organization(plan="free", shard=18, at=now() - timedelta(days=1)))
    assert reporter.statuses(reporter.event(), other.event()) == ["accepted", "accepted"]
    assert reporter.total() == other.total() == 3


def test_an_id_counts_once_over_months_and_usage_goes_to_the_period_of_its_time(
    transactional_db: None, usage_redis: Redis
) -> None:
    moment, before = now(), now() - timedelta(days=40)
    reporter = Reporter(create_organization(plan="starter", at=moment - timedelta(days=50)))
    for days in range(50, 0, -10):
        roll_periods(at=moment - timedelta(days=days))
    earlier = current_period(reporter.organization, at=before)
    assert earlier != current_period(reporter.organization, at=moment)
    assert reporter.statuses(reporter.event(occurred_at=before.isoformat())) == ["accepted"]
    assert reporter.total(earlier) == 3
    assert reporter.total() == 0
    _forget_claims()
    assert reporter.statuses(reporter.event()) == ["duplicate"]
    assert reporter.total() == 0


def test_a_backslash_in_properties_is_no_nul(reporter: Reporter) -> None:
    assert reporter.statuses(reporter.event(properties={"path": "C:\\u0000"})) == ["accepted"]
    assert reporter.total() == 3
    assert UsageEvent.objects.get().properties == {"path": "C:\\u0000"}


def test_test_mode_is_counted_apart(reporter: Reporter) -> None:
    assert reporter.statuses(reporter.event(mode="test")) == ["accepted"]
    assert reporter.total() == 0
    assert reporter.total(mode="test") == 3


def test_fractions_count_exactly(reporter: Reporter) -> None:
    create_meter("gigabytes", decimals=3, unit="GB")
    events = [reporter.event(f"g{n}", meter="gigabytes", quantity="0.001") for n in range(10)]
    assert set(reporter.statuses(*events)) == {"accepted"}
    assert reporter.total() == Decimal("0.010")
    assert reconcile(at=now()).is_equal


def test_reported_tokens_of_today_close_the_day_from_then_on(reporter: Reporter) -> None:
    create_meter("tokens", decimals=1, unit="token")
    organization, day = reporter.organization, day_name(to_micros(now()))
    counted = usage_key(organization.shard, organization.pk, "live", day)

    def report(name: str, **changes: Any) -> None:
        assert reporter.statuses(reporter.event(name, meter="tokens", quantity="4.5", **changes)) == [
            "accepted"
        ]

    report("before there is a limit")
    assert usage_redis().hgetall(counted) == {}
    set_daily_tokens(organization=organization, tokens=8, reason="agreed", by=None, at=now())
    report("counts")
    report("is over and counts all the same")
    report("yesterday", time=(now() - timedelta(days=1)).isoformat())
    report("a test", mode="test")
    assert reporter.statuses(reporter.event("calls")) == ["accepted"]
    assert usage_redis().hgetall(counted) == {b"0": b"10"}
    assert 0 < usage_redis().pttl(counted) <= 172_800_000
    reporter.total()
    assert reconcile(at=now()).is_equal


def test_nothing_used_is_an_event_too(reporter: Reporter) -> None:
    assert reporter.statuses(reporter.event(quantity=0)) == ["accepted"]
    assert reporter.total() == 0
    assert UsageEvent.objects.count() == 1


def test_a_full_batch_is_taken_and_its_repeat_gives_duplicates(reporter: Reporter) -> None:
    batch = [reporter.event(f"n{n}", quantity="1") for n in range(1_000)]
    assert set(reporter.statuses(*batch)) == {"accepted"}
    assert set(reporter.statuses(*batch)) == {"duplicate"}
    assert reporter.total() == 1_000
    assert set(reporter.statuses(*batch)) == {"duplicate"}
    assert reconcile(at=now()).is_equal


def test_of_fifty_at_once_with_one_id_one_is_taken(reporter: Reporter) -> None:
    def send(number: int) -> str:
        try:
            return reporter.statuses(reporter.event(quantity=str(number)))[0]
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(pool.map(send, range(1, 51)))
    assert statuses == {"accepted": 1, "duplicate": 49}
    (event,) = reporter.stream()
    assert reporter.total() == Decimal(event["qty"])


# --- what is not -------------------------------------------------------------------------------------------------


def _days(days: float) -> str:
    return (now() + timedelta(days=days)).isoformat()


REJECTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no id": ({"idempotency_key": None}, "required", "idempotency_key"),
    "empty id": ({"idempotency_key": ""}, "blank", "idempotency_key"),
    "long id": ({"idempotency_key": "x" * 201}, "max_length", "idempotency_key"),
    "NUL in the id": ({"idempotency_key": "a\0b"}, "null_characters_not_allowed", "idempotency_key"),
    "id is a list": ({"idempotency_key": ["a"]}, "invalid", "idempotency_key"),
    "no organization": ({"organization": None}, "required", "organization"),
    "unknown organization": ({"organization": "org_nobody"}, "unknown_organization", "organization"),
    "NUL in the organization": ({"organization": "org\0"}, "null_characters_not_allowed", "organization"),
    "no meter": ({"meter": None}, "required", "meter"),
    "unknown meter": ({"meter": "smiles"}, "unknown_meter", "meter"),
    "no quantity": ({"quantity": None}, "required", "quantity"),
    "negative": ({"quantity": "-1"}, "min_value", "quantity"),
    "not a number": ({"quantity": "many"}, "invalid", "quantity"),
    "NaN": ({"quantity": "NaN"}, "invalid", "quantity"),
    "infinite": ({"quantity": "Infinity"}, "invalid", "quantity"),
    "a fraction of a call": ({"quantity": "0.5"}, "too_many_decimals", "quantity"),
    "more decimals than any meter": ({"quantity": "0.0000000000001"}, "max_decimal_places", "quantity"),
    "more than can be counted": ({"quantity": str(2**53)}, "out_of_range", "quantity"),
    "a huge exponent": ({"quantity": "1e999999"}, "max_digits", "quantity"),
    "no time": ({"time": "yesterday"}, "invalid", "time"),
    "future": ({"time": _days(1)}, "in_future", "time"),
    "too old": ({"time": _days(-101)}, "too_old", "time"),
    "before the subscription": ({"time": _days(-30)}, "before_subscription", "time"),
    "other name of time": ({"occurred_at": _days(1)}, "in_future", "occurred_at"),
    "both names of time": ({"time": _days(0), "occurred_at": _days(0)}, "given_twice", "time"),
    "unknown field": ({"timestamp": _days(0)}, "unknown_field", "timestamp"),
    "unknown mode": ({"mode": "dry"}, "invalid_choice", "mode"),
    "properties are a list": ({"properties": [1]}, "not_a_dict", "properties"),
    "properties too large": ({"properties": {"a": "x" * 2_048}}, "too_large", "properties"),
    "NUL in properties": ({"properties": {"a": ["b\0"]}}, "not_storable", "properties"),
    "NUL in a name": ({"properties": {"a\0": 1}}, "not_storable", "properties"),
    "nested deeply": (
        {"properties": json.loads('{"a":' * 300 + "1" + "}" * 300)},
        "not_storable",
        "properties",
    ),
    "a number of too many digits": ({"properties": {"a": 10**30}}, "not_storable", "properties"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_rejection_names_the_field_and_leaves_the_others_alone(reporter: Reporter, case: str) -> None:
    changes, code, field = REJECTED[case]

    body = json.dumps({"events": [reporter.event("good"), reporter.event(**changes)]}).encode()
    answer = reporter.post(body)
    assert answer.status_code == 200, answer.content
    good, bad = orjson.loads(answer.content)["events"]
    assert good["status"] == "accepted"
    assert bad == {"status": "rejected", "code": code, "field": field}
    assert reporter.total() == 3


def test_half_of_a_surrogate_pair_is_rejected_not_a_fault(reporter: Reporter) -> None:
    event = orjson.dumps(reporter.event("SURROGATE", properties={"a": "b"}))
    for broken in (event.replace(b"SURROGATE", rb"\ud800"), event.replace(b'"b"', rb'"\ud800"')):
        answer = reporter.post(broken)
        assert answer.status_code == 200, answer.content
        assert orjson.loads(answer.content)["rejected"] == 1


def test_too_many_events_are_refused_as_a_whole(reporter: Reporter) -> None:
    batch = [reporter.event(f"n{n}") for n in range(1_001)]
    document = problem(reporter.post({"events": batch}), 413, "validation_error")
    assert "1000" in document["detail"]
    assert reporter.stream() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"null", b'{"events": []}', b'{"events": 3}', b"\xff\xfe", b"[" * 100_000],
)
def test_a_body_that_is_no_batch_is_one_problem(reporter: Reporter, body: bytes) -> None:
    problem(reporter.post(body), 400, "parse_error")


def test_a_body_that_is_too_large_is_not_read(reporter: Reporter, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    assert reporter.statuses(reporter.event()) == ["accepted"]
    problem(reporter.post(b"{" + b" " * 1_000 + b"}"), 413, "body_too_large")


def test_another_media_type_is_not_understood(reporter: Reporter) -> None:
    answer = Client().post(TRACK, {"a": "b"}, headers={"Authorization": f"Bearer {OWNER}"})
    problem(answer, 415, "unsupported_media_type")


def test_only_posting_is_possible(reporter: Reporter) -> None:
    problem(Client().get(TRACK, headers={"Authorization": f"Bearer {OWNER}"}), 405, "method_not_allowed")


def test_without_an_owner_key_nothing_is_taken(reporter: Reporter) -> None:
    problem(reporter.post(reporter.event(), key=""), 401, "missing_key")
    problem(reporter.post(reporter.event(), key="wrong"), 401, "invalid_key")
    assert reporter.stream() == []


# --- servers that are away ---------------------------------------------------------------------------------------


def test_without_redis_the_batch_is_to_be_sent_again(reporter: Reporter, settings: Any) -> None:
    address, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    problem(reporter.post(reporter.event()), 503, "metering_unavailable")
    settings.REDIS_URL = address
    assert reporter.statuses(reporter.event()) == ["accepted"]
    assert reporter.total() == 3


@pytest.mark.parametrize("at_query", [1, 2, 3, 4])
def test_without_postgres_nothing_of_the_batch_is_half_done(reporter: Reporter, at_query: int) -> None:
    batch = {"events": [reporter.event("a"), reporter.event("b")]}
    queries = count(1)

    def goes_away(execute: Any, *args: Any) -> Any:
        if next(queries) >= at_query:
            raise OperationalError("the server is away")
        return execute(*args)

    with connection.execute_wrapper(goes_away):
        problem(reporter.post(batch), 503, "unavailable")
    assert reporter.stream() == []
    assert reporter.statuses(*batch["events"]) == ["accepted", "accepted"]
    assert reporter.total() == 6


def test_what_one_shard_took_before_another_failed_is_a_duplicate_of_the_retry(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Reporter(create_organization(plan="free", shard=18, at=now() - timedelta(days=1)))
    batch, track, shards = [reporter.event(), other.event()], Engine.track, count(1)

    def second_fails(engine: Engine, shard: int, events: Any) -> Any:
        if next(shards) == 2:
            raise MeteringUnavailable
        return track(engine, shard, events)

    monkeypatch.setattr(Engine, "track", second_fails)
    problem(reporter.post({"events": batch}), 503, "metering_unavailable")
    assert reporter.statuses(*batch) == ["duplicate", "accepted"]
    assert reporter.total() == other.total() == 3


def test_an_organization_that_redis_lost_is_told_apart(reporter: Reporter) -> None:
    usage_redis().delete(organization_key(reporter.organization.shard, reporter.organization.pk))
    answer = reporter.post(reporter.event())
    assert (answer.status_code, answer.json()["code"]) == (503, "metering_unavailable")  # a retry records it
    assert reporter.stream() == []


# --- bodies that no reader should trust ----------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["", "quantity", "mode", "time", "properties", "idempotency_key"])
@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_deep_nesting_is_the_callers_error(reporter: Reporter, field: str, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    event = orjson.dumps(reporter.event(**({field: None} if field else {})))
    body = event[:-1] + b',"%s":' % field.encode() + nested + b"}" if field else nested
    answer = reporter.post(body)
    assert answer.status_code in (200, 400), answer.content
    assert answer.status_code == 400 or orjson.loads(answer.content)["rejected"] == 1
    assert not reporter.stream()


def test_an_event_reads_the_periods_around_its_time_only(reporter: Reporter) -> None:
    first = current_period(reporter.organization, at=now())
    roll_periods(at=first.ends_at + timedelta(days=65))
    assert Period.objects.for_organization(reporter.organization).count() >= 3
    moment = first.ends_at + timedelta(days=64)
    named = Reported(organization=reporter.organization.public_id, meter="api_calls", occurred_at=moment)
    (held,) = _Books([named], moment).periods.values()
    assert [p.starts_at <= moment < p.ends_at for p in held] == [True]


def test_a_huge_body_is_refused_before_it_is_read(reporter: Reporter, live_server: Any) -> None:
    """Over a real connection: 300 MB are announced, none are sent, and the answer comes."""
    where = live_server.thread
    with socket.create_connection((where.host, where.port), timeout=10) as line:
        line.sendall(
            f"POST {TRACK} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OWNER}\r\n"
            "Content-Type: application/json\r\nContent-Length: 300000000\r\n\r\n{".encode()
        )
        assert line.recv(64).split()[1] == b"413"
