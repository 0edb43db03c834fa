"""What `POST /api/keys/verify` answers with: who the key is, what is left, and why not."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.clock import from_micros
from gateway.owners import OwnersShelf
from gateway.routes import RouteEntry, RouteTable
from keys.records import KeyRecord
from metering.admission import Target, admission, not_entitled
from metering.answers import KEY_EXPIRED, Refusal, counted_by, limited, scope_of
from metering.calls import Admitted, Refused
from metering.scoped import never_fits
from metering.script_calls import Call
from metering.verifying import Verified, look_call
from plans.door import Span
from plans.models import Meter

Decided = Admitted | Refused
ROOM = 20_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What the key shall be used for: the route or product whose scopes and feature count, and the units of a meter."""

    target: Target
    meter: Meter | None = None
    route: RouteEntry | None = None
    product: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """All of a look that does not change from one to the next: the script's call, and who the key is."""

    record: KeyRecord
    span: Span
    asked: Asked
    call: Call[Verified]
    facts: dict[str, Any]
    is_too_large: bool


class Desk:
    """Prepared looks of one worker, kept as long as catalogue and shelf are the same (a second): a key that is asked about
    often costs little more than the script."""

    def __init__(self) -> None:
        self._table: RouteTable | None = None
        self._shelf: OwnersShelf | None = None
        self.asked: dict[tuple[str, ...], Asked] = {}
        self._prepared: dict[tuple[bytes, int], Prepared] = {}

    def clear_unless(self, table: RouteTable, shelf: OwnersShelf) -> None:
        """Forget what was prepared from others than these, and what is too much."""
        is_same = table is self._table and shelf is self._shelf
        if not is_same or len(self.asked) > ROOM or len(self._prepared) > ROOM:
            self._table, self._shelf = table, shelf
            self.asked.clear()
            self._prepared.clear()

    def prepare(self, key_hash: bytes, record: KeyRecord, span: Span, asked: Asked) -> Prepared:
        """The look of this key; made anew where the record or the span is another."""
        found = self._prepared.get((key_hash, id(asked)))
        if found is None or found.record is not record or found.span is not span or found.asked is not asked:
            request = admission(
                record, span, asked.target, nonce=0
            )  # nothing is reserved that a nonce would name
            found = Prepared(
                record, span, asked, look_call(request), standing(record, span), never_fits(request)
            )
            self._prepared[key_hash, id(asked)] = found
        return found


def not_entitled_to(record: KeyRecord, asked: Asked, at_us: int) -> Refusal | None:
    """401 or 403 by the record; a question that names no product is about the key alone."""
    if not asked.product:
        return KEY_EXPIRED if record.is_expired(at_us) else None
    route = asked.route
    return not_entitled(
        record, product=asked.product, route=route.public_id if route else "",
        feature=route.required_feature if route else "", at_us=at_us,
    )  # fmt: skip


def refused(refusal: Refusal) -> dict[str, Any]:
    """The decision, with the code, status and words of the gateway's own refusal."""
    retry = next((int(value) for name, value in refusal.headers if name == "Retry-After"), None)
    return {
        "allowed": False, "code": refusal.code, "status": refusal.status, "title": refusal.title,
        "detail": refusal.detail, "retry_after": retry,
    }  # fmt: skip


def refused_after(answer: Refused, known: dict[str, Any], meter: Meter | None) -> dict[str, Any]:
    """The whole decision where the script refused."""
    return refused(limited(answer)) | known | left(answer, meter)


def allowed(answer: Decided, known: dict[str, Any], meter: Meter | None) -> dict[str, Any]:
    """The whole decision where the call may pass."""
    return {"allowed": True, "code": "", "status": 200} | known | left(answer, meter)


def facts(record: KeyRecord) -> dict[str, Any]:
    """Who the key is."""
    return {
        "organization": record.organization_public_id,
        "organization_name": record.organization_name,
        "key": record.key_public_id,
        "key_name": record.key_name,
        "mode": record.mode,
        "plan": record.plan_slug,
        "features": sorted(record.features),
        "scopes": sorted(record.scopes),
        "expires_at": _iso(record.expires_at_us) if record.expires_at_us else None,
    }


def standing(record: KeyRecord, span: Span) -> dict[str, Any]:
    """Who the key is and in which period it stands."""
    period = {"start": _iso(span.start_us), "end": _iso(span.end_us)}
    return facts(record) | {"period": period, "warning": span.warning}


def left(answer: Decided, meter: Meter | None) -> dict[str, Any]:
    """What is left: in each window, and of the meter's quota."""
    windows = [
        {
            "window_seconds": w.seconds, "limit": w.limit, "remaining": w.remaining, "reset_seconds": w.reset_s,
            "of": scope_of(w), "counts": counted_by(w),
        }
        for w in answer.windows
    ]  # fmt: skip
    return {"rate_limits": windows, "usage": None if meter is None else _usage(answer, meter)}


def _usage(answer: Decided, meter: Meter) -> dict[str, Any]:
    quota = answer.quota
    return {
        "meter": meter.slug,
        "used": in_units(answer.used, meter),
        "quota": in_units(quota.limit, meter) if quota else None,
        "left": in_units(quota.remaining, meter) if quota else None,
        "reset_seconds": quota.reset_s if quota else None,
    }


def _iso(moment_us: int) -> str:
    return from_micros(moment_us).isoformat()


def in_units(smallest: int, meter: Meter) -> str:
    """A number of smallest units in the meter's own."""
    return format(Decimal(smallest).scaleb(-meter.decimals), "f") if meter.decimals else str(smallest)
