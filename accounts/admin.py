"""Staff lists of people. Organizations stand in dashboard/admin.py: their buttons touch plans."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.models import AuditEvent, Invitation, Membership, StaffSession, User
from core.readonly_admin import ReadOnlyAdmin


@admin.register(User)
class UserAdmin(admin.ModelAdmin[User]):
    """Passwords are set by their owners: by reset, never here."""

    list_display = ("email", "name", "is_staff", "is_active", "last_login", "date_joined")
    list_filter = ("is_staff", "is_active")
    search_fields = ("email", "name")
    readonly_fields = ("email", "last_login", "date_joined")
    fields = (
        "email",
        "name",
        "time_zone",
        "is_active",
        "is_staff",
        "is_superuser",
        "last_login",
        "date_joined",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # sign-up, an invitation, or manage.py create_staff

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # audit events refer to it; make it inactive instead

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Who is staff is decided by superusers: others could raise themselves."""
        fixed = tuple(self.readonly_fields)
        is_super = request.user.is_superuser
        return fixed if is_super else (*fixed, "is_staff", "is_superuser")


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "organization__name")


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ("email", "organization", "role", "created_at", "expires_at", "accepted_at", "revoked_at")
    list_select_related = ("organization",)
    search_fields = ("email", "organization__name")
    exclude = ("token_hash",)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "action", "target", "organization", "by")
    list_select_related = ("organization", "by")
    list_filter = ("action",)
    search_fields = ("target", "organization__name", "by__email")
    date_hierarchy = "at"


@admin.register(StaffSession)
class StaffSessionAdmin(ReadOnlyAdmin):
    list_display = ("user", "created_at", "expires_at", "ended_at", "serial")
    list_select_related = ("user",)
    search_fields = ("user__email",)
    exclude = ("stamp",)
