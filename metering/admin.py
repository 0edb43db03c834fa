"""Staff lists of the ledger. Rows are read-only; a dead letter can be replayed."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from redis.exceptions import RedisError

from core.clock import now
from core.errors import PortalError
from core.readonly_admin import ReadOnlyAdmin
from metering.dead_letters import replay_dead_letter
from metering.entries import read_event
from metering.events import BadEvent
from metering.models import (
    Alert,
    AlertClock,
    AlertDelivery,
    AlertFiring,
    AlertPreference,
    AlertSettings,
    CounterCorrection,
    DeadLetter,
    PeriodTotal,
    ReasonTotal,
    RefusalCount,
)


class LetterForm(forms.ModelForm[DeadLetter]):
    """Mends a payload: what still is no event is refused here, with the field that is wrong."""

    class Meta:
        model = DeadLetter
        fields = ("payload",)

    def clean_payload(self) -> str:
        payload: str = self.cleaned_data["payload"]
        try:
            read_event(payload.encode(), received_at=self.instance.received_at)
        except BadEvent as error:
            raise forms.ValidationError(str(error)) from error
        return payload


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    form = LetterForm
    list_display = ("stream_id", "shard", "reason", "received_at", "replayed_at")
    list_filter = (("replayed_at", admin.EmptyFieldListFilter), "shard")
    search_fields = ("payload", "reason", "stream_id")
    date_hierarchy = "received_at"
    actions = ("replay",)
    readonly_fields = ("shard", "epoch", "seq", "stream_id", "reason", "received_at", "replayed_at")

    def has_change_permission(self, request: HttpRequest, obj: DeadLetter | None = None) -> bool:
        """Only the payload, and only until it is stored: saving it replays it."""
        return obj is None or obj.replayed_at is None

    def save_model(self, request: HttpRequest, obj: DeadLetter, form: Any, change: Any) -> None:
        try:
            replay_dead_letter(letter=obj, at=now(), payload=obj.payload)
        except (PortalError, RedisError) as error:
            self.message_user(request, f"Not stored: {error}", messages.ERROR)

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


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = (
        "organization",
        "kind",
        "meter",
        "threshold",
        "action",
        "enabled",
        "is_default",
        "removed_at",
    )
    list_filter = ("kind", "action", "enabled", "is_default")
    list_select_related = ("organization", "meter")
    search_fields = ("organization__name", "public_id")


@admin.register(AlertFiring)
class AlertFiringAdmin(ReadOnlyAdmin):
    list_display = ("fired_at", "organization", "text", "recovered_at")
    list_filter = (("recovered_at", admin.EmptyFieldListFilter),)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "text")
    raw_id_fields = ("alert", "period", "restriction")


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "organization",
        "kind",
        "channel",
        "recipient",
        "state",
        "attempts",
        "outcome",
    )
    list_filter = ("state", "channel", "kind")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "recipient")


@admin.register(AlertSettings)
class AlertSettingsAdmin(ReadOnlyAdmin):
    """Which customers have a webhook; its address is theirs and is not shown."""

    list_display = ("organization", "has_webhook", "defaults_at")
    list_select_related = ("organization",)
    search_fields = ("organization__name",)
    fields = ("organization", "has_webhook", "defaults_at")

    @admin.display(boolean=True, description="Webhook")
    def has_webhook(self, row: AlertSettings) -> bool:
        return bool(row.webhook_url)


@admin.register(AlertPreference)
class AlertPreferenceAdmin(ReadOnlyAdmin):
    list_display = ("alert", "membership", "by_mail")
    list_select_related = ("alert", "membership__user", "membership__organization")


@admin.register(AlertClock)
class AlertClockAdmin(ReadOnlyAdmin):
    list_display = ("seen_until",)
