"""Plans and their versions: drafts are edited beside a preview, everything else is shown and acted on by buttons."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Max, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.clock import now
from core.errors import PortalError
from core.money import format_money
from plans.admin.forms import ComponentForm, VersionForm, tiers_as_text
from plans.admin.staff import staff
from plans.admin.version_pages import VersionPages
from plans.models import Plan, PlanVersion, PriceComponent, RateLimit, Route, VersionState
from plans.preview import public_plans_note
from plans.publishing import new_draft, publish_version
from plans.queries import PREFETCH
from plans.staff_marks import marks_of

_PRICE_FIELDS = (
    ("meter", "model", "position"),
    ("text", "match"),
    ("included", "unit_price", "package_size"),
    ("quota", "maximum_minor"),
    "tiers",
)


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin[Plan]):
    list_display = ("name", "slug", "position", "is_public", "organization", "archived_at")
    list_editable = ("position", "is_public")
    list_filter = ("is_public",)
    list_select_related = ("organization",)
    search_fields = ("name", "slug")
    autocomplete_fields = ("organization",)
    prepopulated_fields = {"slug": ("name",)}

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Any]:
        return {} if obj else dict(self.prepopulated_fields)

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        note = public_plans_note(obj)
        if note:
            messages.warning(request, note)


class PriceComponentInline(admin.StackedInline[PriceComponent, PlanVersion]):
    model = PriceComponent
    form = ComponentForm
    extra = 0
    verbose_name = "price"
    verbose_name_plural = "prices"

    def get_fields(self, request: HttpRequest, obj: PlanVersion | None = None) -> Any:
        is_draft = obj is None or obj.state == VersionState.DRAFT
        return _PRICE_FIELDS if is_draft else (*_PRICE_FIELDS[:-1], "tiers_in_words")

    def get_readonly_fields(self, request: HttpRequest, obj: PlanVersion | None = None) -> tuple[str, ...]:
        return () if obj is None or obj.state == VersionState.DRAFT else ("tiers_in_words",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceComponent]:
        return super().get_queryset(request).select_related("meter").prefetch_related("tiers")

    @admin.display(description="tiers")
    def tiers_in_words(self, component: PriceComponent) -> SafeString | str:
        return format_html("<pre>{}</pre>", tiers_as_text(component)) if component.tiers.all() else "none"


class RateLimitInline(admin.TabularInline[RateLimit, PlanVersion]):
    model = RateLimit
    extra = 0
    fields = ("scope", "route", "model", "calls", "measure", "meter", "window_seconds")

    def get_queryset(self, request: HttpRequest) -> QuerySet[RateLimit]:
        return super().get_queryset(request).select_related("route__product", "model", "meter")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Routes are called by their product: read with them, not one by one."""
        if db_field.name == "route":
            kwargs["queryset"] = Route.objects.filter(archived_at=None).select_related("product")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(PlanVersion)
class PlanVersionAdmin(VersionPages, admin.ModelAdmin[PlanVersion]):
    form = VersionForm
    list_display = ("__str__", "state", "fee_in_words", "publish_at", "published_at", "remarks")
    list_filter = ("state", "plan", "currency", "interval")
    list_select_related = ("plan",)
    inlines = (PriceComponentInline, RateLimitInline)
    actions = ("publish", "draft")
    change_form_template = "admin/plans/planversion/change_form.html"
    fieldsets = (
        (None, {"fields": ("plan", ("state", "published_at", "publish_at"))}),
        ("Fee", {"fields": (("currency", "interval", "trial_days"), ("fee", "minimum"), "over_cap")}),
        ("What it grants", {"fields": ("concurrency", ("features", "texts"))}),
    )
    readonly_fields = ("state", "published_at", "publish_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanVersion]:
        return super().get_queryset(request).prefetch_related(*PREFETCH)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """With the remarks of the versions on this page, all at once."""
        listed = super().get_changelist_instance(request)
        marks = marks_of(listed.result_list)
        for version in listed.result_list:
            version.marks = marks.get(version.pk, [])
        return listed

    def get_fieldsets(self, request: HttpRequest, obj: PlanVersion | None = None) -> Any:
        """Without the form's own fields where there is no form: a published version is only shown."""
        if obj is None or obj.state == VersionState.DRAFT:
            return self.fieldsets
        fee = {
            "fields": (
                ("currency", "interval", "trial_days"),
                ("fee_in_words", "minimum_in_words"),
                "over_cap",
            )
        }
        return (self.fieldsets[0], ("Fee", fee), self.fieldsets[2])

    def get_readonly_fields(self, request: HttpRequest, obj: PlanVersion | None = None) -> tuple[str, ...]:
        fixed = ("plan",) if obj else ()  # a list that changed its plan would be another list
        return (*self.readonly_fields, "fee_in_words", "minimum_in_words", *fixed)

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        is_draft = obj is None or obj.state == VersionState.DRAFT
        return is_draft and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        is_draft = obj is not None and obj.state == VersionState.DRAFT
        return is_draft and super().has_delete_permission(request, obj)

    def get_urls(self) -> list[URLPattern]:
        return [*self.page_urls(), *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: PlanVersion, form: Any, change: Any) -> None:
        if not change:
            obj.number = (obj.plan.versions.aggregate(last=Max("number"))["last"] or 0) + 1
        super().save_model(request, obj, form, change)

    @admin.display(description="fee", ordering="fee_minor")
    def fee_in_words(self, version: PlanVersion) -> str:
        return f"{format_money(version.fee_minor, version.currency)} a {version.interval}"

    @admin.display(description="remarks")
    def remarks(self, version: PlanVersion) -> str:
        return " ".join(getattr(version, "marks", []))

    @admin.display(description="minimum spend")
    def minimum_in_words(self, version: PlanVersion) -> str:
        return format_money(version.minimum_minor, version.currency)

    @admin.action(description="Publish the chosen drafts (they can't be edited afterwards)")
    def publish(self, request: HttpRequest, versions: QuerySet[PlanVersion]) -> None:
        for version in versions:
            try:
                publish_version(version=version, by=staff(request), at=now())
            except PortalError as error:
                messages.error(request, f"{version}: {error.detail}")
            else:
                messages.success(request, f"{version} is on sale.")

    @admin.action(description="New drafts from the chosen versions")
    def draft(self, request: HttpRequest, versions: QuerySet[PlanVersion]) -> None:
        for version in versions:
            made = new_draft(version=version, by=staff(request), at=now())
            messages.success(request, f"{made} is a draft with everything that {version} says.")
