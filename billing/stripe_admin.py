"""What of the catalogue is at Stripe, for staff: our rows, and whether the last check found them in step. No page here asks
Stripe anything; the nightly check and `manage.py stripe_catalogue diff` do."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from djstripe.models import Event, WebhookEventTrigger

from billing.models import (
    FindingKind,
    StripeCredit,
    StripeFinding,
    StripeLine,
    StripeMeter,
    StripePrice,
    StripeProduct,
    StripeUpgrade,
)
from billing.stripe.catalogue_sync import last_check
from core.readonly_admin import ReadOnlyAdmin


class InStep(admin.SimpleListFilter):
    title, parameter_name = "in step with Stripe", "in_step"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(finding__isnull=self.value() == "yes")


class CheckedAdmin(ReadOnlyAdmin):
    """Says above the list when it was held against Stripe last."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        at = last_check()
        when = f"{at:%d %b %Y %H:%M} UTC" if at else "not yet (or not known any more)"
        return super().changelist_view(
            request, {"subtitle": f"Held against Stripe last: {when}"} | (extra_context or {})
        )


class MirroredAdmin(CheckedAdmin):
    list_filter: ClassVar[Any] = (InStep,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        differs = StripeFinding.objects.filter(
            kind=FindingKind.PRICE, closed_at=None, subject=OuterRef("stripe_id")
        )
        rows: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = rows.annotate(finding=Subquery(differs.values("text")[:1]))
        return annotated

    @admin.display(description="In step with Stripe", boolean=True)
    def in_step(self, row: Model) -> bool:
        return getattr(row, "finding", None) is None

    @admin.display(description="Difference")
    def difference(self, row: Model) -> str:
        return getattr(row, "finding", None) or ""


@admin.register(StripeProduct)
class StripeProductAdmin(MirroredAdmin):
    list_display = ("plan", "stripe_id", "in_step", "difference")
    list_select_related = ("plan",)
    search_fields = ("plan__slug", "plan__name", "stripe_id")


@admin.register(StripePrice)
class StripePriceAdmin(MirroredAdmin):
    list_display = ("version", "component", "meter", "stripe_id", "in_step", "difference")
    list_filter = (InStep, "version__state", "version__currency", "version__interval")
    list_select_related = ("version__plan", "component__meter", "component__version__plan", "meter")
    search_fields = ("version__plan__slug", "version__plan__name", "stripe_id")


@admin.register(StripeMeter)
class StripeMeterAdmin(MirroredAdmin):
    list_display = ("event_name", "meter", "match", "scale", "stripe_id", "in_step", "difference")
    list_select_related = ("meter",)
    search_fields = ("event_name", "meter__slug", "meter__name", "stripe_id")


@admin.register(StripeFinding)
class StripeFindingAdmin(CheckedAdmin):
    list_display = ("kind", "subject", "text", "organization", "opened_at", "told_at", "closed_at", "page")
    list_filter = ("kind", ("closed_at", admin.EmptyFieldListFilter))
    list_select_related = ("organization",)
    search_fields = ("public_id", "subject", "text", "organization__name")
    date_hierarchy = "opened_at"

    @admin.display(description="Both sides")
    def page(self, row: StripeFinding) -> SafeString:
        return format_html(
            '<a href="{}">Open</a>', reverse("dashboard:staff-stripe-finding", args=[row.public_id])
        )


@admin.register(StripeLine)
class StripeLineAdmin(ReadOnlyAdmin):
    """What the last comparison of each invoice found, equal or not."""

    list_display = ("invoice", "subject", "organization", "period", "is_equal", "theirs", "ours")
    list_filter = ("is_equal",)
    list_select_related = ("invoice", "organization", "period__organization", "period__version__plan")
    search_fields = ("subject", "invoice__number", "invoice__stripe_id", "organization__name")


@admin.register(StripeUpgrade)
class StripeUpgradeAdmin(ReadOnlyAdmin):
    list_display = ("organization", "version", "state", "due_minor", "currency", "asked_at", "expires_at")
    list_filter = ("state",)
    list_select_related = ("organization", "version__plan")
    search_fields = ("stripe_id", "organization__name")
    date_hierarchy = "asked_at"


@admin.register(StripeCredit)
class StripeCreditAdmin(ReadOnlyAdmin):
    list_display = ("organization", "invoice", "amount_minor", "currency", "created_at", "sent_at")
    list_filter = (("sent_at", admin.EmptyFieldListFilter),)
    list_select_related = ("organization", "invoice")
    search_fields = ("stripe_id", "organization__name", "invoice__number", "invoice__stripe_id")
    date_hierarchy = "created_at"


def hide_the_mirror() -> None:
    """dj-stripe's own lists show keys in clear and change objects at Stripe: of these, only what arrived is seen."""
    for model in list(admin.site._registry):
        if model._meta.app_label == "djstripe":
            admin.site.unregister(model)
    for shown in (Event, WebhookEventTrigger):
        admin.site.register(shown, ReceivedAdmin)


class ReceivedAdmin(ReadOnlyAdmin):
    """Events as they came, for staff who look for one that is missing."""

    list_display = ("__str__", "created")
    date_hierarchy = "created"


hide_the_mirror()
