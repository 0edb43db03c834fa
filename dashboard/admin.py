"""Staff lists of customers: the buttons suspend and reactivate through the act."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path

from accounts.models import Membership, Organization, User
from billing.accounts import rename_organization
from core.clock import now
from dashboard.admin_caps import cap_view, cap_words
from plans.suspension import reactivate_organization, suspend_organization


class MembershipInline(admin.TabularInline[Membership, Organization]):
    model = Membership
    extra = 0
    can_delete = False
    fields = readonly_fields = ("user", "role", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin[Organization]):
    list_display = ("name", "public_id", "status", "created_at")
    list_filter = ("status",)
    search_fields = ("name", "public_id", "memberships__user__email")
    fields = (
        "name",
        "public_id",
        "status",
        "status_reason",
        "spend_cap",
        "shard",
        "version",
        "created_at",
        "archived_at",
    )
    readonly_fields = (
        "public_id",
        "status",
        "status_reason",
        "spend_cap",
        "shard",
        "version",
        "created_at",
        "archived_at",
    )
    inlines = (MembershipInline,)
    actions = ("suspend", "reactivate")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # customers sign up

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: Organization, form: forms.ModelForm[Organization], change: Any
    ) -> None:
        """The name alone, by its act: a row that is saved as a whole would bring back the version that it was read with."""
        if "name" in form.changed_data:
            organization = Organization.objects.get(pk=obj.pk)
            rename_organization(
                organization=organization, name=obj.name, by=cast(User, request.user), at=now()
            )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(cap_view)
        return [
            path("<int:organization_id>/cap/", view, name="accounts_organization_cap"),
            *super().get_urls(),
        ]

    @admin.display(description="Spend cap")
    def spend_cap(self, organization: Organization) -> str:
        return cap_words(organization)

    @admin.action(description="Suspend: calls are refused with 402 from the next one on")
    def suspend(self, request: HttpRequest, organizations: QuerySet[Organization]) -> None:
        for organization in organizations:
            suspend_organization(
                organization=organization, reason="by staff", by=cast(User, request.user), at=now()
            )
            messages.success(request, f"{organization} is suspended.")

    @admin.action(description="Reactivate: the door opens again")
    def reactivate(self, request: HttpRequest, organizations: QuerySet[Organization]) -> None:
        for organization in organizations:
            reactivate_organization(organization=organization, by=cast(User, request.user), at=now())
            messages.success(request, f"{organization} is active again.")
