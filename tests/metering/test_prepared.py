"""Prepared calls are the general ones, byte for byte; and no settle of theirs is lost."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.ids import NONCE_BITS
from core.redis_layout import stream_key
from core.redis_loop import LoopPipeline, pack
from gateway.headers import encoded
from gateway.recorder import Recorder
from keys.limits import CallLimits, ScopedWindow
from keys.records import KeyRecord
from metering.admission import Outcome, Target, admission, call_event
from metering.answers import admitted_headers
from metering.calls import Admitted, NoState, Refused, Settlement, Stale
from metering.engine import AsyncEngine
from metering.prepared import Passed, PreparedCall, PreparedCalls
from metering.prepared_parts import cut, nonce_text
from metering.script_calls import Call, admit_call, parse_admission, settle_call, window_rules
from metering.scripts import script
from plans.cap_table import MeterTable, Segment, SpendLimit
from plans.door import FOREVER_US, Span
from tests.metering.engine_kit import METER, ORG, SHARD, counters, open_organization

CAP = SpendLimit(1_000_000, (MeterTable(METER, (Segment(0, 0, 10**6, 1),)),))
NOW = 1_790_000_000_123_456
OF_ROUTES = CallLimits(everywhere=(ScopedWindow("route:9", 90, 7, "calls", "route_rate_limited"),))
nonces = st.integers(2 ** (NONCE_BITS - 1), 2**NONCE_BITS - 1)
sizes = st.integers(1, 2**32 - 1)
windows = st.lists(st.tuples(st.sampled_from([1, 60, 90, 3600, 86_400]), sizes), max_size=3).map(tuple)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def make_record(**changes: Any) -> KeyRecord:
    values: dict[str, Any] = {
        "key_id": 40, "key_public_id": "key_5", "key_name": "production", "mode": "live", "organization_id": ORG,
        "organization_public_id": "org_7", "organization_name": "Acme", "shard": SHARD, "version": 3, "plan_slug": "pro",
        "plan_name": "Pro", "features": frozenset(), "scopes": frozenset(), "windows": ((60, 10),), "key_windows": (),
        "spans": (), "revoked": False, "expires_at_us": None,
    }  # fmt: skip
    return KeyRecord(**values | changes)


def make_span(**changes: Any) -> Span:
    values: dict[str, Any] = {"start_us": 0, "end_us": FOREVER_US, "period_id": 7, "refusal": ""}
    return Span(**values | changes)


TARGET = Target(1, 2, METER, 1, Decimal(1))
records = st.builds(
    make_record, key_id=sizes, mode=st.sampled_from(["live", "test"]), organization_id=sizes, shard=st.integers(0, 63),
    version=st.integers(0, 2**53 - 1), windows=windows, key_windows=windows.map(lambda found: found[:1]),
    concurrency=st.integers(-1, 1000), limits=st.sampled_from([None, OF_ROUTES]),
)  # fmt: skip
spans = st.builds(
    make_span, start_us=st.integers(0, NOW), end_us=st.integers(NOW + 1, FOREVER_US), period_id=sizes,
    refusal=st.sampled_from(["", "suspended"]), quotas=st.sampled_from([(), ((METER, 0),), ((METER, 2**53 - 1), (9, 1))]),
    warning=st.sampled_from(["", "payment_past_due"]), spend=st.sampled_from([None, CAP]),
)  # fmt: skip
targets = st.builds(
    Target, product_id=sizes, route_id=sizes, meter_id=st.sampled_from([METER, 3]), units=st.integers(0, 2**53 - 1),
    quantity=st.decimals(min_value=0, max_value=10**12, places=9),
)  # fmt: skip


def packed(call: Call[Any]) -> bytes:
    return pack(("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(record=records, span=spans, target=targets, nonce=nonces, event=st.binary(max_size=300))
def test_prepared_commands_are_the_general_ones(
    record: KeyRecord, span: Span, target: Target, nonce: int, event: bytes
) -> None:
    request, prepared = admission(record, span, target, nonce=nonce), PreparedCall(record, span, target)
    passed = Passed(prepared, nonce, b"", (NOW,))

    assert prepared.admit_command(nonce) == packed(admit_call(request))
    assert passed.request == request
    assert passed.reservation == request.reservation
    for is_billed in (True, False):
        settlement = Settlement.of(request, units=target.units if is_billed else 0, event=event)
        assert passed.settle_command(event, is_billed=is_billed) == packed(settle_call(settlement))
        assert passed.settlement(event, is_billed=is_billed) == settlement


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(
    record=records, span=spans, target=targets, nonce=nonces, at_us=st.integers(0, FOREVER_US),
    numbers=st.tuples(st.integers(100, 999), *[st.integers(0, 2**63 - 1)] * 3), reason=st.just("") | texts,
    request_id=texts, door=st.sampled_from(["gateway", "forward_auth"]),
)  # fmt: skip
def test_prepared_events_are_the_general_ones(
    record: KeyRecord, span: Span, target: Target, nonce: int, at_us: int, numbers: tuple[int, int, int, int], reason: str,
    request_id: str, door: str,
) -> None:  # fmt: skip
    prepared = PreparedCall(record, span, target, door=door)
    passed = Passed(prepared, nonce, b"", (at_us,))
    status, duration_us, bytes_in, bytes_out = numbers
    answer = Admitted(at_us, passed.event_id, passed.nonce, "e", 1, (), None)
    general = call_event(
        record, passed.request, target, Outcome(status, reason, duration_us, bytes_in, bytes_out), admitted=answer, door=door,
        request_id=request_id,
    )  # fmt: skip

    assert passed.event(status, duration_us, bytes_in, bytes_out, reason, request_id) == general.to_json()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(
    record=records, span=spans, nonce=nonces, is_packed=st.booleans(), used=st.integers(0, 2**53 - 1),
    states=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 90_000)), min_size=5, max_size=5),
)  # fmt: skip
def test_prepared_headers_are_the_general_ones(
    record: KeyRecord, span: Span, nonce: int, is_packed: bool, used: int, states: list[tuple[int, int]]
) -> None:
    prepared = PreparedCall(record, span, TARGET)
    count = len(window_rules(prepared.request))
    numbers = [n for state in states[:count] for n in state]
    table = [b"OK", NOW, b"epoch", b"", -1, 0, 1, used, *numbers]
    packed_reply = struct.pack(f">{2 + len(numbers)}Q", NOW, used, *numbers) + b"epoch"
    passed = prepared.read(nonce, packed_reply if is_packed else table)
    assert isinstance(passed, Passed)
    answer = parse_admission(passed.request, table)

    assert passed.answer == answer
    assert passed.numbers == (NOW, used, *numbers)
    general = admitted_headers(passed.answer)
    general += [("Farebox-Warning", span.warning)] if span.warning else []
    assert passed.rate_headers() == encoded(general)
    assert passed.rate_lines() == b"".join(b"%b: %b\r\n" % line for line in encoded(general))


def test_a_nonce_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="nonce"):
        nonce_text(2 ** (NONCE_BITS - 3))


def test_a_mark_that_is_not_unique_is_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        cut(Call(script("cut"), ["mark", "mark"], [], bool), b"mark")
    with pytest.raises(ValueError, match="another order"):
        cut(Call(script("cut"), ["other", "mark"], [], bool), b"mark", b"other")


def test_what_was_replaced_is_not_found() -> None:
    desk, record, span = PreparedCalls(room=2), make_record(), make_span(start_us=5, end_us=9)
    made = desk.prepare(record, span, TARGET)

    assert desk.find(record, TARGET, 5) is made
    assert desk.find(record, TARGET, 8) is made
    assert desk.find(record, TARGET, 9) is None
    assert desk.find(record, TARGET, 4) is None
    assert desk.find(make_record(), TARGET, 5) is None
    assert desk.find(record, Target(1, 2, METER, 1, Decimal(1)), 5) is None
    assert desk.find(record, Target(1, 3, METER, 1, Decimal(1)), 5) is None


def test_the_room_of_prepared_calls_is_bounded() -> None:
    desk, span, keys = PreparedCalls(room=2), make_span(), [make_record(key_id=n) for n in range(3)]
    for record in keys:
        desk.prepare(record, span, TARGET)

    assert [desk.find(record, TARGET, 0) is None for record in keys] == [True, False, False]


@pytest.fixture
async def engine(usage_redis: "redis.Redis") -> AsyncIterator[AsyncEngine]:
    open_organization(usage_redis)
    engine = AsyncEngine(LoopPipeline(os.environ["REDIS_URL"], timeout=2.0))
    yield engine
    await engine.aclose()


async def admitted(engine: AsyncEngine) -> Passed:
    passed = await PreparedCall(make_record(), make_span(), TARGET).admit(engine)
    assert isinstance(passed, Passed)
    return passed


def events(client: "redis.Redis") -> list[bytes]:
    entries: Any = client.xrange(stream_key(SHARD))
    return [fields[b"e"] for _, fields in entries]


async def test_a_prepared_call_is_admitted_and_settled(
    engine: AsyncEngine, usage_redis: "redis.Redis"
) -> None:
    passed, recorder = await admitted(engine), Recorder(engine)
    recorder.hold(passed)
    assert recorder.holds(passed)
    assert counters(usage_redis) == (0, 1)

    assert await recorder.settle_prepared(passed, b"{}", is_billed=True, unbilled=bytes)
    assert counters(usage_redis) == (1, 0)
    assert events(usage_redis) == [b"{}"]
    assert not recorder.holds(passed)
    assert await recorder.settle_prepared(passed, b"{}", is_billed=True, unbilled=bytes)
    assert counters(usage_redis) == (1, 0)


async def test_what_is_not_admitted_is_answered_in_the_general_form(
    engine: AsyncEngine, usage_redis: "redis.Redis"
) -> None:
    closed = PreparedCall(make_record(), make_span(refusal="suspended"), TARGET)
    assert isinstance(refused := await closed.admit(engine), Refused)
    assert refused.code == "suspended"
    assert isinstance(await PreparedCall(make_record(version=2), make_span(), TARGET).admit(engine), Stale)
    other = PreparedCall(make_record(organization_id=9), make_span(), TARGET)
    assert isinstance(await other.admit(engine), NoState)


async def test_forgotten_scripts_are_loaded_again(engine: AsyncEngine, usage_redis: "redis.Redis") -> None:
    usage_redis.script_flush()
    passed = await admitted(engine)
    usage_redis.script_flush()

    assert await Recorder(engine).settle_prepared(passed, b"{}", is_billed=True, unbilled=bytes)
    assert counters(usage_redis) == (1, 0)


async def test_a_settle_whose_caller_leaves_is_seen_through(
    engine: AsyncEngine, usage_redis: "redis.Redis"
) -> None:
    passed, recorder = await admitted(engine), Recorder(engine)

    async def settle() -> None:
        await recorder.settle_prepared(passed, b"{}", is_billed=True, unbilled=bytes)

    caller = asyncio.create_task(settle())
    await asyncio.sleep(0)
    caller.cancel()
    await recorder.stop()

    assert caller.cancelled()
    assert counters(usage_redis) == (1, 0)
    assert events(usage_redis) == [b"{}"]


async def test_a_settle_that_meets_a_broken_connection_is_repeated(
    engine: AsyncEngine, usage_redis: "redis.Redis"
) -> None:
    passed, recorder = await admitted(engine), Recorder(engine)
    settling = recorder.settle_prepared(passed, b"{}", is_billed=True, unbilled=bytes)
    await engine.aclose()

    assert await settling
    assert counters(usage_redis) == (1, 0)
    assert events(usage_redis) == [b"{}"]


async def test_a_lost_reservation_without_room_is_a_row_of_nothing(
    engine: AsyncEngine, usage_redis: "redis.Redis"
) -> None:
    call = PreparedCall(make_record(), make_span(quotas=((METER, 1),)), TARGET)
    first = await call.admit(engine)
    assert isinstance(first, Passed)
    assert await engine.release(first.reservation)
    assert isinstance(await call.admit(engine), Passed)

    recorded = await Recorder(engine).settle_prepared(first, b"1", is_billed=True, unbilled=lambda: b"0")

    assert not recorded
    assert counters(usage_redis) == (0, 1)
    assert events(usage_redis) == [b"0"]
