"""What of the catalogue is not at Stripe as it should be, in words; kept as findings for who looks at it later.

`apply_catalogue` makes it so, as far as nobody's price is touched.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.core.cache import cache
from django.db import transaction

from billing.models import FindingKind, StripeFinding, StripeMeter, StripePrice, StripeProduct
from billing.stripe.catalogue import EVENT_PREFIX, meter_payload, obstacle, product_payload
from billing.stripe.catalogue_account import Account
from billing.stripe.catalogue_apply import Applied, apply_catalogue
from billing.stripe.catalogue_drift import (
    Difference,
    differing,
    meter_fields,
    missing,
    orphan,
    price_fields,
    product_fields,
)
from billing.stripe.catalogue_entries import Entry, entries_of, meter_event, meter_subject, product_subject
from billing.stripe.catalogue_rows import facts_of, meter_row, price_rows, unused_versions, wanted_versions
from plans.models import PlanVersion

__all__ = ["Applied", "apply_catalogue", "catalogue_diff", "check_catalogue", "last_check"]

_LAST_CHECK = "stripe:catalogue:checked_at"
_TEXT = 500


def catalogue_diff(*, at: datetime) -> list[Difference]:
    """Every difference between the catalogue and Stripe's account; writes nothing.

    Raises StripeNotConfigured, and stripe.StripeError when Stripe does not answer.
    """
    account = Account()
    versions = [version for version in wanted_versions(at=at) if not obstacle(facts_of(version))]
    unused = unused_versions(at=at)
    return [
        *_product_differences(account, versions),
        *_meter_differences(account, versions),
        *_price_differences(account, versions),
        *_unused_differences(account, unused),
        *_orphans(account),
    ]


def check_catalogue(*, at: datetime) -> list[Difference]:
    """The differences, kept as open findings; those that are gone are closed. The admin shows what was found here."""
    found = catalogue_diff(at=at)
    _keep(found, at)
    cache.set(_LAST_CHECK, at, None)
    return found


def last_check() -> datetime | None:
    """When the catalogue was held against Stripe last; None: never, or not known any more."""
    at = cache.get(_LAST_CHECK)
    return at if isinstance(at, datetime) else None


@transaction.atomic
def _keep(found: list[Difference], at: datetime) -> None:
    by_subject: dict[str, Difference] = {each.subject: each for each in found}
    still_open = StripeFinding.objects.filter(kind=FindingKind.PRICE, closed_at=None)
    still_open.exclude(subject__in=by_subject).update(closed_at=at)
    for subject, each in by_subject.items():
        StripeFinding.objects.update_or_create(
            kind=FindingKind.PRICE,
            subject=subject,
            closed_at=None,
            defaults={"text": each.text[:_TEXT], "ours": each.ours, "theirs": each.theirs},
            create_defaults={
                "text": each.text[:_TEXT],
                "ours": each.ours,
                "theirs": each.theirs,
                "opened_at": at,
            },
        )


def _product_differences(account: Account, versions: list[PlanVersion]) -> Iterator[Difference]:
    rows = dict(StripeProduct.objects.values_list("plan_id", "stripe_id"))
    for version in {version.plan_id: version for version in versions}.values():
        name = f"Product {version.plan.slug}"
        stripe_id = rows.get(version.plan_id, "")
        theirs = account.product(stripe_id)
        if theirs is None:
            yield missing(stripe_id or product_subject(version.plan.slug), name)
            continue
        ours = product_fields(product_payload(facts_of(version))) | {"active": True}
        yield from differing(stripe_id, name, ours, product_fields(theirs) | {"active": theirs["active"]})


def _meter_differences(account: Account, versions: list[PlanVersion]) -> Iterator[Difference]:
    for row in StripeMeter.objects.select_related("meter"):
        name = f"Meter {row.event_name}"
        theirs = account.meter(row.stripe_id)
        if theirs is None:
            yield missing(row.stripe_id, name)
            continue
        payload = meter_payload(row.meter.name, event=row.event_name, unit=row.meter.unit, scale=row.scale)
        ours = meter_fields(payload) | {"status": "active"}
        yield from differing(row.stripe_id, name, ours, meter_fields(theirs) | {"status": theirs["status"]})
    unmade = {
        meter_event(entry.component): meter_subject(entry.component)
        for entry in _entries(versions)
        if entry.component is not None and meter_row(entry.component) is None
    }
    for event, subject in unmade.items():
        yield missing(subject, f"Meter {event}")


def _price_differences(account: Account, versions: list[PlanVersion]) -> Iterator[Difference]:
    rows = price_rows(versions)
    products = dict(StripeProduct.objects.values_list("plan_id", "stripe_id"))
    for version in versions:
        product = products.get(version.plan_id, "")
        for entry in entries_of(version, facts_of(version)):
            row = rows.pop((version.pk, entry.component_id), None)
            yield from _price_difference(account, entry, row, product)
    for row in rows.values():  # Stripe cannot count these any more: a meter's decimals were changed
        yield from differing(
            row.stripe_id, f"Price of {row.version}", {"billed": "as an item"}, {"billed": "by Stripe"}
        )


def _price_difference(
    account: Account, entry: Entry, row: StripePrice | None, product: str
) -> Iterator[Difference]:
    name = f"Price {entry.name}"
    theirs = account.price(product, row.stripe_id) if row else None
    if row is None or theirs is None:
        yield missing(row.stripe_id if row else entry.subject, name)
        return
    meter = meter_row(entry.component) if entry.component else None
    ours = price_fields(entry.payload(product=product, meter=meter.stripe_id if meter else None))
    has = price_fields(theirs) | {"active": theirs["active"]}
    yield from differing(row.stripe_id, name, ours | {"active": True}, has)


def _unused_differences(account: Account, versions: list[PlanVersion]) -> Iterator[Difference]:
    products = dict(StripeProduct.objects.values_list("plan_id", "stripe_id"))
    for row in price_rows(versions).values():
        theirs = account.prices(products.get(row.version.plan_id, "")).get(row.stripe_id)
        if theirs is not None:
            name = f"Price of {row.version}, which is off sale and nobody is on"
            yield from differing(row.stripe_id, name, {"active": False}, {"active": theirs["active"]})


def _entries(versions: Iterable[PlanVersion]) -> Iterator[Entry]:
    for version in versions:
        yield from entries_of(version, facts_of(version))


def _orphans(account: Account) -> Iterator[Difference]:
    """Active objects that carry our marks and are in no row: of another installation, or of a lost answer."""
    products = set(StripeProduct.objects.values_list("stripe_id", flat=True))
    prices = set(StripePrice.objects.values_list("stripe_id", flat=True))
    meters = set(StripeMeter.objects.values_list("stripe_id", flat=True))
    for found in account.products.values():
        is_ours = found["id"] in products
        if not is_ours and found["active"] and "farebox_plan" in found["metadata"]:
            yield orphan(found["id"], f"Product {found['name']}")
        for price in account.prices(found["id"]).values() if is_ours else ():
            if price["active"] and price["id"] not in prices:
                yield orphan(price["id"], f"Price {price.get('nickname') or ''} of {found['name']}")
    for meter in account.meters.values():
        is_named = meter["event_name"].startswith(EVENT_PREFIX)
        if is_named and meter["status"] == "active" and meter["id"] not in meters:
            yield orphan(meter["id"], f"Meter {meter['event_name']}")
