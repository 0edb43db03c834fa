"""Calls and events for tests of the ledger: through the engine's own admission and settling, as the doors do it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts.models import Organization
from core.clock import now, to_micros
from core.ids import event_id, new_nonce
from core.redis import usage_redis
from core.redis_layout import shard_key, stream_key, usage_key
from keys.models import ApiKey
from keys.records import KeyRecord, load_record
from metering.calls import Admission, Admitted, Settled, Settlement
from metering.engine import Engine
from metering.events import Event
from plans.models import Meter, Period
from plans.queries import current_period
from tests.factories import create_key, create_meter, create_organization

# What settle does, without its checks: one moment, as every cut must see it.
_APPEND = """
local q = redis.call('HGET', KEYS[1], 'epoch') .. ':' .. redis.call('HINCRBY', KEYS[1], 'seq', 1)
if tonumber(ARGV[3]) > 0 then redis.call('HINCRBY', KEYS[3], ARGV[2], ARGV[3]) end
return redis.call('XADD', KEYS[2], '*', 'e', ARGV[1], 'q', q)
"""


@dataclass
class Ledger:
    """One organization on a paid plan, its live key, and the meter of calls."""

    organization: Organization
    key: ApiKey
    meter: Meter
    record: KeyRecord
    period: Period

    @classmethod
    def start(cls, *, shard: int = 17, plan: str = "starter", at: datetime | None = None) -> "Ledger":
        moment = at or now() - timedelta(days=1)
        organization = create_organization(plan=plan, shard=shard, at=moment)
        issued = create_key(organization=organization, at=moment)
        meter = create_meter()
        organization.refresh_from_db()
        record = load_record(bytes(issued.key.hash), at=now())
        assert record is not None
        return cls(organization, issued.key, meter, record, current_period(organization, at=now()))

    @property
    def shard(self) -> int:
        return self.organization.shard

    def call(self, *, units: int = 1, reason: str = "", reserve: int | None = None) -> Event:
        """One admitted and settled call; its event as the ledger must have it."""
        admission = self.admission(units=units if reserve is None else reserve)
        admitted = Engine().admit(admission)
        assert isinstance(admitted, Admitted), admitted
        event = self.event(admitted.occurred_at_us, admission.nonce, quantity=Decimal(units), reason=reason)
        settled = self.settle(admission, event, units=units)
        assert settled.is_recorded
        return event

    def admission(self, *, units: int = 1) -> Admission:
        r = self.record
        span = r.span_at(to_micros(now()))
        assert span is not None
        return Admission(
            shard=r.shard, org_id=r.organization_id, mode=r.mode, version=r.version, span_start_us=span.start_us,
            span_end_us=span.end_us, period_id=span.period_id, quota=span.quota(self.meter.pk), meter_id=self.meter.pk,
            units=units, windows=(), key_id=r.key_id, key_windows=(), nonce=new_nonce(),
        )  # fmt: skip

    def settle(self, admission: Admission, event: Event, *, units: int = 1) -> Settled:
        return Engine().settle(Settlement.of(admission, units=units, event=event.to_json()))

    def event(
        self, at_us: int, nonce: int | None = None, *, quantity: Decimal = Decimal(1), **more: Any
    ) -> Event:
        values: dict[str, Any] = {
            "door": "gateway",
            "status": 200,
            "route_id": 1,
            "api_key_id": self.key.pk,
        } | more
        return Event(
            id=event_id(at_us, new_nonce() if nonce is None else nonce),
            occurred_at_us=at_us,
            received_at_us=at_us,
            organization_id=self.organization.pk,
            mode="live",
            meter_id=self.meter.pk,
            period_id=self.period.pk,
            quantity=quantity,
            **values,
        )

    def append(self, payload: bytes | Event, *, counted: bool = False) -> bytes:
        """An entry straight into the stream, numbered as settle numbers; `counted` moves the counter, as settle does."""
        data = payload.to_json() if isinstance(payload, Event) else payload
        meter, units = "0", 0
        if counted:
            assert isinstance(payload, Event)
            meter, units = str(payload.meter_id), int(payload.quantity)
        keys = [shard_key(self.shard), stream_key(self.shard), self.usage_key]
        name = usage_redis().eval(_APPEND, len(keys), *keys, data, meter, units)
        assert isinstance(name, bytes)
        return name

    @property
    def usage_key(self) -> str:
        return usage_key(self.shard, self.organization.pk, "live", self.period.pk)

    def counter(self) -> int:
        """The settled units of the open period in Redis."""
        return int(usage_redis().hget(self.usage_key, str(self.meter.pk)) or 0)  # type: ignore[arg-type]

    def stream_length(self) -> int:
        return int(usage_redis().xlen(stream_key(self.shard)))


def now_us() -> int:
    return to_micros(now())


def same_id(event: Event, **changes: Any) -> Event:
    """A copy with another id, as a caller's repeat gets it."""
    at = changes.pop("occurred_at_us", event.occurred_at_us)
    identifier: UUID = event_id(at, new_nonce())
    return replace(event, id=identifier, occurred_at_us=at, received_at_us=at, **changes)
