"""Staff lists of the ledger. Rows are read-only; a dead letter can be replayed."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from redis.exceptions import RedisError

from core.clock import now
from core.errors import PortalError
from core.readonly_admin import ReadOnlyAdmin
from metering.dead_letters import replay_dead_letter
from metering.models import CounterCorrection, DeadLetter, PeriodTotal, ReasonTotal, RefusalCount


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("stream_id", "shard", "reason", "received_at", "replayed_at")
    list_filter = (("replayed_at", admin.EmptyFieldListFilter), "shard")
    search_fields = ("payload", "reason", "stream_id")
    date_hierarchy = "received_at"
    actions = ("replay",)

    @admin.action(description="Replay: store the event again", permissions=["view"])
    def replay(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        replayed = 0
        for letter in queryset.filter(replayed_at=None):
            try:
                replay_dead_letter(letter=letter, at=now())
                replayed += 1
            except (PortalError, RedisError) as error:
                self.message_user(request, f"{letter.stream_id}: {error}", messages.ERROR)
        self.message_user(
            request, f"{replayed} replayed.", messages.SUCCESS if replayed else messages.WARNING
        )


@admin.register(PeriodTotal)
class PeriodTotalAdmin(ReadOnlyAdmin):
    list_display = (
        "organization_id",
        "mode",
        "meter_id",
        "period_id",
        "dimension",
        "sum",
        "count",
        "billed_count",
    )
    list_filter = ("mode",)
    search_fields = ("=organization_id", "=period_id")


@admin.register(ReasonTotal)
class ReasonTotalAdmin(ReadOnlyAdmin):
    list_display = ("organization_id", "mode", "period_id", "reason", "count")
    list_filter = ("mode", "reason")
    search_fields = ("=organization_id", "=period_id")


@admin.register(RefusalCount)
class RefusalCountAdmin(ReadOnlyAdmin):
    list_display = ("minute", "organization_id", "mode", "api_key_id", "reason", "count")
    list_filter = ("mode", "reason")
    search_fields = ("=organization_id",)
    ordering = ("-minute",)


@admin.register(CounterCorrection)
class CounterCorrectionAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "shard",
        "organization_id",
        "mode",
        "meter_id",
        "period_id",
        "quantity",
        "reason",
        "applied_at",
    )
    list_filter = ("reason", ("applied_at", admin.EmptyFieldListFilter))
    ordering = ("-id",)
