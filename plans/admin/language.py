"""Language models: what they are called, the servers that answer for them, and their dated prices."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from plans.admin.products import CredentialForm
from plans.admin.servers import SeenByWorkers
from plans.models import LanguageModel, LanguageUpstream, ModelPrice


class UpstreamForm(CredentialForm):
    """With a credential that is written and never shown."""

    class Meta:
        model = LanguageUpstream
        fields = "__all__"


class LanguageUpstreamInline(SeenByWorkers, admin.StackedInline[LanguageUpstream, LanguageModel]):
    model = LanguageUpstream
    form = UpstreamForm
    extra = 0
    kind = "model"


class ModelPriceInline(admin.StackedInline[ModelPrice, LanguageModel]):
    """Prices from a moment on: added, never edited, so that a past call keeps its cost."""

    model = ModelPrice
    extra = 0

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(LanguageModel)
class LanguageModelAdmin(admin.ModelAdmin[LanguageModel]):
    list_display = ("name", "max_output_tokens", "servers", "is_priced", "is_active")
    list_filter = ("is_active",)
    search_fields = ("name",)
    inlines = (LanguageUpstreamInline, ModelPriceInline)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LanguageModel]:
        return super().get_queryset(request).prefetch_related("upstreams", "prices")

    @admin.display(description="Servers")
    def servers(self, model: LanguageModel) -> str:
        """Where its calls go, in the order in which they are asked."""
        return ", ".join(u.base_url for u in model.upstreams.all() if u.is_active) or "that of the product"

    @admin.display(description="Priced", boolean=True)
    def is_priced(self, model: LanguageModel) -> bool:
        return bool(model.prices.all())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # usage refers to its prices; switch it off instead
