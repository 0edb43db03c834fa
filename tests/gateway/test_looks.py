"""Questions that are made ready are answered as in the general form, byte for byte, and only while what they were made from holds."""

import socket
import struct
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.clock import now
from gateway.caller import Callers
from gateway.decisions import Asked, allowed, standing
from gateway.looks import LONGEST_BODY, Look, Looks
from gateway.owners import OwnersShelf
from gateway.problems import NOT_FOUND
from gateway.routes import RouteTable
from gateway.snapshot import Catalogue, Followed
from keys.hashing import digest, make_key
from keys.limits import CallLimits, ScopedWindow
from keys.records import KeyRecord
from keys.services import revoke_key
from metering.admission import Target, admission
from metering.answers import Refusal
from metering.calls import Admitted
from metering.script_calls import window_rules
from metering.verifying import look_call
from plans.door import FOREVER_US, Span
from plans.models import Meter
from tests.gateway.kit import SLUG, Customer, Shop
from tests.gateway.records import record
from tests.gateway.test_verify import OWNER, PATH, ask, decision, send

USUAL, GENERAL = "keep-alive", "X-Unusual, keep-alive"
NOW = 1_790_000_000_123_456
SPAN = Span(0, FOREVER_US, 7, "")
ASKED = Asked(Target(1, 2, 3, 1, Decimal(1)), Meter(pk=3, slug="calls", decimals=0))
OF_UNITS = CallLimits(
    everywhere=(
        ScopedWindow("units:calls", 60, 9_000, "units", "unit_rate_limited", 3),
        ScopedWindow("model:7", 60, 9, "calls", "model_rate_limited"),
    )
)
sizes = st.integers(1, 2**32 - 1)
windows = st.lists(st.tuples(st.sampled_from([1, 60, 86_400]), sizes), max_size=3).map(tuple)
METERS = [None, *(Meter(pk=3, slug="calls", decimals=decimals) for decimals in range(10))]


def make_look(known: KeyRecord, span: Span = SPAN, asked: Asked = ASKED, key: bytes = b"hash") -> Look:
    request = admission(known, span, asked.target, nonce=0)
    return Look(key, known, span, asked, request, standing(known, span))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(
    windows=windows, key_windows=windows.map(lambda found: found[:1]), meter=st.sampled_from(METERS), quota=st.none() | st.integers(0, 2**53 - 1),
    units=st.integers(0, 1000), limits=st.sampled_from([None, OF_UNITS]), name=st.text(max_size=9), used=st.integers(1000, 2**53 - 1),
    states=st.lists(st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 90_000)), min_size=6, max_size=6),
)  # fmt: skip
def test_the_text_is_that_of_the_general_form(
    windows: Any, key_windows: Any, meter: Meter | None, quota: int | None, units: int,
    limits: CallLimits | None, name: str, used: int,
    states: list[tuple[int, int]],
) -> None:  # fmt: skip
    known = replace(
        record(),
        windows=windows,
        key_windows=key_windows,
        limits=limits,
        organization_name=name,
        key_name="100%d",
    )
    span = replace(SPAN, quotas=() if quota is None else ((3, quota),))
    used = used if quota is None else min(used, quota)
    asked = Asked(Target(1, 2, 3 if meter else 0, min(units, used), Decimal(1)), meter)
    look = make_look(known, span, asked)
    numbers = [number for state in states[: len(window_rules(look.request))] for number in state]
    reply = struct.pack(f">{2 + len(numbers)}Q", NOW, used, *numbers) + b"epoch"

    answer = look_call(look.request).parse(reply).answer
    assert isinstance(answer, Admitted)
    general = allowed(answer, standing(known, span), meter) | {"request_id": "req_1"}
    assert look.write(reply, "req_1") == orjson.dumps(general)


KEY = make_key("live")
BODY = orjson.dumps({"key": KEY})


class Records(Callers):
    """A cache that a test fills."""

    def put(self, known: KeyRecord, *, age_s: float = 0) -> KeyRecord:
        self._records[digest(KEY)] = (time.monotonic() - age_s, known)
        return known


@pytest.fixture
def callers() -> Records:
    return Records()


def make_looks(callers: Records, asked: Asked | Refusal = ASKED) -> Looks:
    catalogue, shelf = Catalogue(), Followed(OwnersShelf, OwnersShelf())
    catalogue.is_loaded = shelf.is_loaded = True
    return Looks(catalogue, callers, shelf, look_up=lambda question: asked)


@pytest.fixture
def looks(callers: Records) -> Looks:
    return make_looks(callers)


OPEN = replace(record(), spans=(SPAN,))


def test_questions_that_mean_the_same_share_what_is_ready(looks: Looks, callers: Records) -> None:
    callers.put(OPEN)
    look = looks.find(BODY)

    assert look is not None
    assert look.record is OPEN
    assert looks.find(BODY) is look
    assert looks.find(orjson.dumps({"key": KEY, "address": "192.0.2.1"})) is look


def test_another_record_makes_it_void(looks: Looks, callers: Records) -> None:
    callers.put(OPEN)
    first = looks.find(BODY)
    newer = callers.put(replace(OPEN, version=2))
    second = looks.find(BODY)

    assert first is not second
    assert second is not None
    assert second.record is newer


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", orjson.dumps({"key": "nonsense"}), orjson.dumps({"key": KEY, "odd": "1"}),
     orjson.dumps({"key": KEY, "meter": "calls", "charge": "1"}), orjson.dumps({"key": make_key("live")})],
    ids=["nothing", "cut", "a list", "no key", "no such form", "an odd field", "a charge", "another key"],
)  # fmt: skip
def test_what_has_to_be_explained_or_charged_is_for_the_general_way(
    looks: Looks, callers: Records, body: bytes
) -> None:
    callers.put(OPEN)
    assert looks.find(body) is None


def test_an_outlived_or_revoked_record_is_for_the_general_way(looks: Looks, callers: Records) -> None:
    callers.put(OPEN)
    assert looks.find(BODY)
    callers.put(OPEN, age_s=61)
    assert looks.find(BODY) is None
    callers.put(replace(OPEN, revoked=True))
    assert looks.find(BODY) is None


def test_the_end_of_a_span_or_of_the_key_is_for_the_general_way(
    looks: Looks, callers: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_us = NOW
    monkeypatch.setattr("gateway.looks.time.time_ns", lambda: at_us * 1000)
    callers.put(replace(OPEN, spans=(replace(SPAN, end_us=NOW + 5),)))
    assert looks.find(BODY)
    at_us += 5
    assert looks.find(BODY) is None
    callers.put(replace(OPEN, expires_at_us=at_us + 5))
    assert looks.find(BODY)
    at_us += 5
    assert looks.find(BODY) is None


def test_who_may_not_is_for_the_general_way(callers: Records) -> None:
    callers.put(replace(OPEN, scopes=frozenset({"product:other"})))
    assert make_looks(callers, replace(ASKED, product="places")).find(BODY) is None
    assert make_looks(callers, NOT_FOUND).find(BODY) is None


def test_a_call_that_is_larger_than_a_limit_is_for_the_general_way(
    looks: Looks, callers: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers.put(OPEN)
    monkeypatch.setattr("gateway.looks.never_fits", lambda request: True)
    assert looks.find(BODY) is None


def test_another_catalogue_or_shelf_makes_all_void(looks: Looks, callers: Records) -> None:
    callers.put(OPEN)
    first = looks.find(BODY)
    looks._catalogue.value = RouteTable()
    second = looks.find(BODY)
    looks._shelf.value = OwnersShelf()
    third = looks.find(BODY)

    assert len({id(first), id(second), id(third)}) == 3


def test_the_rooms_are_bounded(looks: Looks, callers: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.looks.ROOM", 2)
    callers.put(OPEN)
    for number in range(4):
        assert looks.find(orjson.dumps({"key": KEY, "address": f"{number}"}))
    assert looks.find(orjson.dumps({"key": KEY, "path": "/" + "a" * LONGEST_BODY, "product": "places"}))
    assert [orjson.loads(body).get("address") for body in looks._by_body] == ["2", "3"]
    assert len(looks._by_meaning) == 1


def test_who_may_ask_is_remembered_only_for_this_shelf(callers: Records) -> None:
    shelf = Followed(OwnersShelf, OwnersShelf({digest("one"): True, digest("two"): False}))
    looks = Looks(Catalogue(), callers, shelf, look_up=lambda question: ASKED)
    assert not looks.may_ask(b"Bearer one")  # nothing is known before the first reading
    shelf.is_loaded = True
    assert [looks.may_ask(b"Bearer " + key) for key in (b"one", b"two", b"three")] == [True, False, False]
    shelf.value = OwnersShelf({digest("two"): True})
    assert [looks.may_ask(b"Bearer " + key) for key in (b"one", b"two")] == [False, True]


def test_a_shelf_whose_meters_changed_is_another_one() -> None:
    def shelf(decimals: int) -> OwnersShelf:
        meter = Meter(pk=3, slug="calls", decimals=decimals)
        return OwnersShelf({}, {"calls": meter}, {3: meter}, [{"id": 3, "decimals": decimals}])

    assert shelf(0) == shelf(0)
    assert shelf(0) != shelf(2)


# --- through a gateway ------------------------------------------------------------------------------------------------


def document(
    shop: Shop, customer: Customer, connection: str, **question: str
) -> tuple[int, dict[str, str], Any]:
    body = orjson.dumps({"key": customer.issued.clear} | question)
    answer = send(shop, body, Connection=connection)
    headers = {n: v for n, v in answer.headers.items() if n not in ("date", "x-request-id", "content-length")}
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    return answer.status, headers, _timeless(answer.json)


def _timeless(value: Any) -> Any:
    """Without what differs from one second to the next."""
    if isinstance(value, dict):
        fields = {n: _timeless(v) for n, v in value.items()}
        return {n: v for n, v in fields.items() if n not in ("request_id", "reset_seconds", "retry_after")}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "question",
    [{}, {"meter": "api_calls"}, {"product": SLUG, "path": "/five"}, {"product": SLUG}, {"meter": "api_calls", "units": "9"}],
)  # fmt: skip
def test_both_ways_say_the_same(shop: Shop, question: dict[str, str]) -> None:
    customer = shop.customer(per_minute=3, included=Decimal(7), key={"calls_per_minute": 60})
    for _ in range(4):
        first = document(shop, customer, GENERAL, **question)
        assert document(shop, customer, USUAL, **question) == first
        assert document(shop, customer, USUAL, **question) == first
        customer.call()
    assert first[2]["code"] == "rate_limited"


def test_what_changed_is_known_to_the_next_question(shop: Shop) -> None:
    customer = shop.customer()
    assert [decision(ask(shop, customer))[0] for _ in range(3)] == [True] * 3
    revoke_key(key=customer.issued.key, by=None, at=now())
    assert decision(ask(shop, customer)) == (False, "invalid_key", 401)


def test_pieces_and_rows_of_questions_are_answered_in_order(shop: Shop) -> None:
    customer = shop.customer()
    assert decision(ask(shop, customer))[0]
    body = orjson.dumps({"key": customer.issued.clear})
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OWNER}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
    ).encode()
    last = head + b"Connection: close\r\n\r\n" + body
    parts = urlsplit(shop.gateway.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as client:
        client.settimeout(10)
        client.sendall(head + b"\r\n" + body[:5])
        time.sleep(0.1)
        client.sendall(body[5:] + (head + b"\r\n" + body) * 2 + last)
        received = b""
        while piece := client.recv(65_536):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count(b'{"allowed":true') == 4
    assert b"connection: close" in received.rpartition(b"HTTP/1.1")[2]
