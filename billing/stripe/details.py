"""Name, e-mail address, postal address and tax number of a customer, kept in step with Stripe; docs/stripe.md says who decides.

`StripeCustomer.agreed` is what each side said when they last were in step. A side that says something else now was changed
there; what was heard is agreed with it, so nothing is ever sent back: there is no loop. All of it runs under the customer's lock.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from accounts.models import Organization
from billing.accounts import change_account
from billing.models import BillingAccount, FindingKind, StripeCustomer
from billing.stripe.client import plain, stripe_client
from billing.stripe.customers import customer_email
from billing.stripe.findings import open_finding

Json = Mapping[str, Any]
Details = dict[str, str]
SENT = ("name", "email", "address")  # a tax id has a kind at Stripe, which only its own page asks for
LENGTHS = {"name": 200, "email": 254, "address": 1000, "tax_id": 60}


def our_details(organization: Organization) -> Details:
    """What Stripe should say. Writes nothing."""
    account = BillingAccount.objects.for_organization(organization).first()
    return {
        "name": account.legal_name if account is not None and account.legal_name else organization.name,
        "email": customer_email(organization),
        "address": account.address.strip() if account is not None else "",
        "tax_id": account.tax_id if account is not None else "",
    }


def their_details(data: Json, *, tax_id: str = "") -> Details:
    """What Stripe's customer says, an address as lines of text."""
    found = data.get("address") or {}
    city = " ".join(filter(None, [found.get("postal_code"), found.get("city")]))
    lines = [found.get("line1"), found.get("line2"), city, found.get("state"), found.get("country")]
    said = {
        "name": data.get("name") or "",
        "email": data.get("email") or "",
        "address": "\n".join(filter(None, lines)),
        "tax_id": tax_id,
    }
    return {name: text[: LENGTHS[name]] for name, text in said.items()}


def differs(row: StripeCustomer, data: Json) -> list[str]:
    """What was changed on one side and not heard on the other, by name; tax ids apart, which a list of customers lacks."""
    here, there = our_details(row.organization), their_details(data)
    agreed = _agreed(row, there)
    return [
        name for name in SENT if here[name] != agreed["ours"][name] or there[name] != agreed["theirs"][name]
    ]


def hear_customer(organization: Organization, *, at: datetime) -> bool:
    """What was changed at Stripe becomes our billing account's; whether anything was. Raises stripe.StripeError."""
    row = _row(organization)
    return row is not None and _hear(row, at)[0]


def tell_customer(organization: Organization, *, at: datetime) -> bool:
    """What was changed here becomes Stripe's customer's; whether anything was sent. What was changed there is heard first and
    holds. Repeating it changes nothing. Raises stripe.StripeError."""
    row = _row(organization)
    if row is None:
        return False
    _, data = _hear(row, at)
    agreed, here = _agreed(row, their_details(data)), our_details(organization)
    changed = [name for name in SENT if here[name] != agreed["ours"][name]]
    if data.get("deleted") or not changed:
        return False
    params: Any = {name: _address(here[name], data) if name == "address" else here[name] for name in changed}
    made = plain(stripe_client().v1.customers.update(row.stripe_id, params))
    theirs = their_details(made, tax_id=agreed["theirs"]["tax_id"])
    row.agreed = {"ours": agreed["ours"] | {name: here[name] for name in changed}, "theirs": theirs}
    row.save(update_fields=["agreed"])
    return True


def forget_customer(organization: Organization, *, at: datetime) -> None:
    """Deleted at Stripe: there is no card any more, the next Checkout makes another customer, and staff hear of it."""
    row = _row(organization)
    if row is None:
        return
    row.deleted_at, row.card, row.agreed = at, "", None
    row.save(update_fields=["deleted_at", "card", "agreed"])
    open_finding(
        kind=FindingKind.CUSTOMER, subject=f"reconcile: {row.stripe_id}", at=at, organization_id=organization.pk,
        text=f"{organization.name} ({row.stripe_id}) was deleted at Stripe.",
    )  # fmt: skip


def _row(organization: Organization) -> StripeCustomer | None:
    rows = StripeCustomer.objects.for_organization(organization).filter(deleted_at=None)
    return rows.select_related("organization").first()


def _agreed(row: StripeCustomer, there: Details) -> dict[str, Details]:
    """Of a customer that was never compared: its name and e-mail address there, which ours replace, and nothing else."""
    if row.agreed is not None:
        return dict(row.agreed)
    known = there | {"address": "", "tax_id": ""}
    return {"ours": known, "theirs": known}


def _hear(row: StripeCustomer, at: datetime) -> tuple[bool, Json]:
    customers = stripe_client().v1.customers
    data = plain(customers.retrieve(row.stripe_id))
    if data.get("deleted"):
        return False, data
    tax_ids = plain(customers.tax_ids.list(row.stripe_id, {"limit": 1}))["data"]
    there = their_details(data, tax_id=tax_ids[0]["value"] if tax_ids else "")
    agreed = _agreed(row, there)
    heard = {name: there[name] for name in LENGTHS if there[name] != agreed["theirs"][name]}
    kept = {name: text for name, text in heard.items() if text or name in ("address", "tax_id")}
    if kept:
        _store(row.organization, kept, at)
    if heard or row.agreed is None:
        row.agreed = {"ours": agreed["ours"] | kept, "theirs": there}
        row.save(update_fields=["agreed"])
    return bool(kept), data


def _store(organization: Organization, heard: Details, at: datetime) -> None:
    account = BillingAccount.objects.for_organization(organization).first()
    facts = {
        "legal_name": account.legal_name if account is not None else "",
        "email": account.email if account is not None else "",
        "address": account.address if account is not None else "",
        "tax_id": account.tax_id if account is not None else "",
    }
    facts |= {"legal_name" if name == "name" else name: text for name, text in heard.items()}
    change_account(organization=organization, by=None, at=at, **facts)


def _address(text: str, data: Json) -> Any:
    """Our lines as Stripe's: the first, and the others as its second. The country there stays, because tax depends on it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    country = (data.get("address") or {}).get("country") or ""
    rest = {"city": "", "postal_code": "", "state": "", "country": country}
    return {"line1": lines[0], "line2": ", ".join(lines[1:]), **rest}
