"""Billing accounts: who is billed, made with the first document; and their numbers, given under the account's lock."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from unicodedata import normalize

from django.db import connection, transaction
from django.dispatch import Signal

from accounts.models import Organization, User
from accounts.permissions import check_can_decide_plan
from accounts.services import record_audit
from billing.models import BillingAccount
from core.any_of import any_of
from core.ids import ALPHABET, random_text

PREFIX_LENGTH = 8
account_changed = Signal()  # sent in the act's transaction with `organization`: a collector may have to know
_MAKE = """
INSERT INTO billing_billingaccount (organization_id, number_prefix, legal_name, address, tax_id, email, currency, next_number)
SELECT id, prefix, '', '', '', '', 'USD', 1 FROM unnest(%s::bigint[], %s::text[]) AS n (id, prefix)
ON CONFLICT DO NOTHING
"""
_MADE = "SELECT organization_id FROM billing_billingaccount WHERE organization_id = ANY(%s)"
_CAPITALS = str.maketrans(ALPHABET[36:], ALPHABET[10:36])


def lock_accounts(organizations: Iterable[Organization]) -> dict[int, BillingAccount]:
    """The accounts of these organizations by organization id, locked in a fixed order; missing ones are made."""
    wanted = {organization.pk: organization for organization in organizations}
    found = _locked(wanted)
    if missing := [organization for pk, organization in wanted.items() if pk not in found]:
        _make_accounts(missing)
        found = _locked(wanted)
    return found


def get_account(organization: Organization) -> BillingAccount:
    """The organization's account, made if it has none; not locked."""
    if found := BillingAccount.objects.for_organization(organization).first():
        return found
    with transaction.atomic():
        return lock_accounts([organization])[organization.pk]


def take_number(account: BillingAccount) -> str:
    """The next document number of a locked account; the caller saves `next_number` in the same transaction."""
    number = f"{account.number_prefix}-{account.next_number:04}"
    account.next_number += 1
    return number


def bill_to(account: BillingAccount, organization: Organization) -> str:
    """Name, address and tax number as they are printed on a document."""
    name = account.legal_name or organization.name
    tax_id = f"Tax number {account.tax_id}" if account.tax_id else ""
    return "\n".join(part for part in (name, account.address.strip(), tax_id) if part)


@transaction.atomic
def change_account(
    *, organization: Organization, legal_name: str, address: str, tax_id: str, email: str, by: User | None,
    at: datetime,
) -> BillingAccount:  # fmt: skip
    """Name and address on documents from now on; those that exist keep theirs. Raises Forbidden."""
    check_can_decide_plan(by, organization)
    account = lock_accounts([organization])[organization.pk]
    account.legal_name, account.address, account.tax_id, account.email = legal_name, address, tax_id, email
    account.save(update_fields=["legal_name", "address", "tax_id", "email"])
    record_audit(
        organization=organization,
        by=by,
        action="billing.account_changed",
        target=account.number_prefix,
        at=at,
    )
    account_changed.send(sender=BillingAccount, organization=organization)
    return account


@transaction.atomic
def rename_organization(
    *, organization: Organization, name: str, by: User | None, at: datetime
) -> Organization:
    """Another name, on documents too where the account has none of its own; those that exist keep theirs. Raises Forbidden."""
    check_can_decide_plan(by, organization)
    before, organization.name = organization.name, name
    organization.save(update_fields=["name"])
    record_audit(
        organization=organization, by=by, action="organization.renamed", target=organization.public_id, at=at,
        details={"before": before, "name": name},
    )  # fmt: skip
    account_changed.send(sender=Organization, organization=organization)
    return organization


def _locked(wanted: Mapping[int, Organization]) -> dict[int, BillingAccount]:
    rows = BillingAccount.objects.filter(organization_id__in=any_of(wanted)).order_by("organization_id")
    return {account.organization_id: account for account in rows.select_for_update()}


def _make_accounts(organizations: Sequence[Organization]) -> None:
    """A prefix is the name's letters; where another has it, some random ones are added."""
    wanted = {organization.pk: _prefix(organization.name) for organization in organizations}
    taken = set(
        BillingAccount.objects.filter(number_prefix__in=set(wanted.values())).values_list(
            "number_prefix", flat=True
        )
    )
    for pk, prefix in wanted.items():
        if prefix in taken:
            wanted[pk] = prefix + _random_capitals(4)
        taken.add(wanted[pk])
    while wanted:  # until neither another session nor chance took one of them
        with connection.cursor() as cursor:
            cursor.execute(_MAKE, [list(wanted), list(wanted.values())])
            cursor.execute(_MADE, [list(wanted)])
            made = {row[0] for row in cursor.fetchall()}
        wanted = {
            pk: prefix[:PREFIX_LENGTH] + _random_capitals(4)
            for pk, prefix in wanted.items()
            if pk not in made
        }


def _prefix(name: str) -> str:
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode().upper()
    return re.sub(r"[^A-Z0-9]", "", plain)[:PREFIX_LENGTH].ljust(2, "X")


def _random_capitals(length: int) -> str:
    return random_text(length).translate(_CAPITALS)
