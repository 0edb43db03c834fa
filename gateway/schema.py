"""What the gateway's own endpoint says of itself in the OpenAPI document: no view of Django's stands behind it."""

from typing import Any

from django.conf import settings

from gateway.verify import PATH

_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_NUMBER: dict[str, Any] = {"type": "integer"}
_MAYBE_NUMBER: dict[str, Any] = {"type": ["integer", "null"]}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}

_MEANINGS = {
    400: "The question makes no sense; `detail` names the field.",
    401: "No owner key, or one that is not valid. A bad key in the body is answered 200 with `allowed: false`.",
    403: "The owner key's scopes do not include `usage`.",
    413: "The body is over 16 kB.",
    415: "The body is not JSON.",
    503: "The key cannot be checked, or nothing could be metered. Nothing was charged; try again.",
}


def _text(help_text: str, *, longest: int = 200) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest, "description": help_text}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


COMPONENTS: dict[str, Any] = {
    "KeyQuestion": _object(
        {
            "key": _text("The key that your client sent."),
            "route": _text("Public id of a route: its scope, feature, meter and units count."),
            "product": _text("Slug of a product; with `path` and `method` its route is found as the gateway finds it."),
            "path": _text("Path below the product.", longest=4000),
            "method": {"type": "string", "default": "GET"},
            "meter": _text("Slug of a meter, where no route is named."),
            "units": _text("So many are asked for, in the meter's unit, as text. Without it the route's, or 1.", longest=40),
            "charge": _text("Your id of a call that is to be counted and billed now; once for each organization."),
            "resource": _text("What it is about: recorded with a charge, as the property `resource`."),
            "address": _text("Your client's address: guesses of keys are counted by it."),
        },
        "key",
    ) | {"additionalProperties": False},
    "KeyDecision": _object(
        {
            "allowed": {"type": "boolean"},
            "code": {"type": "string", "description": "Empty, or why not: the code of the gateway's own refusals."},
            "status": {"type": "integer", "description": "What the gateway would answer with."},
            "title": _TEXT, "detail": _TEXT, "retry_after": _MAYBE_NUMBER,
            "organization": {"type": "string", "description": "Public id. Absent, with all below, where the key opens no door."},
            "organization_name": _TEXT, "key": _TEXT, "key_name": _TEXT,
            "mode": {"type": "string", "enum": ["live", "test"]},
            "plan": _TEXT, "features": _TEXTS, "scopes": _TEXTS,
            "expires_at": {"type": ["string", "null"], "format": "date-time"},
            "period": _object({"start": {"type": "string", "format": "date-time"}, "end": {"type": "string", "format": "date-time"}}),
            "rate_limits": {"type": "array", "items": _object({
                "window_seconds": _NUMBER, "limit": _NUMBER, "remaining": _NUMBER, "reset_seconds": _NUMBER,
                "of": {"type": "string", "enum": ["organization", "key", "route", "model"]},
                "counts": {"type": "string", "description": "`calls`, tokens, or a meter's slug: its smallest units."},
            })},
            "usage": {"oneOf": [{"type": "null"}, _object({
                "meter": _TEXT, "used": _TEXT, "quota": _MAYBE_TEXT, "left": _MAYBE_TEXT, "reset_seconds": _MAYBE_NUMBER,
            })]},
            "warning": {"type": "string", "description": "Empty, or for example `payment_past_due`."},
            "charge": _object({
                "id": _TEXT, "known": {"type": "boolean", "description": "It was charged before; nothing was counted now."},
                "units": _TEXT, "event_id": {"type": "string", "format": "uuid"},
            }, "id", "known"),
            "request_id": _TEXT,
        },
        "allowed", "code", "status", "request_id",
    ),
}  # fmt: skip


def add_gateway(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: the document with the gateway's endpoint."""
    result["components"]["schemas"] |= COMPONENTS
    result["paths"][PATH] = {"post": _operation()}
    return result


def _operation() -> dict[str, Any]:
    return {
        "operationId": "verify_key",
        "summary": "May this key do that, and what is left",
        "description": "Served by the gateway. Looks, or (with `charge`) counts and bills one call.",
        "tags": ["keys"],
        "servers": [{"url": settings.GATEWAY_URL}],
        "security": [{"ownerKey": []}, {"ownerKeyHeader": []}],
        "requestBody": {"required": True, "content": _json("KeyQuestion")},
        "responses": {
            "200": {"description": "The decision; also where the key is none.", "content": _json("KeyDecision")},
            **{
                str(status): {
                    "description": text,
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for status, text in _MEANINGS.items()
            },
        },
    }  # fmt: skip


def _json(component: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{component}"}}}
