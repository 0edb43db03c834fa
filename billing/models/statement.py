"""Statements: what a period cost, in lines and tiers. Finalised ones never change (triggers); a draft is not stored.

Lines and tiers are written by the hundred thousand in one COPY. Their parents are therefore checked by triggers for a
whole COPY at once (migration 0001), not by a foreign key's check of each row; nothing is ever deleted.
"""

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from accounts.models import Organization
from core.ids import public_id
from core.tenancy import TenantQuerySet
from plans.models import Meter, Period, PlanVersion, Subscription

QUANTITY: Any = {"max_digits": 38, "decimal_places": 12}
EXACT: Any = {"max_digits": 62, "decimal_places": 24}  # a quantity times a price, before rounding


def statement_public_id() -> str:
    return public_id("stm")


class StatementKind(models.TextChoices):
    PERIOD = "period", "Statement"
    ADJUSTMENT = "adjustment", "Adjustment"
    CREDIT_NOTE = "credit_note", "Credit note"


class StatementState(models.TextChoices):
    FINALISED = "finalised", "Final"
    VOID = "void", "Void"


class LineKind(models.TextChoices):
    FEE = "fee", "Fee"
    FEE_CREDIT = "fee_credit", "Credit of the fee"
    USAGE = "usage", "Usage"
    MINIMUM = "minimum", "True-up to the minimum"
    WRITE_OFF = "write_off", "Written off"
    ADJUSTMENT = "adjustment", "Adjustment of an earlier period"
    CREDIT = "credit", "Credit"


class Statement(models.Model):
    """A document of one period: the period's own statement, an adjustment of it, or a credit note.

    Usage counts that the ledger stored up to `cut_at`, so that the statement can be recomputed for ever. Only `state`,
    `voided_at` and `void_reason` may change, once. `corrects` is the document that an adjustment or credit note belongs to;
    `replaces` the void one that this one was made for.
    """

    public_id = models.CharField(max_length=40, unique=True, default=statement_public_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="statements", db_index=False)
    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="statements", db_index=False)
    period = models.ForeignKey(Period, models.PROTECT, related_name="statements")
    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=11, choices=StatementKind.choices)
    state = models.CharField(max_length=9, choices=StatementState.choices, default=StatementState.FINALISED)
    number = models.CharField(max_length=24)
    bill_to = models.TextField(blank=True, help_text="Name, address and tax number as they were.")
    currency = models.CharField(max_length=3)
    total_minor = models.BigIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    cut_at = models.DateTimeField()
    finalised_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True, blank=True)
    void_reason = models.CharField(max_length=200, blank=True)
    note = models.CharField(max_length=200, blank=True, help_text="Why it was made, printed on it.")
    corrects = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="corrections")
    replaces = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="replacements")

    objects: ClassVar[TenantQuerySet["Statement"]] = TenantQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["-finalised_at", "-pk"]
        constraints = [
            models.UniqueConstraint("organization", "number", name="statement_number"),
            models.UniqueConstraint(
                "period", condition=Q(kind="period", state="finalised"), name="statement_one_per_period"
            ),
            models.CheckConstraint(
                condition=Q(state="finalised", voided_at=None) | Q(state="void", voided_at__isnull=False),
                name="statement_void_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(kind="credit_note") | Q(corrects__isnull=False, total_minor__lt=0),
                name="statement_credit_note",
            ),
        ]
        indexes = [models.Index(fields=["organization", "-finalised_at"], name="statement_organization")]

    def __str__(self) -> str:
        return self.number

    @property
    def is_void(self) -> bool:
        return self.state == StatementState.VOID


class StatementLine(models.Model):
    """A line as it is worded on page, PDF, CSV and API. `quantity` in the meter's unit; the amounts add up to the total.

    An adjustment line bills what the ledger stored of `of_period` after `since` and up to the statement's cut.
    """

    statement = models.ForeignKey(
        Statement, models.PROTECT, related_name="lines", db_constraint=False, db_index=False
    )
    position = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=10, choices=LineKind.choices)
    text = models.CharField(max_length=200)
    meter = models.ForeignKey(
        Meter, models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False
    )
    unit = models.CharField(max_length=30, blank=True)
    dimension = models.CharField(
        max_length=400,
        blank=True,
        help_text="Canonical text of the priced dimension values (plans.dimensions).",
    )
    quantity = models.DecimalField(**QUANTITY)
    amount_minor = models.BigIntegerField()
    of_period = models.ForeignKey(
        Period, models.PROTECT, null=True, related_name="+", db_constraint=False, db_index=False
    )
    since = models.DateTimeField(null=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint("statement", "position", name="statement_line_position")]
        indexes = [
            models.Index(
                fields=["of_period"], condition=Q(of_period__isnull=False), name="statement_line_of_period"
            )
        ]

    def __str__(self) -> str:
        return f"{self.statement_id}/{self.position} {self.text}"


class StatementTier(models.Model):
    """`quantity` units of the range (`start`, `end`] at `unit_price`, and `flat` once; `amount` is exact, major units.

    In an adjustment the difference to what was billed before: quantity and amount may be negative.
    """

    line = models.ForeignKey(
        StatementLine, models.PROTECT, related_name="tiers", db_constraint=False, db_index=False
    )
    position = models.PositiveSmallIntegerField()
    start = models.DecimalField(**QUANTITY)
    end = models.DecimalField(**QUANTITY, null=True)
    quantity = models.DecimalField(**QUANTITY)
    unit_price = models.DecimalField(max_digits=24, decimal_places=12)
    flat = models.DecimalField(**EXACT, default=0)
    amount = models.DecimalField(**EXACT)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint("line", "position", name="statement_tier_position")]

    def __str__(self) -> str:
        return f"{self.quantity} at {self.unit_price}"
