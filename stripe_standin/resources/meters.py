"""Meters, meter events, their cancellation and sums; reports about events that could not be used."""

import re
import threading
import time
from datetime import UTC, datetime
from typing import Any

from stripe_standin import usage
from stripe_standin.errors import invalid, missing, needed
from stripe_standin.params import Params
from stripe_standin.render import listing
from stripe_standin.routing import route
from stripe_standin.shapes import new
from stripe_standin.store import Obj
from stripe_standin.world import DAY, World

_OLDEST, _NEWEST = 35 * DAY, 5 * 60
_REMEMBERED = DAY  # identifiers are refused again within 24 hours
_WHOLE = re.compile(r"^-?\d{1,15}$")
_REPORT = "v1.billing.meter.error_report_triggered"
_REPORT_AFTER = 0.2  # real seconds in which errors are gathered into one report


@route("POST", "/v1/billing/meters")
def create(world: World, params: Params) -> Obj:
    name = params.required("event_name")
    if any(world.store.where("billing.meter", event_name=name, status="active")):
        raise invalid(
            f"A meter with event name {name} already exists.",
            param="event_name",
            code="billing_meter_event_name_taken",
        )
    formula = params.sub("default_aggregation").choice("formula", ("sum", "count", "last"))
    mapping, values = params.sub("customer_mapping"), params.sub("value_settings")
    now = world.now()
    mapping.text("type")
    meter = new(
        "billing.meter",
        id=world.store.new_id("mtr_test"),
        created=now,
        customer_mapping={
            "event_payload_key": mapping.text("event_payload_key", "stripe_customer_id"),
            "type": "by_id",
        },
        default_aggregation={"formula": formula or "sum"},
        display_name=params.required("display_name"),
        event_name=name,
        event_time_window=params.choice("event_time_window", ("day", "hour")),
        updated=now,
        value_settings={"event_payload_key": values.text("event_payload_key", "value")},
    )
    world.store.add(meter)
    world.emit("billing.meter.created", meter)
    return meter


@route("GET", "/v1/billing/meters")
def listed(world: World, params: Params) -> Obj:
    return world.page("/v1/billing/meters", world.filtered("billing.meter", params, "status"), params)


@route("GET", "/v1/billing/meters/{id}")
def retrieve(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("billing.meter", identifier)


@route("POST", "/v1/billing/meters/{id}")
def update(world: World, params: Params, identifier: str) -> Obj:
    meter = world.store.get("billing.meter", identifier)
    with world.updating(meter, "billing.meter.updated"):
        meter["display_name"] = params.text("display_name", meter["display_name"])
        meter["updated"] = world.now()
    return meter


@route("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(world: World, params: Params, identifier: str) -> Obj:
    meter = world.store.get("billing.meter", identifier)
    meter |= {
        "status": "inactive",
        "updated": world.now(),
        "status_transitions": {"deactivated_at": world.now()},
    }
    world.emit("billing.meter.deactivated", meter)
    return meter


@route("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(world: World, params: Params, identifier: str) -> Obj:
    meter = world.store.get("billing.meter", identifier)
    meter |= {"status": "active", "updated": world.now(), "status_transitions": {"deactivated_at": None}}
    world.emit("billing.meter.reactivated", meter)
    return meter


# Events -------------------------------------------------------------------------------------------------------------


def _meter_named(world: World, name: str) -> Obj:
    meters = list(world.store.where("billing.meter", event_name=name))
    if not meters:
        raise invalid(f"No active meter found for event name: {name}.", param="event_name", code="no_meter")
    return next((meter for meter in meters if meter["status"] == "active"), meters[-1])


@route("POST", "/v1/billing/meter_events")
def create_event(world: World, params: Params) -> Obj:
    return _take_event(world, params, params.number("timestamp"))


def _take_event(world: World, params: Params, timestamp: int | None) -> Obj:
    name = params.required("event_name")
    payload = {key: str(value) for key, value in params.sub("payload").plain().items()}
    meter = _meter_named(world, name)
    customer_id, value = _payload(meter, payload)
    customer = world.store.peek("customer", customer_id)
    now = world.now_for(customer_id)
    at = now if timestamp is None else timestamp
    if at < now - _OLDEST:
        raise invalid(
            "The timestamp must be within the past 35 days.",
            param="timestamp",
            code="timestamp_too_far_in_past",
        )
    if at > now + _NEWEST:
        raise invalid(
            "The timestamp must not be more than 5 minutes in the future.",
            param="timestamp",
            code="timestamp_in_future",
        )
    identifier = params.text("identifier") or world.store.new_id("mevt")
    _once(world, identifier, customer_id, now)
    event = new(
        "billing.meter_event",
        created=now,
        event_name=name,
        identifier=identifier,
        payload=payload,
        timestamp=at,
    )
    if customer is None or customer.get("_deleted"):
        _complain(
            world, meter, identifier, "meter_event_customer_not_found", f"No such customer: '{customer_id}'"
        )
    elif meter["status"] != "active":
        _complain(world, meter, identifier, "archived_meter", f"The meter {meter['id']} is inactive")
    else:
        usage.record(world, meter, customer_id, at, value, identifier)
    return event


def _payload(meter: Obj, payload: dict[str, str]) -> tuple[str, int]:
    customer_key = meter["customer_mapping"]["event_payload_key"]
    value_key = meter["value_settings"]["event_payload_key"]
    if customer_key not in payload:
        raise needed(f"payload[{customer_key}]")
    value = payload.get(value_key, "1" if meter["default_aggregation"]["formula"] == "count" else "")
    if not _WHOLE.match(value):
        raise invalid(
            f"Invalid value for payload[{value_key}]: must be a whole number of at most 15 digits.",
            param=f"payload[{value_key}]",
            code="meter_event_invalid_value",
        )
    return payload[customer_key], int(value)


def _once(world: World, identifier: str, customer: str, now: int) -> None:
    seen = world.store.table("_meter_identifiers")
    known = seen.get(identifier)
    if known is not None and known["at"] > now - _REMEMBERED:
        raise invalid(
            f"An event already exists with identifier {identifier}.",
            param="identifier",
            code="duplicate_meter_event",
        )
    seen[identifier] = {"at": now, "customer": customer}


@route("POST", "/v1/billing/meter_event_adjustments")
def adjust(world: World, params: Params) -> Obj:
    name = params.required("event_name")
    params.choice("type", ("cancel",), "cancel")
    identifier = params.sub("cancel").required("identifier")
    meter = _meter_named(world, name)
    taken = world.store.table("_meter_identifiers").get(identifier)
    if taken is None:
        raise missing("meter event", identifier, param="cancel[identifier]", status=400)
    if taken["at"] < world.now_for(taken["customer"]) - DAY:
        raise invalid("Meter events can only be cancelled within 24 hours.", param="cancel[identifier]")
    if not usage.cancel(world, meter, identifier):
        raise invalid("The meter event is already cancelled.", param="cancel[identifier]")
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": name,
        "livemode": False,
        "status": "complete",
        "type": "cancel",
    }


@route("GET", "/v1/billing/meters/{id}/event_summaries")
def summaries(world: World, params: Params, identifier: str) -> Obj:
    """One sum, or one for each hour or day (`value_grouping_window`), newest first; empty windows are left out."""
    world.store.get("billing.meter", identifier)
    customer, start, end = params.required("customer"), params.number("start_time"), params.number("end_time")
    if start is None or end is None or end <= start:
        raise invalid("`start_time` must be before `end_time`.", param="end_time")
    window = params.choice("value_grouping_window", ("day", "hour"))
    step = {"hour": 3600, "day": DAY, None: 60}[window]
    if start % step or end % step:
        raise invalid(
            f"`start_time` and `end_time` must be aligned to {window or 'minute'} boundaries.",
            param="start_time",
        )
    spans = [(at, at + step) for at in range(start, end, step)] if window else [(start, end)]
    found = []
    for begin, until in spans:
        value = usage.quantity(world, identifier, customer, begin, until)
        if value or not window:
            summary = new(
                "billing.meter_event_summary",
                id=f"mtrusg_test_{identifier[-6:]}{begin:x}{until - begin:x}",
                meter=identifier,
            )
            found.append(summary | {"aggregated_value": value, "start_time": begin, "end_time": until})
    return world.page(f"/v1/billing/meters/{identifier}/event_summaries", found, params)


# Reports ------------------------------------------------------------------------------------------------------------


def _complain(world: World, meter: Obj, identifier: str, code: str, message: str) -> None:
    """Gather the error; one report tells of all that came within a moment."""
    waiting: dict[str, list[Obj]] = world.store.table("_meter_errors")
    errors = waiting.setdefault(meter["id"], [])
    errors.append({"identifier": identifier, "code": code, "message": message, "at": time.time()})
    if len(errors) == 1:
        timer = threading.Timer(_REPORT_AFTER, _report, (world, meter["id"]))
        timer.daemon = True
        timer.start()


def _report(world: World, meter: str) -> None:
    with world.lock:
        errors = world.store.table("_meter_errors").pop(meter, [])
        if not errors:
            return
        codes = sorted({error["code"] for error in errors})
        types = [_error_type(code, [error for error in errors if error["code"] == code]) for code in codes]
        event = {
            "id": world.store.new_id("evt_test"),
            "object": "v2.core.event",
            "created": _iso(time.time() + world.offset),
            "livemode": False,
            "related_object": {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"},
            "type": _REPORT,
        }
        data = {
            "developer_message_summary": f"There {'is 1 invalid event' if len(errors) == 1 else f'are {len(errors)} invalid events'}",
            "reason": {"error_count": len(errors), "error_types": types},
            "validation_start": _iso(errors[0]["at"] + world.offset),
            "validation_end": _iso(errors[-1]["at"] + world.offset),
        }
        world.store.add(event | {"data": data})
        world.hooks.send_thin(event)


def _error_type(code: str, errors: list[Obj]) -> Obj:
    samples = [
        {"error_message": each["message"], "request": {"identifier": each["identifier"]}}
        for each in errors[:5]
    ]
    return {"code": code, "error_count": len(errors), "sample_errors": samples}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# v2 -----------------------------------------------------------------------------------------------------------------


@route("POST", "/v2/billing/meter_events")
def create_event_v2(world: World, params: Params) -> Obj:
    text = params.text("timestamp")
    at = int(datetime.fromisoformat(text).timestamp()) if text else None
    event = _take_event(world, params, at)
    return event | {
        "object": "v2.billing.meter_event",
        "created": _iso(event["created"]),
        "timestamp": _iso(event["timestamp"]),
    }


@route("GET", "/v2/core/events/{id}")
def event_v2(world: World, params: Params, identifier: str) -> Obj:
    return world.store.get("v2.core.event", identifier)


@route("GET", "/v2/core/events")
def events_v2(world: World, params: Params) -> Obj:
    wanted, limit = params.text("object_id"), params.number("limit", 20)
    found = [
        event
        for event in world.store.where("v2.core.event")
        if wanted in (None, event["related_object"]["id"])
    ]
    return {"data": found[::-1][:limit], "next_page_url": None, "previous_page_url": None}


@route("POST", "/v2/core/event_destinations")
def create_destination(world: World, params: Params) -> Obj:
    sent: dict[str, Any] = params.plain()
    now = _iso(world.now())
    secret = world.store.new_id("whsec")
    made: Obj = {
        "id": world.store.new_id("ed_test"),
        "object": "v2.core.event_destination",
        "created": now,
        "description": sent.get("description", ""),
        "enabled_events": sent["enabled_events"],
        "event_payload": sent["event_payload"],
        "events_from": ["self"],
        "livemode": False,
        "metadata": sent.get("metadata", {}),
        "name": sent["name"],
        "status": "enabled",
        "type": sent["type"],
        "updated": now,
        "webhook_endpoint": {"url": sent["webhook_endpoint"]["url"], "signing_secret": secret},
        "_secret": secret,
    }
    world.store.add(made)
    return _destination(made)


def _destination(stored: Obj) -> Obj:
    return {key: value for key, value in stored.items() if not key.startswith("_")}


@route("GET", "/v2/core/event_destinations")
def destinations(world: World, params: Params) -> Obj:
    params.number("limit")
    found = [_destination(each) for each in world.store.where("v2.core.event_destination")]
    return {"data": found, "next_page_url": None, "previous_page_url": None}


@route("GET", "/v1/billing/credit_balance_summary")
def credit_summary(world: World, params: Params) -> Obj:
    customer = params.required("customer")
    params.sub("filter").plain()
    return {
        "object": "billing.credit_balance_summary",
        "balances": [],
        "customer": customer,
        "customer_account": None,
        "livemode": False,
    }


@route("GET", "/v1/billing/credit_grants")
def credit_grants(world: World, params: Params) -> Obj:
    params.plain()
    return listing("/v1/billing/credit_grants", [])
