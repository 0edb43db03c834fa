"""The usage ledger. Rows are added, never edited; no foreign keys on usage rows (ENGINE.md, section 10).

`usage_event` (range partitions by month of `occurred_at`) and `usage_event_key` (hash partitions) are made by SQL in a
migration, because Django cannot say PARTITION BY; their models are unmanaged and read them.
"""

from typing import Any, ClassVar

from django.db import models

from core.tenancy import TenantQuerySet
from keys.models import Mode

QUANTITY: Any = {"max_digits": 38, "decimal_places": 12}


class ClockTimestamp(models.Func):
    """PostgreSQL's clock at the statement's moment, not at its transaction's start."""

    function = "clock_timestamp"
    output_field = models.DateTimeField()


class UsageEvent(models.Model):
    """One call or reported usage. `quantity` in the meter's unit; 0 with a `reason` when it is not billed."""

    pk = models.CompositePrimaryKey("organization_id", "id", "occurred_at")
    id = models.UUIDField()
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    meter_id = models.BigIntegerField()
    period_id = models.BigIntegerField()
    quantity = models.DecimalField(**QUANTITY)
    api_key_id = models.BigIntegerField(default=0)
    product_id = models.BigIntegerField(default=0)
    route_id = models.BigIntegerField(default=0)
    status = models.SmallIntegerField(
        default=0, help_text="HTTP status that the client got; 0 for reported usage."
    )
    duration_us = models.BigIntegerField(default=0)
    bytes_in = models.BigIntegerField(default=0)
    bytes_out = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=40, blank=True)
    door = models.CharField(max_length=8)
    source = models.CharField(max_length=80, blank=True)
    external_id = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=40, blank=True)
    corrects_id = models.UUIDField(null=True)
    corrects_occurred_at = models.DateTimeField(null=True)
    shard = models.SmallIntegerField()
    epoch = models.CharField(max_length=32)
    seq = models.BigIntegerField()
    properties = models.JSONField(null=True)
    dimension = models.CharField(
        max_length=200,
        blank=True,
        help_text="Canonical text of the meter's dimensions, as they were when it was stored.",
    )
    stored_at = models.DateTimeField(
        db_default=ClockTimestamp(),
        help_text="By the database's clock, under the lock of its shard: cuts compare it.",
    )

    objects: ClassVar[TenantQuerySet["UsageEvent"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        managed = False
        db_table = "usage_event"


class UsageEventKey(models.Model):
    """An id given by a caller, claimed once per organization and source over all partitions."""

    pk = models.CompositePrimaryKey("organization_id", "source", "external_id")
    organization_id = models.BigIntegerField()
    source = models.CharField(max_length=80)
    external_id = models.CharField(max_length=200)
    event_id = models.UUIDField()

    objects: ClassVar[TenantQuerySet["UsageEventKey"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        managed = False
        db_table = "usage_event_key"


class UsageTotal(models.Model):
    """Hourly totals: exactly the committed events of that hour and those dimensions. 0 instead of NULL in keys."""

    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    meter_id = models.BigIntegerField()
    period_id = models.BigIntegerField()
    hour = models.DateTimeField()
    api_key_id = models.BigIntegerField(default=0)
    route_id = models.BigIntegerField(default=0)
    status_class = models.SmallIntegerField(
        default=0, help_text="2 for 200 to 299 and so on; 0 for reported usage."
    )
    dimension = models.CharField(max_length=200, blank=True, default="")
    sum = models.DecimalField(**QUANTITY)
    count = models.BigIntegerField()
    billed_count = models.BigIntegerField(help_text="Events without a reason: those that were billed.")
    min = models.DecimalField(**QUANTITY)
    max = models.DecimalField(**QUANTITY)
    last = models.DecimalField(**QUANTITY)
    last_at = models.DateTimeField()
    last_id = models.UUIDField(help_text="Of two events at the same microsecond the greater id is the last.")

    objects: ClassVar[TenantQuerySet["UsageTotal"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_total"
        constraints = [
            models.UniqueConstraint(
                "organization_id",
                "mode",
                "meter_id",
                "period_id",
                "hour",
                "api_key_id",
                "route_id",
                "status_class",
                "dimension",
                name="usage_total_key",
            )
        ]
        indexes = [models.Index(fields=["organization_id", "mode", "hour"], name="usage_total_hour")]


class PeriodTotal(models.Model):
    """Totals of a whole period and dimension, for lists of customers and for rating."""

    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    meter_id = models.BigIntegerField()
    period_id = models.BigIntegerField()
    dimension = models.CharField(max_length=200, blank=True, default="")
    sum = models.DecimalField(**QUANTITY)
    count = models.BigIntegerField()
    billed_count = models.BigIntegerField()
    max = models.DecimalField(**QUANTITY)
    last = models.DecimalField(**QUANTITY)
    last_at = models.DateTimeField()
    last_id = models.UUIDField()
    stored_at = models.DateTimeField(
        db_default=ClockTimestamp(),
        help_text="When the newest of its events was stored: after a statement's cut, it came late.",
    )

    objects: ClassVar[TenantQuerySet["PeriodTotal"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_period_total"
        constraints = [
            models.UniqueConstraint(
                "organization_id",
                "mode",
                "meter_id",
                "period_id",
                "dimension",
                name="usage_period_total_key",
            )
        ]
        indexes = [models.Index(fields=["period_id", "meter_id"], name="usage_period_total_period")]


class UniqueValue(models.Model):
    """A value that a unique count has seen in a period: its SHA-256, whatever its length."""

    pk = models.CompositePrimaryKey(
        "organization_id", "mode", "meter_id", "period_id", "dimension", "value_hash"
    )
    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    meter_id = models.BigIntegerField()
    period_id = models.BigIntegerField()
    dimension = models.CharField(max_length=200, blank=True, default="")
    value_hash = models.BinaryField(max_length=32)

    objects: ClassVar[TenantQuerySet["UniqueValue"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_unique_value"
        indexes = [models.Index(fields=["period_id", "meter_id"], name="usage_unique_value_period")]


class ReasonTotal(models.Model):
    """How many events of a period were not billed as they came, by reason; corrections and voids are kinds of their own."""

    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    period_id = models.BigIntegerField()
    reason = models.CharField(max_length=40)
    count = models.BigIntegerField()

    objects: ClassVar[TenantQuerySet["ReasonTotal"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_reason_total"
        constraints = [
            models.UniqueConstraint(
                "organization_id", "mode", "period_id", "reason", name="usage_reason_total_key"
            )
        ]


class CounterCorrection(models.Model):
    """What the counters in Redis must still be told, because only the ledger saw it: a duplicate, a replay, history.

    Applied once each, in order of their ids, by a script that remembers the last one (metering/corrections.py). A
    duplicate also stands for its number in the shard's sequence.
    """

    shard = models.SmallIntegerField()
    epoch = models.CharField(max_length=32)
    seq = models.BigIntegerField(default=0, help_text="Number of the duplicate entry; 0 when there is none.")
    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    meter_id = models.BigIntegerField()
    period_id = models.BigIntegerField()
    quantity = models.DecimalField(**QUANTITY, help_text="Added to the counter; negative for a duplicate.")
    reason = models.CharField(max_length=12)
    event_id = models.UUIDField(null=True)
    applied_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[TenantQuerySet["CounterCorrection"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_counter_correction"
        constraints = [
            models.UniqueConstraint(
                fields=["shard", "epoch", "seq"], condition=models.Q(seq__gt=0), name="usage_correction_entry"
            )
        ]
        indexes = [
            models.Index(
                fields=["shard", "id"], condition=models.Q(applied_at=None), name="usage_correction_open"
            )
        ]


class RefusalCount(models.Model):
    """Our own refusals (402, 403, 429) by minute and reason: never ledger rows, never billed."""

    organization_id = models.BigIntegerField()
    mode = models.CharField(max_length=4, choices=Mode.choices)
    api_key_id = models.BigIntegerField(default=0)
    minute = models.DateTimeField()
    reason = models.CharField(max_length=40)
    count = models.BigIntegerField()

    objects: ClassVar[TenantQuerySet["RefusalCount"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        db_table = "usage_refusal"
        constraints = [
            models.UniqueConstraint(
                "organization_id",
                "mode",
                "minute",
                "api_key_id",
                "reason",
                name="usage_refusal_key",
            )
        ]


class DeadLetter(models.Model):
    """An event that could not be stored, as it came, with the reason. Staff mend and replay it; it blocks nobody."""

    shard = models.SmallIntegerField()
    epoch = models.CharField(max_length=32, blank=True)
    seq = models.BigIntegerField(default=0)
    stream_id = models.CharField(max_length=40)
    payload = models.TextField()
    reason = models.CharField(max_length=400)
    received_at = models.DateTimeField()
    replayed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "usage_dead_letter"
        verbose_name = "dead letter"
        ordering = ["-received_at", "-pk"]
        constraints = [models.UniqueConstraint("shard", "epoch", "stream_id", name="usage_dead_letter_entry")]

    def __str__(self) -> str:
        return f"{self.stream_id}: {self.reason[:60]}"
