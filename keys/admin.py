"""Staff lists of keys: to see and to revoke. Hashes are not shown."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from core.clock import now
from core.readonly_admin import ReadOnlyAdmin
from keys.models import ApiKey, OwnerKey
from keys.services import revoke_key, revoke_owner_key


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "organization",
        "mode",
        "prefix",
        "last4",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = ("mode",)
    list_select_related = ("organization",)
    search_fields = ("name", "organization__name", "public_id", "last4")
    exclude = ("hash",)
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("keys.change_apikey")

    @admin.action(description="Revoke the chosen keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        by = request.user if isinstance(request.user, User) else None
        for key in keys:
            revoke_key(key=key, by=by, at=now())
        messages.success(request, f"{len(keys)} revoked: refused on their next call.")


@admin.register(OwnerKey)
class OwnerKeyAdmin(ReadOnlyAdmin):
    """To see and to revoke; new ones are made by `manage.py issue_owner_key NAME`, which shows them once."""

    list_display = ("name", "last4", "scopes", "created_at", "revoked_at")
    exclude = ("hash",)
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("keys.change_ownerkey")

    @admin.action(description="Revoke the chosen owner keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: QuerySet[OwnerKey]) -> None:
        for key in keys:
            revoke_owner_key(key=key, at=now())
        messages.success(request, "Revoked.")
