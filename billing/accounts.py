"""Billing accounts: who is billed, made with the first document; and their numbers, given under the account's lock."""

import re
from collections.abc import Iterable, Mapping
from unicodedata import normalize

from django.db import transaction

from accounts.models import Organization, User
from billing.models import BillingAccount
from core.ids import ALPHABET, random_text

PREFIX_LENGTH = 8
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
    """The organization's account, made if it has none."""
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
    *, organization: Organization, legal_name: str, address: str, tax_id: str, email: str, by: User | None
) -> BillingAccount:
    """Name and address on documents from now on; those that exist keep theirs."""
    account = lock_accounts([organization])[organization.pk]
    account.legal_name, account.address, account.tax_id, account.email = legal_name, address, tax_id, email
    account.save(update_fields=["legal_name", "address", "tax_id", "email"])
    return account


def _locked(wanted: Mapping[int, Organization]) -> dict[int, BillingAccount]:
    rows = BillingAccount.objects.filter(organization_id__in=list(wanted)).order_by("organization_id")
    return {account.organization_id: account for account in rows.select_for_update()}


def _make_accounts(organizations: list[Organization]) -> None:
    """A prefix is the name's letters; where another has taken it, some random ones are added."""
    prefixes = {organization.pk: _prefix(organization.name) for organization in organizations}
    while organizations:
        rows = [BillingAccount(organization=o, number_prefix=prefixes[o.pk]) for o in organizations]
        BillingAccount.objects.bulk_create(rows, ignore_conflicts=True)
        made = set(
            BillingAccount.objects.filter(organization__in=organizations).values_list(
                "organization_id", flat=True
            )
        )
        organizations = [o for o in organizations if o.pk not in made]
        prefixes |= {o.pk: _prefix(o.name) + _random_capitals(4) for o in organizations}


def _prefix(name: str) -> str:
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode().upper()
    return re.sub(r"[^A-Z0-9]", "", plain)[:PREFIX_LENGTH].ljust(2, "X")


def _random_capitals(length: int) -> str:
    return random_text(length).translate(_CAPITALS)
