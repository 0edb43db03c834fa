from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from django.test import Client
from django.urls import reverse

from core.clock import now
from core.redis import usage_redis
from core.redis_layout import stream_key
from metering import ledger as store
from metering.dead_letters import ReplayRefused, replay_dead_letter
from metering.drain import drain_all
from metering.models import DeadLetter, UsageEvent
from metering.rebuild import rebuild_counters
from metering.reconcile import reconcile
from tests.factories import create_user
from tests.metering.ledger_kit import Ledger, now_us

TOO_LONG_DOOR = "x" * 9


def changed(ledger: Ledger, **values: object) -> bytes:
    """A good event with some of its JSON replaced; None removes."""
    event = orjson.loads(ledger.event(now_us()).to_json()) | values
    return orjson.dumps({name: value for name, value in event.items() if value is not None})


BAD = {
    "not JSON": (b"{", "not JSON"),
    "not an object": (b"[1]", "not an object"),
    "empty": (b"", "not JSON"),
    "not UTF-8": (b'{"id": "\xff"}', "not JSON"),
    "no id": ({"id": None}, "id"),
    "id of another kind": ({"id": "17"}, "id"),
    "organization as text": ({"org": "northwind"}, "org"),
    "organization out of range": ({"org": str(2**63)}, "org"),
    "unknown mode": ({"mode": "prod"}, "mode"),
    "quantity not a number": ({"qty": "NaN"}, "qty"),
    "quantity infinite": ({"qty": "Infinity"}, "qty"),
    "quantity a float": ({"qty": 1.5}, "qty"),
    "quantity too large": ({"qty": "1" + "0" * 26}, "qty"),
    "quantity too fine": ({"qty": "0." + "0" * 12 + "1"}, "qty"),
    "quantity negative": ({"qty": "-1"}, "qty"),
    "time as text": ({"at": "yesterday"}, "at"),
    "time of another age": ({"at": 86_400_000_000}, "at"),
    "time of a broken clock": ({"at": 4_000_000_000_000_000}, "at"),
    "NUL in a text": ({"src": "a\0b"}, "src"),
    "door too long": ({"door": TOO_LONG_DOOR}, "door"),
    "status out of range": ({"status": 70_000}, "status"),
    "duration negative": ({"dur": -5}, "dur"),
    "properties not an object": ({"props": [1]}, "props"),
    "properties too large": ({"props": {"a": "x" * 3000}}, "props"),
    "NUL in properties": ({"props": {"a": "x\0y"}}, "unsupported Unicode escape sequence"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_entry_becomes_a_dead_letter_and_its_neighbours_are_stored(ledger: Ledger, name: str) -> None:
    bad, reason = BAD[name]
    ledger.call()
    entry = ledger.append(bad if isinstance(bad, bytes) else changed(ledger, **bad))
    ledger.call()
    drained = drain_all(at=now())
    letter = DeadLetter.objects.get()
    assert (drained.stored, drained.dead, ledger.stream_length()) == (2, 1, 0)
    assert reason in letter.reason
    assert (letter.stream_id, letter.shard, letter.seq) == (entry.decode(), 17, 2)


def test_an_entry_without_a_number_is_a_dead_letter_too(ledger: Ledger) -> None:
    for fields in ({"e": ledger.event(now_us()).to_json()}, {"x": "y"}, {"e": "{}", "q": "abc:x1"}):
        usage_redis().xadd(stream_key(17), fields)  # type: ignore[arg-type]
    drain_all(at=now())
    assert set(DeadLetter.objects.values_list("reason", "epoch", "seq")) == {("q: not epoch:number", "", 0)}


def test_what_only_the_database_refuses_is_found_by_halving(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    real = store._store

    def counting(shard: int, entries: list[object], uncounted: object) -> object:
        batches.append(len(entries))
        return real(shard, entries, uncounted)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_store", counting)
    for number in range(40):
        ledger.append(replace(ledger.event(now_us()), properties={"a": "x\0" if number in (7, 31) else "x"}))
    drained = drain_all(at=now())
    assert (drained.stored, drained.dead) == (38, 2)
    assert len(batches) < 30
    assert {letter.seq for letter in DeadLetter.objects.all()} == {8, 32}


def test_a_total_that_would_overflow_buries_the_event_that_does_it(ledger: Ledger) -> None:
    huge = Decimal("99999999999999999999999999")
    for quantity in (huge, huge, Decimal(1)):
        ledger.append(ledger.event(now_us(), quantity=quantity))
    drained = drain_all(at=now())
    assert (drained.stored, drained.dead) == (1, 2)
    assert "overflow" in DeadLetter.objects.all()[0].reason


def test_a_dead_letter_delivered_again_is_kept_once(ledger: Ledger) -> None:
    ledger.append(b"{")
    ((name, fields),) = usage_redis().xrange(stream_key(17))  # type: ignore[misc,union-attr]
    drain_all(at=now())
    usage_redis().delete(stream_key(17))
    usage_redis().xadd(stream_key(17), fields, id=name)
    drain_all(at=now())
    assert DeadLetter.objects.count() == 1


def test_a_mended_letter_is_replayed_once_under_its_own_number(ledger: Ledger) -> None:
    good = ledger.event(now_us(), quantity=Decimal(3))
    usage_redis().hincrby(ledger.usage_key, str(ledger.meter.pk), 3)
    ledger.append(good.to_json().replace(b'"live"', b'"life"'))
    drain_all(at=now())
    letter = DeadLetter.objects.get()
    with pytest.raises(ReplayRefused, match="mode"):
        replay_dead_letter(letter=letter, at=now())
    for _ in range(2):
        replay_dead_letter(letter=letter, at=now(), payload=good.to_json().decode())
    row = UsageEvent.objects.get()
    assert (row.id, row.seq, ledger.counter()) == (good.id, 1, 3)
    assert reconcile(at=now()).is_equal


def test_a_letter_replayed_after_a_rebuild_is_told_to_the_counters(ledger: Ledger) -> None:
    good = ledger.event(now_us(), quantity=Decimal(3))
    ledger.append(good.to_json().replace(b'"live"', b'"life"'))
    drain_all(at=now())
    usage_redis().flushdb()
    rebuild_counters(at=now())
    replay_dead_letter(letter=DeadLetter.objects.get(), at=now(), payload=good.to_json().decode())
    assert ledger.counter() == 3
    assert reconcile(at=now()).is_equal


def test_a_replay_that_the_database_refuses_says_why(ledger: Ledger) -> None:
    ledger.append(changed(ledger, props={"a": "x\0y"}))
    drain_all(at=now())
    with pytest.raises(ReplayRefused, match="Unicode"):
        replay_dead_letter(letter=DeadLetter.objects.get(), at=now())
    assert DeadLetter.objects.get().replayed_at is None


def test_staff_see_and_replay_dead_letters_in_the_admin(ledger: Ledger) -> None:
    good = ledger.event(now_us())
    for payload in (b"{", good.to_json().replace(b'"live"', b'"life"')):
        ledger.append(payload)
    drain_all(at=now())
    mendable = DeadLetter.objects.get(seq=2)
    DeadLetter.objects.filter(pk=mendable.pk).update(payload=good.to_json().decode())
    client = Client()
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    address = reverse("admin:metering_deadletter_changelist")
    assert "e: not JSON" in client.get(address).content.decode()
    chosen = {"action": "replay", "_selected_action": list(DeadLetter.objects.values_list("pk", flat=True))}
    said = client.post(address, chosen, follow=True).content.decode()
    assert "1 replayed." in said
    assert UsageEvent.objects.get().id == UUID(str(good.id))
    assert client.get(reverse("admin:metering_deadletter_add")).status_code == 403


def test_staff_mend_a_dead_letter_by_saving_it(ledger: Ledger) -> None:
    ledger.append(changed(ledger, qty="-1"))
    drain_all(at=now())
    letter = DeadLetter.objects.get()
    client = Client()
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    page = reverse("admin:metering_deadletter_change", args=[letter.pk])
    refused = client.post(page, {"payload": letter.payload})
    assert "qty" in refused.content.decode()
    assert client.post(page, {"payload": letter.payload.replace('"-1"', '"2"')}).status_code == 302
    letter.refresh_from_db()
    assert letter.replayed_at is not None
    assert UsageEvent.objects.filter(quantity=2).count() == 1
    assert 'name="payload"' not in client.get(page).content.decode()
