"""`/api/admin/tenants/{tenant}/keys`: the owner's system deals with a customer's keys."""

from datetime import datetime, timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from billing.tenant_api import TENANT, find_tenant
from core.api_fields import read_fields
from core.clock import now
from core.hours import check_moment
from core.idempotent_api import IDEMPOTENCY_KEY, answer_once
from core.schema import problems
from keys.models import ApiKey, Mode, OwnerScope
from keys.owner_api import OwnerApiView, acting_through, acting_user
from keys.queries import list_keys
from keys.services import MAX_GRACE, IssuedKey, issue_key, revoke_key, rotate_key

STATES = ("active", "rotating", "expired", "revoked")
_KEY = OpenApiParameter("key", str, OpenApiParameter.PATH, description="key_...")


@extend_schema_serializer(component_name="TenantKeyInput")
class KeyInput(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80)
    mode = serializers.ChoiceField(choices=Mode.values, default=Mode.LIVE.value)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=80), max_length=100, required=False, default=list,
        help_text="product:SLUG or route:ID; none: all that the plan allows.",
    )  # fmt: skip
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, default=None, validators=[check_moment]
    )
    calls_per_minute = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, allow_null=True, default=None
    )


@extend_schema_serializer(component_name="TenantKeyRotation")
class RotationInput(serializers.Serializer[Any]):
    grace_seconds = serializers.IntegerField(
        min_value=0, max_value=int(MAX_GRACE.total_seconds()), default=0, help_text="How long the old key still works."
    )  # fmt: skip


@extend_schema_serializer(component_name="TenantKey")
class KeyOutput(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="key_...")
    name = serializers.CharField()
    mode = serializers.ChoiceField(choices=Mode.values)
    state = serializers.ChoiceField(choices=STATES)
    prefix = serializers.CharField(help_text="Its first characters.")
    last4 = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    calls_per_minute = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


@extend_schema_serializer(component_name="TenantKeyIssued")
class IssuedOutput(KeyOutput):
    key = serializers.CharField(help_text="The key itself: shown here and never again.")


class KeyListOutput(serializers.Serializer[Any]):
    keys = KeyOutput(many=True)


class TenantKeysView(OwnerApiView):
    """A customer's keys."""

    owner_scope = OwnerScope.TENANTS

    @extend_schema(
        operation_id="tenant_keys",
        summary="A customer's keys, newest first",
        parameters=[TENANT],
        responses={200: OpenApiResponse(KeyListOutput, "All of them."), **problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, tenant: str) -> Response:
        at = now()
        return Response({"keys": [_shown(key, at) for key in list_keys(find_tenant(tenant))]})

    @extend_schema(
        operation_id="issue_tenant_key",
        summary="Issue a key for a customer",
        parameters=[TENANT, IDEMPOTENCY_KEY],
        request=KeyInput,
        responses={
            200: OpenApiResponse(IssuedOutput, "The key, this once."),
            **problems(400, 401, 403, 404, 409, 415, 422, 503),
        },
    )
    def post(self, request: Request, tenant: str) -> Response:
        organization, fields, at = find_tenant(tenant), read_fields(KeyInput, request, strict=True), now()

        def act() -> dict[str, Any]:
            issued = issue_key(organization=organization, by=acting_user(request), at=at, **fields)
            return _shown_issued(issued, at)

        return answer_once(request, caller=acting_through(request), act=act, at=at)


class TenantKeyView(OwnerApiView):
    """One key of a customer."""

    owner_scope = OwnerScope.TENANTS

    @extend_schema(
        operation_id="revoke_tenant_key",
        summary="Revoke a customer's key",
        parameters=[TENANT, _KEY],
        responses={
            200: OpenApiResponse(KeyOutput, "Refused from its next call on."),
            **problems(401, 403, 404, 503),
        },
    )
    def delete(self, request: Request, tenant: str, key: str) -> Response:
        at = now()
        revoked = revoke_key(key=_find_key(tenant, key), by=acting_user(request), at=at)
        return Response(_shown(revoked, at))


class TenantKeyRotateView(OwnerApiView):
    """A new key in the place of an old one."""

    owner_scope = OwnerScope.TENANTS

    @extend_schema(
        operation_id="rotate_tenant_key",
        summary="Replace a customer's key",
        parameters=[TENANT, _KEY, IDEMPOTENCY_KEY],
        request=RotationInput,
        responses={
            200: OpenApiResponse(IssuedOutput, "The new key, this once; same name, mode and rights."),
            **problems(400, 401, 403, 404, 409, 415, 422, 503),
        },
    )
    def post(self, request: Request, tenant: str, key: str) -> Response:
        old, at = _find_key(tenant, key), now()
        grace = timedelta(seconds=read_fields(RotationInput, request, strict=True)["grace_seconds"])

        def act() -> dict[str, Any]:
            return _shown_issued(rotate_key(key=old, grace=grace, by=acting_user(request), at=at), at)

        return answer_once(request, caller=acting_through(request), act=act, at=at)


def _find_key(tenant: str, key: str) -> ApiKey:
    rows = ApiKey.objects.for_organization(find_tenant(tenant)).select_related("organization")
    found = rows.filter(public_id=key).first()
    if found is None:
        raise NotFound
    return found


def _shown_issued(issued: IssuedKey, at: datetime) -> dict[str, Any]:
    return _shown(issued.key, at) | {"key": issued.clear}


def _shown(key: ApiKey, at: datetime) -> dict[str, Any]:
    return {
        "id": key.public_id,
        "name": key.name,
        "mode": key.mode,
        "state": key.state(at),
        "prefix": key.prefix,
        "last4": key.last4,
        "scopes": key.scopes,
        "calls_per_minute": key.calls_per_minute,
        "created_at": key.created_at.isoformat(),
        "expires_at": _text(key.expires_at),
        "revoked_at": _text(key.revoked_at),
        "last_used_at": _text(key.last_used_at),
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
