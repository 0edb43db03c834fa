"""Statements, invoices and prepaid credits: what was charged, in rows that never change."""

from billing.models.account import BillingAccount
from billing.models.credit import (
    CreditAccount,
    CreditEntry,
    CreditGrant,
    CreditSource,
    CreditTransaction,
    CreditTransactionKind,
)
from billing.models.exchange import ExchangeRate
from billing.models.invoice import CollectorName, Invoice, InvoiceState
from billing.models.late import LateLook
from billing.models.simulation import SimulationRun, SimulationState
from billing.models.statement import (
    LineKind,
    Statement,
    StatementKind,
    StatementLine,
    StatementState,
    StatementTier,
)

__all__ = [
    "BillingAccount",
    "CollectorName",
    "CreditAccount",
    "CreditEntry",
    "CreditGrant",
    "CreditSource",
    "CreditTransaction",
    "CreditTransactionKind",
    "ExchangeRate",
    "Invoice",
    "InvoiceState",
    "LateLook",
    "LineKind",
    "SimulationRun",
    "SimulationState",
    "Statement",
    "StatementKind",
    "StatementLine",
    "StatementState",
    "StatementTier",
]
