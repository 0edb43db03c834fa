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
from billing.stripe.client import once_at, plain, stripe_client
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


def tell_customer(organization: Organization, *, at: datetime) -> bool:
    """What was changed there becomes our billing account's, and what was changed here Stripe's customer's; whether anything was
    sent. What was changed on both sides is as it is there. Stripe is asked first, then the account is locked. Repeating it
    changes nothing. Raises stripe.StripeError."""
    row = _row(organization)
    if row is None:
        return False
    data, there = _fetch(row)
    if data.get("deleted"):
        return False
    agreed, here = _agreed(row, there), our_details(organization)
    heard = _heard(agreed, there)
    changed = {name: here[name] for name in SENT if name not in heard and here[name] != agreed["ours"][name]}
    if changed:
        params: Any = (
            changed | {"address": _address(here["address"], data)} if "address" in changed else changed
        )
        made = plain(
            stripe_client().v1.customers.update(
                row.stripe_id, params, once_at("details", row.stripe_id, at=at)
            )
        )
        there = their_details(made, tax_id=there["tax_id"])
    if heard:
        _store(row.organization, heard, at)
    agreed = {"ours": agreed["ours"] | heard | changed, "theirs": there}
    if agreed != row.agreed:
        row.agreed = agreed
        row.save(update_fields=["agreed"])
    return bool(changed)


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


def _fetch(row: StripeCustomer) -> tuple[Json, Details]:
    customers = stripe_client().v1.customers
    data = plain(customers.retrieve(row.stripe_id))
    if data.get("deleted"):
        return data, {}
    tax_ids = plain(customers.tax_ids.list(row.stripe_id, {"limit": 1}))["data"]
    return data, their_details(data, tax_id=tax_ids[0]["value"] if tax_ids else "")


def _heard(agreed: Mapping[str, Details], there: Details) -> Details:
    """What was changed there. A name or an e-mail address that was emptied stays ours."""
    changed = {name: there[name] for name in LENGTHS if there[name] != agreed["theirs"][name]}
    return {name: text for name, text in changed.items() if text or name in ("address", "tax_id")}


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
