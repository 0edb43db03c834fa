"""The usage ledger, its totals, and what watches over it."""

from metering.models.ledger import (
    QUANTITY,
    CounterCorrection,
    DeadLetter,
    PeriodTotal,
    ReasonTotal,
    RefusalCount,
    UniqueValue,
    UsageEvent,
    UsageEventKey,
    UsageTotal,
)

__all__ = [
    "QUANTITY",
    "CounterCorrection",
    "DeadLetter",
    "PeriodTotal",
    "ReasonTotal",
    "RefusalCount",
    "UniqueValue",
    "UsageEvent",
    "UsageEventKey",
    "UsageTotal",
]
