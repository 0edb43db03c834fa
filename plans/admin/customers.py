"""What customers have: subscriptions, overrides, caps, restrictions, and the log of it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from core.clock import now
from core.errors import PortalError
from core.readonly_admin import ReadOnlyAdmin
from plans.admin.forms import ChangeForm
from plans.admin.staff import staff
from plans.models import (
    Counted,
    LimitScope,
    Override,
    OverrideKind,
    Period,
    Restriction,
    Route,
    SpendCap,
    Subscription,
    SubscriptionEvent,
)
from plans.overrides import Grant, OverrideIncomplete, check_override, end_override, set_override
from plans.services import activate_subscription, schedule_change


class PeriodInline(admin.TabularInline[Period, Subscription]):
    model = Period
    extra = 0
    can_delete = False
    fields = readonly_fields = ("version", "starts_at", "ends_at", "is_trial")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    list_display = (
        "organization", "version", "next_version", "status", "started_at", "trial_ends_at", "cancels_at", "ended_at",
    )  # fmt: skip
    list_filter = ("status", "version__plan")
    list_select_related = ("organization", "version__plan", "next_version__plan")
    search_fields = ("organization__name", "public_id")
    inlines = (PeriodInline,)
    actions = ("activate",)
    change_form_template = "admin/plans/subscription/change_form.html"

    def has_activate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("plans.change_subscription")

    def get_urls(self) -> list[URLPattern]:
        page = path(
            "<int:pk>/schedule/",
            self.admin_site.admin_view(self.schedule_page),
            name="plans_subscription_schedule",
        )
        return [page, *super().get_urls()]

    def schedule_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Another price list from the period's end on: any that is on sale, and the customer's private ones."""
        if not self.has_activate_permission(request):
            raise PermissionDenied
        subscription = get_object_or_404(
            Subscription.objects.select_related("organization", "version__plan"), pk=pk
        )
        form = ChangeForm(request.POST or None, subscription=subscription)
        if request.method == "POST" and (request.POST.get("act") == "forget" or form.is_valid()):
            version = (
                subscription.version if request.POST.get("act") == "forget" else form.cleaned_data["version"]
            )
            try:
                schedule_change(subscription=subscription, version=version, by=staff(request), at=now())
            except PortalError as refused:
                messages.error(request, refused.detail)
            else:
                words = f"{subscription.organization} is on {version} from the end of its period on."
                self.log_change(request, subscription, words)
                messages.success(request, words)
            return redirect(reverse("admin:plans_subscription_change", args=[pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Change the plan of {subscription.organization}",
            "opts": self.opts,
            "original": subscription,
            "subscription": subscription,
            "form": form,
        }
        return TemplateResponse(request, "admin/plans/subscription/schedule.html", context)

    @admin.action(
        description="Mark as paying (the door stays open after the trial)", permissions=["activate"]
    )
    def activate(self, request: HttpRequest, subscriptions: QuerySet[Subscription]) -> None:
        marked = 0
        for subscription in subscriptions:
            try:
                activate_subscription(subscription=subscription, by=staff(request), at=now())
            except PortalError as refused:
                messages.error(request, f"{subscription.organization}: {refused.detail}")
            else:
                marked += 1
        if marked:
            messages.success(request, f"{marked} marked as paying.")


class OverrideForm(forms.ModelForm[Override]):
    class Meta:
        model = Override
        fields = (
            "organization", "kind", "scope", "route", "model", "measure", "window_seconds", "meter", "amount",
            "feature", "reason", "ends_at",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.fields:  # none where it is only shown
            for name in ("scope", "measure"):
                self.fields[name].required = False
            routes = Route.objects.filter(archived_at=None).select_related("product")
            self.fields["route"].queryset = routes  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """The act's own check, said beside the field."""
        cleaned = super().clean() or self.cleaned_data
        cleaned["scope"] = cleaned.get("scope") or LimitScope.ORGANIZATION
        cleaned["measure"] = cleaned.get("measure") or Counted.CALLS
        if not self.errors:
            values = {name: cleaned.get(name) for name in self._meta.fields or ()}
            try:
                check_override(Override(**values, starts_at=now()))
            except OverrideIncomplete as refused:
                self.add_error(refused.field or None, refused.detail)
        return cleaned


@admin.register(Override)
class OverrideAdmin(admin.ModelAdmin[Override]):
    """Granted and ended by acts; what was granted is never edited."""

    form = OverrideForm
    list_display = (
        "organization",
        "kind",
        "scope",
        "route",
        "model",
        "measure",
        "window_seconds",
        "meter",
        "amount",
        "feature",
        "starts_at",
        "ends_at",
        "reason",
    )
    list_filter = ("kind",)
    list_select_related = ("organization", "meter", "model", "route__product")
    search_fields = ("organization__name", "organization__public_id", "reason")
    autocomplete_fields = ("organization",)
    actions = ("end_now",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("plans.change_override")

    def save_model(self, request: HttpRequest, obj: Override, form: Any, change: Any) -> None:
        made = set_override(
            organization=obj.organization,
            grant=Grant(
                OverrideKind(obj.kind),
                obj.amount,
                obj.window_seconds,
                obj.meter,
                obj.feature,
                obj.scope,
                obj.measure,
                obj.route,
                obj.model,
            ),  # fmt: skip
            reason=obj.reason,
            by=staff(request),
            at=now(),
            ends_at=obj.ends_at,
        )
        obj.pk, obj.public_id, obj.starts_at = made.pk, made.public_id, made.starts_at

    @admin.action(description="End the chosen overrides now", permissions=["end"])
    def end_now(self, request: HttpRequest, overrides: QuerySet[Override]) -> None:
        for override in overrides:
            try:
                end_override(override=override, by=staff(request), at=now())
            except PortalError as refused:
                messages.error(request, f"{override}: {refused.detail}")
            else:
                messages.success(request, f"{override} has ended.")


@admin.register(SpendCap)
class SpendCapAdmin(ReadOnlyAdmin):
    list_display = ("organization", "side", "amount_minor", "currency", "spent_minor", "by", "at")
    list_filter = ("side", "currency")
    list_select_related = ("organization", "by")
    search_fields = ("organization__name", "organization__public_id")


@admin.register(Restriction)
class RestrictionAdmin(ReadOnlyAdmin):
    list_display = ("organization", "kind", "calls_per_minute", "cause", "at", "lifted_at")
    list_filter = ("kind",)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__public_id", "cause")


@admin.register(SubscriptionEvent)
class SubscriptionEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "organization", "kind", "version", "previous_mrr_minor", "mrr_minor", "currency")
    list_filter = ("kind",)
    list_select_related = ("organization", "version__plan")
    search_fields = ("organization__name", "organization__public_id")
    date_hierarchy = "at"
