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
from billing.models.stripe import (
    FindingKind,
    PaymentEntry,
    PaymentKind,
    StripeCredit,
    StripeCustomer,
    StripeFinding,
    StripeInvoice,
    StripeItem,
    StripeLine,
    StripeMeter,
    StripePrice,
    StripeProduct,
    StripeSubscription,
    StripeUpgrade,
    StripeUsage,
    UpgradeState,
    UsageState,
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
    "FindingKind",
    "Invoice",
    "InvoiceState",
    "LateLook",
    "LineKind",
    "PaymentEntry",
    "PaymentKind",
    "SimulationRun",
    "SimulationState",
    "Statement",
    "StatementKind",
    "StatementLine",
    "StatementState",
    "StatementTier",
    "StripeCredit",
    "StripeCustomer",
    "StripeFinding",
    "StripeInvoice",
    "StripeItem",
    "StripeLine",
    "StripeMeter",
    "StripePrice",
    "StripeProduct",
    "StripeSubscription",
    "StripeUpgrade",
    "StripeUsage",
    "UpgradeState",
    "UsageState",
]
