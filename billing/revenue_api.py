"""The JSON API of the revenue report, for the owner's own tools."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

from django.db import InterfaceError, OperationalError
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from billing.exchange import ConvertedTotal
from billing.revenue import MonthRevenue, Movement, rate_text, whole_minor
from billing.revenue_definitions import DEFINITIONS, MOVEMENTS
from billing.revenue_queries import Charged
from billing.revenue_report import LONGEST, SHOWN_MONTHS, RevenueReport, revenue_choices, revenue_report
from core.api_errors import Unavailable
from core.clock import now
from core.schema import problems
from keys.models import OwnerScope
from keys.owner_api import OwnerApiView

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}")
_RATE = "A part of one with four digits, as text; null where there is nothing to divide by."


@extend_schema_serializer(component_name="RevenueMonth")
class MonthOutput(serializers.Serializer[Any]):
    """start + new + expansion + reactivation - contraction - churn = end. Amounts are minor units."""

    month = serializers.CharField(help_text="`2026-11`, of UTC.")
    mrr_start_minor = serializers.IntegerField()
    new_minor = serializers.IntegerField(help_text="The first MRR of a customer ever.")
    expansion_minor = serializers.IntegerField()
    contraction_minor = serializers.IntegerField()
    churn_minor = serializers.IntegerField(help_text="MRR that fell to nothing.")
    reactivation_minor = serializers.IntegerField(help_text="MRR after none.")
    mrr_end_minor = serializers.IntegerField()
    arr_minor = serializers.IntegerField(help_text="MRR at the end × 12.")
    customers_start = serializers.IntegerField(help_text="Paying customers.")
    customers_end = serializers.IntegerField()
    arpu_minor = serializers.IntegerField(allow_null=True, help_text="MRR ÷ customers at the end, rounded.")
    logo_churn = serializers.CharField(
        allow_null=True, help_text=f"Customers lost ÷ customers at the start. {_RATE}"
    )
    revenue_churn = serializers.CharField(
        allow_null=True, help_text="(Churn + contraction) ÷ MRR at the start."
    )
    net_revenue_churn = serializers.CharField(
        allow_null=True, help_text="The same less expansion and reactivation."
    )
    ltv_minor = serializers.IntegerField(allow_null=True, help_text="ARPU ÷ logo churn, rounded.")
    trials_started = serializers.IntegerField()
    trials_converted = serializers.IntegerField()
    trials_ended = serializers.IntegerField(help_text="Without payment.")
    trial_conversion = serializers.CharField(allow_null=True, help_text="Converted ÷ (converted + ended).")
    charged_fixed_minor = serializers.IntegerField(
        help_text="Fees and true-ups of final documents whose period ended."
    )
    charged_usage_minor = serializers.IntegerField()
    charged_credits_minor = serializers.IntegerField(help_text="Credit notes, negative.")


@extend_schema_serializer(component_name="RevenuePlan")
class PlanOutput(serializers.Serializer[Any]):
    plan = serializers.CharField()
    customers = serializers.IntegerField(help_text="Paying, at the end of the month.")
    mrr_minor = serializers.IntegerField()
    charged_fixed_minor = serializers.IntegerField()
    charged_usage_minor = serializers.IntegerField()


@extend_schema_serializer(component_name="RevenueCustomer")
class CustomerOutput(serializers.Serializer[Any]):
    organization = serializers.CharField(help_text="Public id: org_...")
    name = serializers.CharField()
    charged_fixed_minor = serializers.IntegerField()
    charged_usage_minor = serializers.IntegerField()
    charged_minor = serializers.IntegerField(help_text="Less credit notes.")


@extend_schema_serializer(component_name="ConvertedPart")
class PartOutput(serializers.Serializer[Any]):
    currency = serializers.CharField()
    minor = serializers.IntegerField()
    converted_minor = serializers.IntegerField(allow_null=True, help_text="Null: no rate, not in the sum.")
    rate = serializers.CharField(allow_null=True)
    rate_from = serializers.DateField(allow_null=True)
    rate_source = serializers.CharField(allow_null=True)


@extend_schema_serializer(component_name="ConvertedTotal")
class ConvertedOutput(serializers.Serializer[Any]):
    """A sum over currencies, for showing only: nothing is charged by these rates."""

    currency = serializers.CharField(help_text="The reporting currency.")
    total_minor = serializers.IntegerField()
    parts = PartOutput(many=True)


@extend_schema_serializer(component_name="RevenueDefinition")
class DefinitionOutput(serializers.Serializer[Any]):
    slug = serializers.CharField()
    formula = serializers.CharField(help_text="In words.")
    remark = serializers.CharField(help_text="Where others differ; may be empty.")

    def get_fields(
        self,
    ) -> dict[str, Any]:  # these two are attributes of the base, so they cannot be declared
        return super().get_fields() | {
            "label": serializers.CharField(),
            "source": serializers.CharField(help_text="Who defines it so."),
        }


@extend_schema_serializer(component_name="Revenue")
class RevenueOutput(serializers.Serializer[Any]):
    currency = serializers.CharField(help_text="Of `months`, `plans` and `top_customers`.")
    is_running = serializers.BooleanField(help_text="The last month is not over yet.")
    months = MonthOutput(many=True, help_text="The month asked for last.")
    plans = PlanOutput(many=True, help_text="In the month asked for.")
    top_customers = CustomerOutput(many=True, help_text="The ten charged most in the month asked for.")
    mrr_converted = ConvertedOutput()
    charged_converted = ConvertedOutput()
    definitions = DefinitionOutput(
        many=True, help_text="What each figure and movement means, as on the page."
    )


class RevenueView(OwnerApiView):
    """The revenue report, as staff see it."""

    owner_scope = OwnerScope.REVENUE

    @extend_schema(
        operation_id="revenue",
        summary="Revenue by movement, month, plan and customer",
        parameters=[
            OpenApiParameter("month", str, description="`2026-11`; otherwise the present month."),
            OpenApiParameter("months", int, description=f"How many up to it, 1 to {LONGEST}; otherwise {SHOWN_MONTHS}."),
            OpenApiParameter("currency", str, description="`USD`; otherwise the reporting currency where customers pay in it."),
        ],
        responses={200: OpenApiResponse(RevenueOutput, "The report."), **problems(400, 401, 403, 503)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        try:
            return Response(_shown(_asked_report(request.query_params, now())))
        except (OperationalError, InterfaceError) as error:
            raise Unavailable from error


def _asked_report(asked: Mapping[str, str], at: datetime) -> RevenueReport:
    """Raises ValidationError, with the parameter at fault."""
    month = _month(asked["month"], at) if "month" in asked else at.astimezone(UTC).date().replace(day=1)
    currency = asked.get("currency") or revenue_choices(at=at).currencies[0]
    if not _CURRENCY.fullmatch(currency):
        raise ValidationError({"currency": "Three capital letters, as in USD."})
    count = _count(asked.get("months", str(SHOWN_MONTHS)))
    return revenue_report(month=month, currency=currency, at=at, count=count)


def _month(text: str, at: datetime) -> date:
    found = _MONTH.fullmatch(text)
    month = date(int(found[1]), int(found[2]), 1) if found else None
    if month is None or month > at.astimezone(UTC).date():
        raise ValidationError({"month": "A month that has begun, as in 2026-11."})
    return month


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LONGEST:
        raise ValidationError({"months": f"1 to {LONGEST}."})
    return int(text)


def _shown(report: RevenueReport) -> dict[str, Any]:
    pairs = zip(report.months, report.charged, strict=True)
    return {
        "currency": report.currency,
        "is_running": report.is_running,
        "months": [_shown_month(month, charged) for month, charged in pairs],
        "plans": [
            {
                "plan": plan.plan_name, "customers": plan.customers, "mrr_minor": plan.mrr_minor,
                "charged_fixed_minor": plan.fixed_minor, "charged_usage_minor": plan.usage_minor,
            }
            for plan in report.plans
        ],
        "top_customers": [
            {
                "organization": one.public_id, "name": one.name, "charged_fixed_minor": one.fixed_minor,
                "charged_usage_minor": one.usage_minor, "charged_minor": one.total_minor,
            }
            for one in report.top
        ],
        "mrr_converted": _shown_total(report.mrr),
        "charged_converted": _shown_total(report.charges),
        "definitions": [asdict(one) for one in (*DEFINITIONS, *MOVEMENTS)],
    }  # fmt: skip


def _shown_month(month: MonthRevenue, charged: Charged) -> dict[str, Any]:
    return {
        "month": f"{month.month:%Y-%m}",
        "mrr_start_minor": month.start_minor,
        **{f"{kind.value}_minor": month.moved_minor[kind] for kind in Movement},
        "mrr_end_minor": month.end_minor,
        "arr_minor": month.arr_minor,
        "customers_start": month.customers_start,
        "customers_end": month.customers_end,
        "arpu_minor": whole_minor(month.arpu_minor),
        "logo_churn": rate_text(month.logo_churn),
        "revenue_churn": rate_text(month.revenue_churn),
        "net_revenue_churn": rate_text(month.net_revenue_churn),
        "ltv_minor": whole_minor(month.ltv_minor),
        "trials_started": month.trials_started,
        "trials_converted": month.trials_converted,
        "trials_ended": month.trials_ended,
        "trial_conversion": rate_text(month.trial_conversion),
        "charged_fixed_minor": charged.fixed_minor,
        "charged_usage_minor": charged.usage_minor,
        "charged_credits_minor": charged.credited_minor,
    }


def _shown_total(total: ConvertedTotal) -> dict[str, Any]:
    return {
        "currency": total.into,
        "total_minor": total.minor,
        "parts": [
            {
                "currency": part.currency,
                "minor": part.minor,
                "converted_minor": part.into_minor,
                "rate": f"{part.rate.rate.normalize():f}" if part.rate else None,
                "rate_from": part.rate.valid_from if part.rate else None,
                "rate_source": part.rate.source if part.rate else None,
            }
            for part in total.parts
        ],
    }
