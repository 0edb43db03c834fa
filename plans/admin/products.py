"""Products, routes and meters, and what routes cost their owner."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from plans.admin.servers import SeenByWorkers
from plans.models import CostPrices, Meter, Product, Route, RouteCharge, RouteCost, UpstreamServer
from plans.upstream_credential import credential_fault, header_name_fault


class CredentialForm(forms.ModelForm[Any]):
    """The credential is written, never shown: an empty field keeps the stored one."""

    credential = forms.CharField(
        required=False,
        widget=forms.PasswordInput,
        help_text="Stored encrypted, never shown again. Empty: unchanged.",
    )

    forget_credential = forms.BooleanField(
        required=False, help_text="Send the upstream no credential any more."
    )

    class Meta:
        model = Product
        fields = "__all__"

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.cleaned_data.pop("forget_credential", False):
            self.cleaned_data["credential"] = ""
        elif not self.cleaned_data.get("credential"):
            self.cleaned_data["credential"] = self.instance.credential
        else:
            self._check_credential(self.cleaned_data["credential"])
        if (header := self.cleaned_data.get("credential_header")) and (fault := header_name_fault(header)):
            self.add_error("credential_header", fault)
        return cleaned

    def _check_credential(self, given: str) -> None:
        """What is typed can be sent, and there is a header to send it in."""
        if fault := credential_fault(given):
            self.add_error("credential", fault)
        if self.cleaned_data.get("credential_header") == "":
            self.add_error("credential_header", "Name the header that carries the credential.")


class RouteInline(admin.TabularInline[Route, Product]):
    model = Route
    extra = 0
    fields = (
        "name",
        "methods",
        "path",
        "position",
        "meter",
        "units",
        "websocket",
        "required_feature",
        "is_active",
    )


class UpstreamServerInline(SeenByWorkers, admin.StackedInline[UpstreamServer, Product]):
    model = UpstreamServer
    extra = 0
    kind = "product"
    verbose_name_plural = "Several servers, in the place of the upstream url"


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin[Product]):
    form = CredentialForm
    list_display = ("name", "slug", "upstream_url", "is_active")
    list_filter = ("is_active",)
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    inlines = (UpstreamServerInline, RouteInline)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # usage refers to it; archive it instead


class RouteChargeInline(admin.TabularInline[RouteCharge, Route]):
    model = RouteCharge
    extra = 0
    verbose_name_plural = "Further meters that its calls count on"


@admin.register(Route)
class RouteAdmin(admin.ModelAdmin[Route]):
    list_display = ("__str__", "name", "methods", "meter", "units", "required_feature", "is_active")
    list_filter = ("product", "websocket", "is_active")
    list_select_related = ("product", "meter")
    search_fields = ("name", "path", "public_id")
    readonly_fields = ("public_id",)  # the owner's API and questions about keys name routes by it
    inlines = (RouteChargeInline,)

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


@admin.register(CostPrices)
class CostPricesAdmin(admin.ModelAdmin[CostPrices]):
    """Prices from a moment on: added, never edited, so that a past month keeps its margin."""

    list_display = (
        "valid_from", "currency", "per_compute_ms", "per_memory_gb_second", "per_kb_out", "per_third_party_call",
    )  # fmt: skip
    list_filter = ("currency",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(RouteCost)
class RouteCostAdmin(admin.ModelAdmin[RouteCost]):
    list_display = ("route", "compute_ms", "memory_mb", "kb_out", "third_party_calls")
    list_select_related = ("route__product",)
    search_fields = ("route__name", "route__path")
