"""`/api/admin/tenants`: the owner's system makes, reads, changes and closes customers, and sees what they use."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing.tenant_limits import MOST_LIMITS, TenantLimitFields, read_limits, shown_limits
from billing.tenant_queries import Tenant, TenantUsage, find_tenants, tenant_usage, tenants
from billing.tenants import UNSAID, TenantChange, change_tenant, create_tenant
from core.api_fields import read_fields
from core.clock import now
from core.idempotent_api import IDEMPOTENCY_KEY, answer_once
from core.money import exponent
from core.schema import problems
from keys.models import OwnerScope
from keys.owner_api import OwnerApiView, acting_through, acting_user

STATUSES = ("active", "disabled")
LIMIT, MOST = 50, 200
MOST_TOKENS = 10**15 - 1
TENANT = OpenApiParameter("tenant", str, OpenApiParameter.PATH, description="org_...")


class TenantFields(serializers.Serializer[Any]):
    """What can be said of a tenant when it is made and when it is changed."""

    name = serializers.CharField(max_length=120)
    stripe_customer_id = serializers.CharField(
        max_length=255, required=False, allow_null=True, help_text="cus_...: whom Stripe knows it as."
    )
    daily_token_limit = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, allow_null=True,
        help_text="Tokens in a UTC day, over all meters that count tokens. Null: no limit.",
    )  # fmt: skip
    monthly_spend_cap = serializers.DecimalField(
        max_digits=18, decimal_places=3, min_value=Decimal(0), required=False, allow_null=True,
        help_text="The most that usage may cost in a billing period, for example \"250.00\". Null: no cap of yours.",
    )  # fmt: skip
    rate_limits = TenantLimitFields(  # type: ignore[call-arg]  # of the list
        many=True, required=False, max_length=MOST_LIMITS,
        help_text="All limits that differ from the plan's, from now on; an empty list takes them away.",
    )  # fmt: skip
    currency = serializers.RegexField(
        r"^[A-Z]{3}$", required=False, help_text="Of the cap; it has to be that of the plan."
    )


@extend_schema_serializer(component_name="TenantInput")
class TenantInput(TenantFields):
    plan = serializers.CharField(
        max_length=80, required=False, help_text="A plan on sale; without it, the first of the pricing page."
    )
    owner_email = serializers.EmailField(
        max_length=254, required=False, help_text="Is invited by mail to own the organization."
    )


@extend_schema_serializer(component_name="TenantChange")
class TenantChangeInput(TenantFields):
    name = serializers.CharField(max_length=120, required=False)
    status = serializers.ChoiceField(choices=STATUSES, required=False)
    reason = serializers.CharField(
        max_length=200, required=False, help_text="Why it is disabled; staff read it."
    )


@extend_schema_serializer(component_name="Tenant")
class TenantOutput(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="org_...")
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES, help_text="Disabled: calls answer 402 `suspended`.")
    status_reason = serializers.CharField()
    plan = serializers.CharField(help_text="Slug; empty: none.")
    subscription_status = serializers.CharField()
    currency = serializers.CharField(help_text="Of the plan and of the cap.")
    stripe_customer_id = serializers.CharField(allow_null=True)
    daily_token_limit = serializers.IntegerField(allow_null=True)
    monthly_spend_cap = serializers.CharField(
        allow_null=True, help_text="Yours; the customer may have set a lower one."
    )
    rate_limits = TenantLimitFields(many=True, help_text="Those that differ from the plan's.")
    created_at = serializers.DateTimeField()


class TenantPageOutput(serializers.Serializer[Any]):
    tenants = TenantOutput(many=True)
    next = serializers.CharField(allow_null=True, help_text="Give it as `before` for the next page.")


class ListQuery(serializers.Serializer[Any]):
    search = serializers.CharField(max_length=120, required=False, default="")
    status = serializers.ChoiceField(choices=STATUSES, required=False, default="")
    before = serializers.CharField(max_length=40, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=LIMIT)


@extend_schema_serializer(component_name="TenantUsage")
class UsageOutput(serializers.Serializer[Any]):
    """Of live keys. Days and months are of UTC; the cost is that of the billing period, which is another stretch of time."""

    tenant = serializers.CharField(help_text="org_...")
    day = serializers.DateField(help_text="The UTC day of `..._today`.")
    month = serializers.CharField(help_text="`2026-11`: the calendar month of `..._month`.")
    tokens_used_today = serializers.IntegerField()
    tokens_used_month = serializers.IntegerField()
    daily_token_limit = serializers.IntegerField(allow_null=True)
    requests_today = serializers.IntegerField()
    requests_count = serializers.IntegerField(help_text="Answered calls in the calendar month.")
    last_request = serializers.DateTimeField(allow_null=True)
    estimated_cost = serializers.CharField(
        allow_null=True,
        help_text="Of the running billing period so far, as on the usage page. Null: no plan.",
    )
    currency = serializers.CharField()
    period_start = serializers.DateTimeField(allow_null=True)
    period_end = serializers.DateTimeField(allow_null=True, help_text="The first moment of the next period.")


class TenantListView(OwnerApiView):
    """All customers, newest first; and new ones."""

    owner_scope = OwnerScope.TENANTS

    @extend_schema(
        operation_id="tenants",
        summary="Customers, newest first",
        parameters=[
            OpenApiParameter("search", str, description="Part of a name, or an id, Stripe's id, a member's address."),
            OpenApiParameter("status", str, enum=list(STATUSES)),
            OpenApiParameter("before", str, description="`next` of the page before."),
            OpenApiParameter("limit", int, description=f"1 to {MOST}; otherwise {LIMIT}."),
        ],
        responses={200: OpenApiResponse(TenantPageOutput, "A page."), **problems(400, 401, 403, 503)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        asked = ListQuery(data=request.query_params.dict())
        asked.is_valid(raise_exception=True)
        query = asked.validated_data
        found = find_tenants(search=query["search"], status=query["status"])
        if before := query.get("before"):
            last = Organization.objects.filter(public_id=before).first()
            if last is None:
                raise serializers.ValidationError({"before": "Take `next` of the page before."})
            found = found.filter(pk__lt=last.pk)
        rows = list(found[: query["limit"] + 1])
        page = rows[: query["limit"]]
        return Response(
            {
                "tenants": [shown(tenant) for tenant in tenants(page, at=now())],
                "next": page[-1].public_id if len(rows) > len(page) else None,
            }
        )

    @extend_schema(
        operation_id="create_tenant",
        summary="Make a customer",
        parameters=[IDEMPOTENCY_KEY],
        request=TenantInput,
        responses={
            200: OpenApiResponse(TenantOutput, "Made, or made before with this Idempotency-Key."),
            **problems(400, 401, 403, 409, 415, 422, 503),
        },
    )
    def post(self, request: Request) -> Response:
        fields, at = read_fields(TenantInput, request, strict=True), now()

        def act() -> dict[str, Any]:
            made = create_tenant(
                name=fields["name"], plan=fields.get("plan", ""), owner_email=fields.get("owner_email", ""),
                wanted=_change(fields), by=acting_user(request), through=acting_through(request), at=at,
            )  # fmt: skip
            return _one(made, at)

        return answer_once(request, caller=acting_through(request), act=act, at=at)


class TenantView(OwnerApiView):
    """One customer."""

    owner_scope = OwnerScope.TENANTS

    @extend_schema(
        operation_id="tenant",
        summary="One customer",
        parameters=[TENANT],
        responses={200: OpenApiResponse(TenantOutput, "As it is."), **problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, tenant: str) -> Response:
        return Response(_one(find_tenant(tenant), now()))

    @extend_schema(
        operation_id="change_tenant",
        summary="Change a customer: only what is sent",
        parameters=[TENANT],
        request=TenantChangeInput,
        responses={
            200: OpenApiResponse(TenantOutput, "It holds from the next call on."),
            **problems(400, 401, 403, 404, 409, 415, 503),
        },
    )
    def patch(self, request: Request, tenant: str) -> Response:
        return self._changed(request, tenant, _change(read_fields(TenantChangeInput, request, strict=True)))

    @extend_schema(
        operation_id="disable_tenant",
        summary="Close a customer's door",
        parameters=[TENANT],
        responses={
            200: OpenApiResponse(TenantOutput, "Disabled. Nothing is deleted; `status` opens it again."),
            **problems(401, 403, 404, 503),
        },
    )
    def delete(self, request: Request, tenant: str) -> Response:
        return self._changed(request, tenant, TenantChange(enabled=False))

    def _changed(self, request: Request, tenant: str, wanted: TenantChange) -> Response:
        at = now()
        changed = change_tenant(
            organization=find_tenant(tenant), wanted=wanted, by=acting_user(request),
            through=acting_through(request), at=at,
        )  # fmt: skip
        return Response(_one(changed, at))


class TenantUsageView(OwnerApiView):
    """What a customer uses now."""

    owner_scope = OwnerScope.TENANTS

    @extend_schema(
        operation_id="tenant_usage",
        summary="What a customer uses",
        parameters=[TENANT],
        responses={200: OpenApiResponse(UsageOutput, "At this moment."), **problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, tenant: str) -> Response:
        organization = find_tenant(tenant)
        return Response(_shown_usage(organization, tenant_usage(organization, at=now())))


def find_tenant(public_id: str) -> Organization:
    """Raises NotFound."""
    found = Organization.objects.filter(public_id=public_id, archived_at=None).first()
    if found is None:
        raise NotFound
    return found


def _change(fields: dict[str, Any]) -> TenantChange:
    return TenantChange(
        name=fields.get("name", UNSAID),
        stripe_customer_id=fields.get("stripe_customer_id", UNSAID),
        daily_token_limit=fields.get("daily_token_limit", UNSAID),
        monthly_spend_cap=fields.get("monthly_spend_cap", UNSAID),
        rate_limits=read_limits(fields["rate_limits"]) if "rate_limits" in fields else UNSAID,
        currency=fields.get("currency", ""),
        enabled=fields["status"] == "active" if "status" in fields else UNSAID,
        reason=fields.get("reason", ""),
    )


def _one(organization: Organization, at: datetime) -> dict[str, Any]:
    return shown(tenants([organization], at=at)[0])


def shown(tenant: Tenant) -> dict[str, Any]:
    organization = tenant.organization
    return {
        "id": organization.public_id,
        "name": organization.name,
        "status": "active" if tenant.is_enabled else "disabled",
        "status_reason": organization.status_reason,
        "plan": tenant.plan,
        "subscription_status": tenant.subscription_status,
        "currency": tenant.currency,
        "stripe_customer_id": tenant.stripe_customer_id,
        "daily_token_limit": tenant.daily_token_limit,
        "monthly_spend_cap": _amount(tenant.monthly_spend_cap, tenant.currency),
        "rate_limits": shown_limits(tenant.rate_limits),
        "created_at": organization.created_at.isoformat(),
    }


def _shown_usage(organization: Organization, usage: TenantUsage) -> dict[str, Any]:
    period = usage.period
    currency = period.version.currency if period is not None else ""
    return {
        "tenant": organization.public_id,
        "day": f"{usage.day:%Y-%m-%d}",
        "month": f"{usage.month:%Y-%m}",
        "tokens_used_today": _whole(usage.tokens_today),
        "tokens_used_month": _whole(usage.tokens_month),
        "daily_token_limit": usage.daily_token_limit,
        "requests_today": usage.requests_today,
        "requests_count": usage.requests_month,
        "last_request": usage.last_request.isoformat() if usage.last_request is not None else None,
        "estimated_cost": _amount(usage.cost, currency),
        "currency": currency,
        "period_start": period.starts_at.isoformat() if period is not None else None,
        "period_end": period.ends_at.isoformat() if period is not None else None,
    }


def _amount(amount: Decimal | None, currency: str) -> str | None:
    return f"{amount:.{exponent(currency)}f}" if amount is not None else None


def _whole(tokens: Decimal) -> int:
    return int(tokens.to_integral_value(ROUND_HALF_UP))
