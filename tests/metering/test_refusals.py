import pytest

from core.redis import usage_redis
from core.redis_layout import refusals_key, shard_key
from metering import refusals
from metering.engine import Engine
from metering.models import RefusalCount
from metering.refusals import drain_refusals
from tests.metering.ledger_kit import Ledger


def this_minute() -> int:
    return int(usage_redis().time()[0]) // 60


def test_refusals_become_rows_by_minute_and_reason(ledger: Ledger) -> None:
    org_id, key_id = ledger.organization.pk, ledger.key.pk
    Engine().record_refusal(17, org_id, "live", key_id, "rate_limited", 3)
    Engine().record_refusal(17, org_id, "live", key_id, "quota_exceeded")
    assert drain_refusals() >= 2
    rows = RefusalCount.objects.for_organization(ledger.organization).order_by("-count")
    assert list(rows.values_list("reason", "count", "api_key_id")) == [
        ("rate_limited", 3, key_id),
        ("quota_exceeded", 1, key_id),
    ]
    assert rows[0].minute.second == 0


def test_each_refusal_counts_once_however_often_the_drain_runs_or_dies(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    org_id = ledger.organization.pk
    minute = this_minute()
    _refuse(minute - 1, org_id, 5)
    _refuse(minute, org_id, 2)
    with monkeypatch.context() as patch:
        patch.setattr(refusals, "_store", _store_and_die)
        with pytest.raises(KeyboardInterrupt):
            drain_refusals()
    drain_refusals()
    _refuse(minute, org_id, 1)
    drain_refusals()
    assert sorted(RefusalCount.objects.values_list("count", flat=True)) == [3, 5]


def test_finished_minutes_are_deleted_from_redis_and_the_present_one_is_kept(ledger: Ledger) -> None:
    minute = this_minute()
    _refuse(minute - 3, ledger.organization.pk, 1)
    _refuse(minute, ledger.organization.pk, 1)
    drain_refusals()
    assert not usage_redis().exists(refusals_key(17, minute - 3))
    assert usage_redis().exists(refusals_key(17, minute)) or this_minute() > minute


def test_minutes_before_a_long_stop_are_found(ledger: Ledger) -> None:
    minute = this_minute()
    usage_redis().hset(shard_key(17), "refusals", str(minute - 3000))
    _refuse(minute - 2999, ledger.organization.pk, 4)
    drain_refusals()
    assert RefusalCount.objects.get().count == 4


def _refuse(minute: int, org_id: int, times: int) -> None:
    usage_redis().hincrby(refusals_key(17, minute), f"{org_id}:live:7:rate_limited", times)


_real_store = refusals._store


def _store_and_die(found: object) -> int:
    _real_store(found)  # type: ignore[arg-type]
    raise KeyboardInterrupt
