"""Corrections of usage: new rows that name the event they correct, never an edit.

What adds up gets the difference, in the period, hour and dimension of the corrected event. What does not (maximum, last,
unique, time-weighted) gets a void, and a reading in its place when there is a right one; the hour is then counted again.
A correction asked for twice does nothing the second time: the event has that quantity already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Organization, User
from accounts.services import record_audit
from core.clock import from_micros, to_micros
from core.errors import Forbidden, PortalError
from core.ids import NONCE_BITS, event_id, event_time_ms
from metering.corrections import apply_corrections, find_epoch
from metering.entries import Entry, read_event
from metering.events import CORRECTION, VOID, Event
from metering.ledger import Uncounted, lock_shard, store_entries
from metering.models import UsageEvent
from metering.reconcile import plain
from plans.door import smallest_units
from plans.models import Aggregation, Meter

DOOR = "correct"
PERMISSION = "metering.add_usageevent"
ZERO = Decimal(0)
REASON_LENGTH = 200
_LARGEST_UNITS = 2**53 - 1


class UnknownEvent(PortalError):
    code, status, title = "unknown_event", 404, "There is no such event"


class CorrectionRefused(PortalError):
    code, status, title = "correction_refused", 409, "This event cannot be corrected so"


@dataclass(frozen=True, slots=True)
class Corrected:
    """What an event comes to: before, now, and the rows that were added (none when it was so already)."""

    event: UsageEvent
    before: Decimal
    quantity: Decimal
    rows: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class _Standing:
    """An event with everything that corrects it. `reading` is the row that counts now; None when it is void."""

    event: UsageEvent
    corrections: tuple[UsageEvent, ...]
    reading: UsageEvent | None
    quantity: Decimal


def find_event(identifier: UUID, *, organization: Organization | None = None) -> UsageEvent:
    """The event of this id. Raises UnknownEvent."""
    moment = from_micros(min(event_time_ms(identifier), 4_102_444_800_000) * 1000)
    owners = Organization.objects.filter(pk=organization.pk) if organization else Organization.objects.all()
    # Its id holds its millisecond: one partition, and one look at the primary key for each organization.
    found = UsageEvent.objects.filter(
        organization_id__in=owners.values("pk"),
        id=identifier,
        occurred_at__gte=moment,
        occurred_at__lt=moment + timedelta(milliseconds=1),
    ).first()
    if found is None:
        raise UnknownEvent(f"The ledger has no event {identifier}.")
    return found


def events_of_request(
    request_id: str, *, organization: Organization | None = None, limit: int = 20
) -> list[UsageEvent]:
    """The events of one request, newest first; of one organization, or of all."""
    if not request_id:
        return []
    # Said twice, so that the index without empty ids is known to serve it.
    found = UsageEvent.objects.filter(request_id=request_id).exclude(request_id="")
    if organization is not None:
        found = found.for_organization(organization)
    return list(found.order_by("-occurred_at", "-id")[:limit])


def quantity_now(event: UsageEvent) -> Decimal:
    """What an event comes to with its corrections; 0 when it is void."""
    return _standing(event, _meter(event)).quantity


def can_correct(by: User | None) -> bool:
    """None is the owner's program or command."""
    return by is None or by.has_perm(PERMISSION)


def check_can_correct(by: User | None) -> None:
    """Raises Forbidden unless `can_correct`."""
    if not can_correct(by):
        raise Forbidden("This needs the permission to add usage events.")


@transaction.atomic
def correct_usage(
    identifier: UUID, *, quantity: Decimal | None, reason: str, by: User | None, at: datetime,
    organization: Organization | None = None, through: str = "",
) -> Corrected:  # fmt: skip
    """Make an event come to `quantity` in its meter's unit, or to nothing (None: void). The audit keeps the reason, and
    `through`, the name of a program that asked.

    Raises Forbidden without the permission to add usage events, UnknownEvent, CorrectionRefused, or RedisError; nothing is
    stored then.
    """
    check_can_correct(by)
    if not reason.strip() or len(reason) > REASON_LENGTH:
        raise CorrectionRefused(f"Give a reason of at most {REASON_LENGTH} characters.")
    event = find_event(identifier, organization=organization)
    owner = Organization.objects.get(pk=event.organization_id)
    lock_shard(owner.shard, wait=True)
    meter = _meter(event)
    standing = _standing(event, meter)
    _check(standing, meter, quantity)
    events = _corrections(standing, meter, quantity, at)
    if events:
        _store(owner, events, at)
        details: dict[str, object] = {
            "reason": reason,
            "quantity": "void" if quantity is None else plain(quantity),
            "before": plain(standing.quantity),
            "through": through,
        }
        record_audit(
            organization=owner, by=by, action="usage.corrected", target=str(event.id), at=at, details=details
        )
    return Corrected(event, standing.quantity, quantity or ZERO, tuple(one.id for one in events))


def _meter(event: UsageEvent) -> Meter:
    meter = Meter.objects.filter(pk=event.meter_id).first()
    if meter is None:
        raise CorrectionRefused("Its meter is not known.")
    return meter


def _standing(event: UsageEvent, meter: Meter) -> _Standing:
    rows = _naming(event.organization_id, [event.id])
    readings = [event, *[row for row in rows if row.reason == ""]] if event.reason == "" else []
    voids = {
        row.corrects_id
        for row in _naming(event.organization_id, [row.id for row in readings])
        if row.reason == VOID
    }
    reading = next((row for row in readings if row.id not in voids), None)
    if meter.is_additive:
        quantity = event.quantity + sum((row.quantity for row in rows), ZERO)
    else:
        quantity = reading.quantity if reading else ZERO
    return _Standing(event, tuple(rows), reading, quantity)


def _naming(organization_id: int, identifiers: Sequence[UUID]) -> list[UsageEvent]:
    found = UsageEvent.objects.filter(organization_id=organization_id, corrects_id__in=identifiers)
    return list(found.order_by("stored_at", "id"))


def _check(standing: _Standing, meter: Meter, quantity: Decimal | None) -> None:
    event = standing.event
    if event.corrects_id is not None:
        raise CorrectionRefused(f"It is a correction itself; correct the event {event.corrects_id}.")
    if event.reason and (quantity is None or not meter.is_additive):
        raise CorrectionRefused(f"It was not billed ({event.reason}).")
    if quantity is None:
        return
    if meter.aggregation == Aggregation.UNIQUE:
        raise CorrectionRefused("An event of a unique count can only be made void.")
    try:
        units = smallest_units(quantity, meter.decimals)
    except (ValueError, ArithmeticError):
        raise CorrectionRefused(f"{meter} counts {meter.decimals} decimals.") from None
    if not 0 <= units <= _LARGEST_UNITS:
        raise CorrectionRefused("The quantity is out of range.")


def _corrections(standing: _Standing, meter: Meter, quantity: Decimal | None, at: datetime) -> list[Event]:
    """The rows that make the difference; none when there is none."""
    event, reading = standing.event, standing.reading
    if meter.is_additive:
        difference = (quantity or ZERO) - standing.quantity
        if quantity is None and reading is not None:
            return [_row(standing, 0, event, VOID, difference, at)]
        return [_row(standing, 0, event, CORRECTION, difference, at)] if difference else []
    rows: list[Event] = []
    if reading is not None and quantity != reading.quantity:
        rows.append(_row(standing, 0, reading, VOID, -reading.quantity, at))
    if quantity is not None and (reading is None or quantity != reading.quantity):
        rows.append(_row(standing, 1, event, "", quantity, at))
    return rows


def _row(
    standing: _Standing, number: int, corrected: UsageEvent, reason: str, quantity: Decimal, at: datetime
) -> Event:
    """A row in the place of the first event, with an id of its own that follows from what it is."""
    e = standing.event
    name = f"{e.id}:{len(standing.corrections)}:{number}:{corrected.id}".encode()
    nonce = int.from_bytes(sha256(name).digest()) >> (256 - NONCE_BITS)
    occurred_us = to_micros(e.occurred_at)
    return Event(
        id=event_id(occurred_us, nonce), occurred_at_us=occurred_us, received_at_us=to_micros(at),
        organization_id=e.organization_id, mode=e.mode, meter_id=e.meter_id, period_id=e.period_id, quantity=quantity,
        door=DOOR, reason=reason, api_key_id=e.api_key_id, product_id=e.product_id, route_id=e.route_id, status=e.status,
        request_id=e.request_id or None, corrects_id=corrected.id, corrects_at_us=to_micros(corrected.occurred_at),
        properties=e.properties, dimension=e.dimension,
    )  # fmt: skip


def _store(organization: Organization, events: Sequence[Event], at: datetime) -> None:
    shard = organization.shard
    entries = [_entry(event, number, at) for number, event in enumerate(events)]
    stored = store_entries(shard, entries, uncounted=Uncounted(find_epoch(shard), CORRECTION))
    if stored.stored != len(entries):
        raise CorrectionRefused("The ledger refused it.")
    transaction.on_commit(lambda: _tell_counters(shard, at))


def _entry(event: Event, number: int, at: datetime) -> Entry:
    payload = event.to_json()
    return Entry(f"{to_micros(at) // 1000}-{number}", payload, DOOR, 0, read_event(payload, received_at=at))


def _tell_counters(shard: int, at: datetime) -> None:
    with transaction.atomic():
        if lock_shard(shard):  # otherwise the drainer that is at it, or the next, does it
            apply_corrections(shard, at=at)


def event_facts(event: UsageEvent) -> dict[str, Any]:
    """An event as people see it before they correct it."""
    meter = Meter.objects.filter(pk=event.meter_id).first()
    customer = Organization.objects.filter(pk=event.organization_id).first()
    return {"event": event, "meter": meter, "customer": customer, "quantity": quantity_now(event)}
