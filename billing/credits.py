"""Prepaid credit: granted or bought, applied to invoices (what expires first goes first), expired.

Every act is one transaction of the ledger, whose entries sum to zero; acts on one customer run one after another under the
billing account's lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, Sum

from accounts.models import Organization, User
from accounts.permissions import check_can_handle_money
from accounts.services import record_audit
from billing.accounts import lock_accounts
from billing.models import (
    CreditAccount,
    CreditEntry,
    CreditGrant,
    CreditSource,
    CreditTransaction,
    CreditTransactionKind,
    Invoice,
    Statement,
)
from billing.once import check_once
from core.any_of import any_of
from core.errors import PortalError
from core.money import format_money
from core.one_by_one import one_by_one
from core.tenancy import TenantQuerySet

_SOURCE_ACCOUNTS = {
    CreditSource.GRANTED: CreditAccount.GRANTED,
    CreditSource.PURCHASED: CreditAccount.PURCHASED,
}


class CreditRefused(PortalError):
    code, status, title = "credit_refused", 400, "This credit cannot be given"


class CreditUsed(PortalError):
    code, status, title = "credit_used", 409, "Some of this credit has been used"


@dataclass(frozen=True, slots=True)
class Lot:
    """What is left of one grant, minor units."""

    grant: CreditGrant
    left_minor: int

    @property
    def used_minor(self) -> int:
        return self.grant.amount_minor - self.left_minor


@transaction.atomic
def grant_credit(
    *,
    organization: Organization,
    amount_minor: int,
    currency: str,
    reason: str,
    by: User | None,
    at: datetime,
    source: CreditSource = CreditSource.GRANTED,
    expires_at: datetime | None = None,
    statement: Statement | None = None,
    once: str = "",
) -> CreditGrant:
    """Give a customer credit, minor units. Raises Forbidden, CreditRefused for an amount of nothing or an expiry in the past, or
    SentBefore when the form with the number `once` has given it."""
    check_can_handle_money(by)
    if amount_minor <= 0:
        raise CreditRefused("The amount has to be more than zero.", field="amount")
    if expires_at is not None and expires_at <= at:
        raise CreditRefused("The expiry has to lie ahead.", field="expires_at")
    lock_accounts([organization])
    kept = check_once(organization, "credit.granted", once)
    grant = CreditGrant.objects.create(
        organization=organization,
        source=source,
        currency=currency,
        amount_minor=amount_minor,
        reason=reason,
        expires_at=expires_at,
        statement=statement,
        by=by,
        at=at,
    )
    _move(
        organization,
        CreditTransactionKind.GRANT,
        {grant: amount_minor},
        against=_SOURCE_ACCOUNTS[source],
        by=by,
        at=at,
    )
    details: dict[str, object] = {"amount": format_money(amount_minor, currency), "reason": reason} | kept
    record_audit(
        organization=organization, by=by, action="credit.granted", target=grant.public_id, at=at, details=details
    )  # fmt: skip
    return grant


@transaction.atomic
def draw_credit(
    *, organization: Organization, currency: str, most_minor: int, by: User | None, at: datetime
) -> tuple[CreditTransaction, int] | None:
    """Take credit for a demand that another collector makes: at most this amount; the act and the amount, minor units. None
    where there is no credit in the currency, or nothing to pay."""
    lock_accounts([organization])
    draws = _draws(organization, currency, most_minor, at)
    if not draws:
        return None
    act = _move(organization, CreditTransactionKind.APPLY, draws, against=CreditAccount.APPLIED, by=by, at=at)
    return act, -sum(draws.values())


def _draws(
    organization: Organization, currency: str, most_minor: int, at: datetime
) -> dict[CreditGrant, int]:
    """What each grant gives, as negative amounts: what expires first goes first."""
    draws: dict[CreditGrant, int] = {}
    for lot in credit_lots(organization, at=at):
        if lot.grant.currency == currency and most_minor > 0:
            draws[lot.grant] = -min(lot.left_minor, most_minor)
            most_minor += draws[lot.grant]
    return draws


@transaction.atomic
def apply_credit(*, invoice: Invoice, by: User | None, at: datetime) -> int:
    """Pay as much of an unpaid invoice as there is credit in its currency; how much, minor units.

    The caller decides what becomes of the invoice's state.
    """
    lock_accounts([invoice.organization])
    invoice.refresh_from_db()
    draws = _draws(invoice.organization, invoice.currency, invoice.due_minor, at)
    applied = -sum(draws.values())
    if applied:
        _move(
            invoice.organization,
            CreditTransactionKind.APPLY,
            draws,
            against=CreditAccount.APPLIED,
            by=by,
            at=at,
            invoice=invoice,
        )
        invoice.prepaid_minor += applied
        invoice.save(update_fields=["prepaid_minor"])
    return applied


@transaction.atomic
def give_back_credit(*, invoice: Invoice, by: User | None, at: datetime) -> int:
    """Return the credit that was applied to an invoice to the grants it came from; how much. What has expired meanwhile
    expires again at the next beat."""
    lock_accounts([invoice.organization])
    entries = CreditEntry.objects.for_organization(invoice.organization).filter(
        transaction__invoice=invoice, account=CreditAccount.CUSTOMER
    )
    taken = entries.values("grant").annotate(amount=Sum("amount_minor")).filter(amount__lt=0)
    amounts = {row["grant"]: -row["amount"] for row in taken}
    grants = CreditGrant.objects.for_organization(invoice.organization).filter(pk__in=amounts)
    if amounts:
        _move(
            invoice.organization,
            CreditTransactionKind.GIVE_BACK,
            {grant: amounts[grant.pk] for grant in grants},
            against=CreditAccount.APPLIED,
            by=by,
            at=at,
            invoice=invoice,
        )
    return sum(amounts.values())


@transaction.atomic
def take_back_grant(*, grant: CreditGrant, by: User | None, at: datetime) -> None:
    """Undo a grant that nothing was used of. Raises CreditUsed."""
    lock_accounts([grant.organization])
    lot = next(
        iter(_lots(CreditGrant.objects.for_organization(grant.organization).filter(pk=grant.pk))), None
    )
    if lot is None or lot.used_minor:
        raise CreditUsed
    _move(
        grant.organization,
        CreditTransactionKind.EXPIRE,
        {grant: -lot.left_minor},
        against=CreditAccount.EXPIRED,
        by=by,
        at=at,
    )


def expire_credits(*, at: datetime) -> int:
    """Take what is left of grants whose time is over; how many grants. Idempotent, one customer a transaction."""
    due = CreditGrant.objects.filter(expires_at__lte=at).annotate(left=_LEFT).filter(left__gt=0)
    organizations = Organization.objects.filter(pk__in=due.values("organization"))
    return one_by_one(organizations, lambda one: _expire_of(one, at), failed="credit_expiry_failed")


@transaction.atomic
def _expire_of(organization: Organization, at: datetime) -> int:
    lock_accounts([organization])
    due = _lots(CreditGrant.objects.for_organization(organization).filter(expires_at__lte=at))
    for lot in due:
        _move(
            organization,
            CreditTransactionKind.EXPIRE,
            {lot.grant: -lot.left_minor},
            against=CreditAccount.EXPIRED,
            by=None,
            at=at,
        )
    return len(due)


def credit_lots(organization: Organization, *, at: datetime) -> list[Lot]:
    """Grants with something left that have not expired, in the order in which they are used."""
    return _lots(
        CreditGrant.objects.for_organization(organization).filter(Q(expires_at=None) | Q(expires_at__gt=at))
    )


def credit_balances(organization: Organization, *, at: datetime) -> dict[str, int]:
    """Credit that can be used now, minor units per currency."""
    balances: dict[str, int] = {}
    for lot in credit_lots(organization, at=at):
        balances[lot.grant.currency] = balances.get(lot.grant.currency, 0) + lot.left_minor
    return balances


def with_credit(organization_ids: Iterable[int]) -> set[int]:
    """Which of these organizations have credit left, expired or not: for batches, which look closer at those only."""
    rows = CreditEntry.objects.filter(
        organization_id__in=any_of(organization_ids), account=CreditAccount.CUSTOMER
    )
    sums = rows.values("organization_id").annotate(left=Sum("amount_minor")).filter(left__gt=0)
    return set(sums.values_list("organization_id", flat=True))


_LEFT = Sum("entries__amount_minor", filter=Q(entries__account=CreditAccount.CUSTOMER))


def _lots(grants: TenantQuerySet[CreditGrant]) -> list[Lot]:
    left = grants.annotate(left=_LEFT).filter(left__gt=0)
    return [
        Lot(grant, grant.left) for grant in left.order_by(F("expires_at").asc(nulls_last=True), "at", "pk")
    ]


def _move(
    organization: Organization,
    kind: CreditTransactionKind,
    amounts: Mapping[CreditGrant, int],
    *,
    against: CreditAccount,
    by: User | None,
    at: datetime,
    invoice: Invoice | None = None,
) -> CreditTransaction:
    """One transaction: these amounts onto the customer's account, the opposite onto `against`."""
    act = CreditTransaction.objects.create(
        organization=organization, kind=kind, invoice=invoice, by=by, at=at
    )
    entries: Sequence[tuple[CreditGrant, CreditAccount, int]] = [
        pair
        for grant, amount in amounts.items()
        for pair in ((grant, CreditAccount.CUSTOMER, amount), (grant, against, -amount))
    ]
    CreditEntry.objects.bulk_create(
        CreditEntry(
            organization=organization,
            transaction=act,
            grant=grant,
            account=account,
            currency=grant.currency,
            amount_minor=amount,
        )
        for grant, account, amount in entries
    )
    return act
