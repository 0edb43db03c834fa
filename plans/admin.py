"""Staff lists of the catalogue and of subscriptions. Buttons call acts; published versions cannot be edited."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from core.clock import now
from core.errors import PortalError
from core.readonly_admin import ReadOnlyAdmin
from plans.models import (
    Meter,
    Period,
    Plan,
    PlanVersion,
    PriceComponent,
    Product,
    RateLimit,
    Route,
    Subscription,
    VersionState,
)
from plans.publishing import publish_version
from plans.services import activate_subscription


class CredentialForm(forms.ModelForm[Product]):
    """The credential is written, never shown: an empty field keeps the stored one."""

    credential = forms.CharField(
        required=False,
        widget=forms.PasswordInput,
        help_text="Stored encrypted, never shown again. Empty: unchanged.",
    )

    forget_credential = forms.BooleanField(required=False, help_text="Send the upstream no credential any more.")

    class Meta:
        model = Product
        fields = "__all__"

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.cleaned_data.pop("forget_credential", False):
            self.cleaned_data["credential"] = ""
        elif not self.cleaned_data.get("credential"):
            self.cleaned_data["credential"] = self.instance.credential
        return cleaned


class RouteInline(admin.TabularInline[Route, Product]):
    model = Route
    extra = 0
    fields = ("name", "methods", "path", "position", "meter", "units", "required_feature", "is_active")


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin[Product]):
    form = CredentialForm
    list_display = ("name", "slug", "upstream_url", "is_active")
    list_filter = ("is_active",)
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    inlines = (RouteInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # usage refers to it; archive it instead


@admin.register(Route)
class RouteAdmin(admin.ModelAdmin[Route]):
    list_display = ("__str__", "name", "methods", "meter", "units", "required_feature", "is_active")
    list_filter = ("product", "is_active")
    list_select_related = ("product", "meter")
    search_fields = ("name", "path")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Meter)
class MeterAdmin(admin.ModelAdmin[Meter]):
    list_display = ("name", "slug", "unit", "aggregation", "decimals")
    search_fields = ("name", "slug")

    def get_readonly_fields(self, request: HttpRequest, obj: Meter | None = None) -> tuple[str, ...]:
        """Counters in Redis are in its smallest unit; the rest decides what closed periods are counted to."""
        return ("slug", "aggregation", "decimals", "time_unit", "value_property") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin[Plan]):
    list_display = ("name", "slug", "position", "is_public", "archived_at")
    list_editable = ("position", "is_public")
    search_fields = ("name", "slug")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PriceComponentInline(admin.TabularInline[PriceComponent, PlanVersion]):
    model = PriceComponent
    extra = 0


class RateLimitInline(admin.TabularInline[RateLimit, PlanVersion]):
    model = RateLimit
    extra = 0


@admin.register(PlanVersion)
class PlanVersionAdmin(admin.ModelAdmin[PlanVersion]):
    list_display = ("__str__", "state", "fee_minor", "currency", "interval", "trial_days", "published_at")
    list_filter = ("state", "plan")
    list_select_related = ("plan",)
    readonly_fields = ("state", "published_at")
    inlines = (PriceComponentInline, RateLimitInline)
    actions = ("publish",)

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        is_draft = obj is None or obj.state == VersionState.DRAFT
        return is_draft and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        is_draft = obj is not None and obj.state == VersionState.DRAFT
        return is_draft and super().has_delete_permission(request, obj)

    @admin.action(description="Publish the chosen drafts (they can't be edited afterwards)")
    def publish(self, request: HttpRequest, versions: QuerySet[PlanVersion]) -> None:
        for version in versions:
            try:
                publish_version(version=version, by=_staff(request), at=now())
            except PortalError as error:
                messages.error(request, f"{version}: {error.detail}")
            else:
                messages.success(request, f"{version} is on sale.")


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
        "organization",
        "version",
        "status",
        "started_at",
        "trial_ends_at",
        "cancels_at",
        "ended_at",
    )
    list_filter = ("status", "version__plan")
    list_select_related = ("organization", "version__plan")
    search_fields = ("organization__name", "public_id")
    inlines = (PeriodInline,)
    actions = ("activate",)

    def has_activate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("plans.change_subscription")

    @admin.action(
        description="Mark as paying (the door stays open after the trial)", permissions=["activate"]
    )
    def activate(self, request: HttpRequest, subscriptions: QuerySet[Subscription]) -> None:
        for subscription in subscriptions:
            activate_subscription(subscription=subscription, by=_staff(request), at=now())
        messages.success(request, f"{len(subscriptions)} marked as paying.")


def _staff(request: HttpRequest) -> User:
    """The admin lets nobody else in."""
    if not isinstance(request.user, User):
        raise PermissionError
    return request.user
