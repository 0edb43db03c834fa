"""Staff lists of documents and credit. Ledgers are seen here, never edited: acts have pages of their own."""

from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from billing.accounts import change_account
from billing.models import (
    BillingAccount,
    CreditEntry,
    CreditGrant,
    CreditTransaction,
    ExchangeRate,
    Invoice,
    LateLook,
    SimulationRun,
    Statement,
    StatementLine,
    StatementTier,
    StripeUsage,
)
from billing.stripe_admin import StripeFindingAdmin, StripeMeterAdmin, StripePriceAdmin, StripeProductAdmin
from core.clock import now
from core.readonly_admin import ReadOnlyAdmin

__all__ = ["StripeFindingAdmin", "StripeMeterAdmin", "StripePriceAdmin", "StripeProductAdmin"]


@admin.register(BillingAccount)
class BillingAccountAdmin(admin.ModelAdmin[BillingAccount]):
    list_display = ("organization", "number_prefix", "legal_name", "tax_id", "currency", "next_number")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "legal_name", "number_prefix")
    readonly_fields = ("organization", "number_prefix", "next_number")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # made with the first document

    def save_model(self, request: HttpRequest, obj: BillingAccount, form: Any, change: Any) -> None:
        """By the act, which audits it; the currency is of this list only."""
        change_account(
            organization=obj.organization, legal_name=obj.legal_name, address=obj.address, tax_id=obj.tax_id,
            email=obj.email, by=cast(User, request.user), at=now(),
        )  # fmt: skip
        obj.save(update_fields=["currency"])

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class _ReadOnlyInline(admin.TabularInline[Any, Any]):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class StatementLineInline(_ReadOnlyInline):
    model = StatementLine
    fields = ("position", "kind", "text", "dimension", "quantity", "unit", "amount_minor")


@admin.register(Statement)
class StatementAdmin(ReadOnlyAdmin):
    list_display = ("number", "organization", "kind", "state", "total_minor", "currency", "finalised_at")
    list_filter = ("kind", "state", "currency")
    list_select_related = ("organization",)
    search_fields = ("number", "public_id", "organization__name")
    date_hierarchy = "finalised_at"
    inlines = (StatementLineInline,)


class StatementTierInline(_ReadOnlyInline):
    model = StatementTier
    fields = ("position", "start", "end", "quantity", "unit_price", "flat", "amount")


@admin.register(StatementLine)
class StatementLineAdmin(ReadOnlyAdmin):
    list_display = ("statement", "position", "kind", "text", "quantity", "unit", "amount_minor")
    list_filter = ("kind",)
    list_select_related = ("statement",)
    search_fields = ("statement__number",)
    inlines = (StatementTierInline,)


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    list_display = ("statement", "organization", "state", "amount_minor", "currency", "due_at", "paid_at")
    list_filter = ("state", "collector", "currency")
    list_select_related = ("organization", "statement")
    search_fields = ("public_id", "statement__number", "organization__name")


@admin.register(CreditGrant)
class CreditGrantAdmin(ReadOnlyAdmin):
    list_display = ("organization", "amount_minor", "currency", "source", "reason", "at", "expires_at")
    list_filter = ("source", "currency")
    list_select_related = ("organization",)
    search_fields = ("public_id", "organization__name")


class CreditEntryInline(_ReadOnlyInline):
    model = CreditEntry
    fields = ("account", "amount_minor", "currency", "grant")


@admin.register(CreditTransaction)
class CreditTransactionAdmin(ReadOnlyAdmin):
    list_display = ("organization", "kind", "invoice", "at")
    list_filter = ("kind",)
    list_select_related = ("organization", "invoice")
    search_fields = ("organization__name",)
    inlines = (CreditEntryInline,)


@admin.register(ExchangeRate)
class ExchangeRateAdmin(admin.ModelAdmin[ExchangeRate]):
    """Rates are added, never edited: last year's report shows the sums that it showed then."""

    list_display = ("currency", "into", "rate", "valid_from", "source")
    list_filter = ("currency", "into")
    date_hierarchy = "valid_from"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(SimulationRun)
class SimulationRunAdmin(ReadOnlyAdmin):
    """What was asked; answers are on the staff page. Outcomes of thousands of customers are not read for a list."""

    list_display = ("public_id", "version", "plan", "months", "state", "requested_by", "requested_at")
    list_filter = ("state", "version__currency")
    list_select_related = ("version__plan", "plan", "requested_by")
    search_fields = ("public_id", "version__plan__name", "plan__name", "requested_by__email")
    date_hierarchy = "requested_at"
    exclude = ("outcomes",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[SimulationRun]:
        return super().get_queryset(request).defer("outcomes")


@admin.register(StripeUsage)
class StripeUsageAdmin(ReadOnlyAdmin):
    """The outbox of usage; what is refused is sent again from its own page, where that is written down."""

    list_display = ("identifier", "organization", "meter", "hour", "value", "state", "attempts", "sent_at")
    list_filter = ("state", "meter")
    list_select_related = ("organization", "meter")
    search_fields = ("identifier", "organization__name", "organization__public_id")
    date_hierarchy = "stamped_at"


@admin.register(LateLook)
class LateLookAdmin(ReadOnlyAdmin):
    list_display = ("period", "organization", "covered_to", "looked_to")
    list_select_related = ("period__organization", "period__version__plan")
    list_filter = ("looked_to",)
    search_fields = ("period__organization__name",)

    @admin.display(ordering="period__organization__name")
    def organization(self, look: LateLook) -> str:
        return look.period.organization.name
