"""Making the catalogue at Stripe: what is missing is made, what is off sale and unused is taken off, nothing else.

No price is edited but for `active`. Whatever was made and whose answer was lost is found again (by metadata, meters by
event name) and taken as ours when it is what we would make. Two runs at once are kept apart by idempotency keys, which
hold for an hour of ours only: Stripe repeats also a 500 for a day.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import stripe
import structlog

from billing.models import StripeMeter, StripePrice, StripeProduct
from billing.stripe.catalogue import Payload, meter_payload, obstacle, own_items, product_payload
from billing.stripe.catalogue_account import Account
from billing.stripe.catalogue_drift import differing, meter_fields, price_fields, product_fields
from billing.stripe.catalogue_entries import Entry, entries_of, meter_event
from billing.stripe.catalogue_rows import (
    facts_of,
    has_customers_at_stripe,
    meter_row,
    price_rows,
    scale_of,
    unused_versions,
    wanted_versions,
)
from billing.stripe.client import is_away, once, once_at, plain
from plans.models import PlanVersion, PriceComponent

log = structlog.get_logger(__name__)
_NOT_THIS_ONE = (stripe.AuthenticationError, stripe.PermissionError)  # every other version meets them, too


@dataclass(slots=True)
class Applied:
    """In words: what was done, what Stripe or we refused to do, and what stays with our own invoice items."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def apply_catalogue(*, version: PlanVersion | None = None, at: datetime) -> Applied:
    """Make what is missing at Stripe for every version that is sold or used (or for this one), and take off sale there
    what is retired and unused (of its plan).

    Run again, nothing is left to do. One version that Stripe refuses holds no other back. Raises StripeNotConfigured,
    and stripe.StripeError when Stripe does not answer; what was made until then stays.
    """
    work = _Work(Account(), at)
    for wanted in wanted_versions(at=at):
        if version is None or wanted.pk == version.pk:
            work.attempt(wanted, work.lay_out)
    for unused in unused_versions(at=at):
        if version is None or unused.plan_id == version.plan_id:
            work.attempt(unused, work.take_off)
    return work.applied


class _Work:
    """One run over one look at Stripe's account."""

    def __init__(self, account: Account, at: datetime) -> None:
        self.account, self.at = account, at
        self.applied = Applied()

    def once(self, what: str, payload: Payload, replaced: str) -> stripe.RequestOptions:
        """One object for a payload; another one where the one before is gone (the account was changed)."""
        text = json.dumps([payload, replaced, f"{self.at:%Y-%m-%dT%H}"], sort_keys=True)
        return once("catalogue", what, hashlib.sha256(text.encode()).hexdigest()[:32])

    def attempt(self, version: PlanVersion, act: Callable[[PlanVersion], None]) -> None:
        try:
            act(version)
        except stripe.StripeError as error:
            if is_away(error) or isinstance(error, _NOT_THIS_ONE):
                raise
            self.applied.failed.append(f"{version}: {error.user_message or error}")
            log.warning("stripe_catalogue_refused", version=str(version), error=str(error))

    def lay_out(self, version: PlanVersion) -> None:
        facts = facts_of(version)
        if reason := obstacle(facts):
            self.applied.notes.append(f"{facts.name}: {reason}")
            return
        self.applied.notes += [f"{facts.name}: {item}" for item in own_items(facts)]
        product = self._product(version, product_payload(facts))
        rows = price_rows([version])
        for entry in entries_of(version, facts):
            meter = self._meter(entry.component) if entry.component else None
            payload = entry.payload(product=product, meter=meter.stripe_id if meter else None)
            self._price(version, entry, payload, meter, rows.get((version.pk, entry.component_id)))

    def take_off(self, version: PlanVersion) -> None:
        """Prices off sale; who is on them would stay, but nobody is."""
        product = StripeProduct.objects.filter(plan=version.plan).first()
        there = self.account.prices(product.stripe_id) if product else {}
        for row in version.stripe_prices.all():
            if there.get(row.stripe_id, {}).get("active"):
                self._set_active(row.stripe_id, f"price of {version}", there, active=False)

    # Products --------------------------------------------------------------------------------------------------------

    def _product(self, version: PlanVersion, payload: Payload) -> str:
        row = StripeProduct.objects.filter(plan=version.plan).first()
        there = self.account.products
        theirs = self.account.product(row.stripe_id) if row else self._lost_product(version.plan.slug)
        if theirs is None:
            replaced = row.stripe_id if row else ""
            made = self.account.api.products.create(payload, self.once("product", payload, replaced))  # type: ignore[arg-type]
            theirs = there[made.id] = plain(made)
            self.applied.done.append(f"product {payload['name']} made ({made.id})")
        stripe_id = str(theirs["id"])
        StripeProduct.objects.update_or_create(plan=version.plan, defaults={"stripe_id": stripe_id})
        wanted = product_fields(payload) | {"active": True}
        if differing(stripe_id, "", wanted, product_fields(theirs) | {"active": theirs["active"]}):
            key = once_at("product", stripe_id, at=self.at)
            changed = self.account.api.products.update(stripe_id, wanted, key)  # type: ignore[arg-type]
            there[stripe_id] = plain(changed)
            self.applied.done.append(f"product {payload['name']} follows its plan ({stripe_id})")
        return stripe_id

    def _lost_product(self, slug: str) -> dict[str, Any] | None:
        claimed = set(StripeProduct.objects.values_list("stripe_id", flat=True))
        found = (p for p in self.account.products.values() if p["metadata"].get("farebox_plan") == slug)
        return _oldest(product for product in found if product["id"] not in claimed)

    # Meters ----------------------------------------------------------------------------------------------------------

    def _meter(self, component: PriceComponent) -> StripeMeter:
        row = meter_row(component)
        meter, scale = component.meter, scale_of(component)
        event = meter_event(component)
        payload = meter_payload(_meter_name(component), event=event, unit=meter.unit, scale=scale)
        theirs = self.account.meter(row.stripe_id) if row else self._lost_meter(payload)
        if theirs is None:
            replaced = row.stripe_id if row else ""
            made = self.account.api.billing.meters.create(payload, self.once("meter", payload, replaced))  # type: ignore[arg-type]
            theirs = self.account.meters[made.id] = plain(made)
            self.applied.done.append(f"meter {event} made ({made.id})")
        elif theirs["status"] != "active":
            woken = self.account.api.billing.meters.reactivate(
                theirs["id"], options=once_at("meter", theirs["id"], at=self.at)
            )
            theirs = self.account.meters[woken.id] = plain(woken)
            self.applied.done.append(f"meter {event} counts again ({woken.id})")
        if row is None:
            row, _ = StripeMeter.objects.get_or_create(
                meter=meter,
                match=component.match,
                defaults={"stripe_id": theirs["id"], "event_name": event, "scale": scale},
            )
        elif row.stripe_id != theirs["id"]:
            row.stripe_id = theirs["id"]
            row.save(update_fields=["stripe_id"])
        return row

    def _lost_meter(self, payload: Payload) -> dict[str, Any] | None:
        found = (m for m in self.account.meters.values() if meter_fields(m) == meter_fields(payload))
        return _oldest(found)

    # Prices ----------------------------------------------------------------------------------------------------------

    def _price(
        self,
        version: PlanVersion,
        entry: Entry,
        payload: Payload,
        meter: StripeMeter | None,
        row: StripePrice | None,
    ) -> None:
        there = self.account.prices(payload["product"])
        theirs = (
            self.account.price(payload["product"], row.stripe_id) if row else self._lost_price(payload, there)
        )
        if theirs is None:
            if row is not None and has_customers_at_stripe(version):
                self.applied.failed.append(
                    f"{entry.name}: Stripe does not have {row.stripe_id}, and customers are on it."
                )
                return
            replaced = row.stripe_id if row else ""
            made = self.account.api.prices.create(payload, self.once("price", payload, replaced))  # type: ignore[arg-type]
            theirs = there[made.id] = plain(made)
            self.applied.done.append(f"price {entry.name} made ({made.id})")
        elif not theirs["active"]:
            self._set_active(theirs["id"], f"price {entry.name}", there, active=True)
        self._keep_price(version, entry, meter, str(theirs["id"]))

    def _keep_price(
        self, version: PlanVersion, entry: Entry, meter: StripeMeter | None, stripe_id: str
    ) -> None:
        StripePrice.objects.update_or_create(
            version=version, component=entry.component, defaults={"stripe_id": stripe_id, "meter": meter}
        )

    def _lost_price(self, payload: Payload, there: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
        claimed = set(StripePrice.objects.values_list("stripe_id", flat=True))
        wanted = price_fields(payload)
        return _oldest(
            price
            for price in there.values()
            if price["id"] not in claimed
            and price["metadata"] == payload["metadata"]
            and price_fields(price) == wanted
        )

    def _set_active(
        self, stripe_id: str, name: str, there: dict[str, dict[str, Any]], *, active: bool
    ) -> None:
        key = once_at("price", stripe_id, active, at=self.at)
        self.account.api.prices.update(stripe_id, {"active": active}, key)
        there[stripe_id]["active"] = active
        self.applied.done.append(f"{name} {'on' if active else 'off'} sale ({stripe_id})")


def _meter_name(component: PriceComponent) -> str:
    values = ", ".join(str(component.match[name]) for name in sorted(component.match))
    return f"{component.meter.name}, {values}" if values else component.meter.name


def _oldest(found: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return min(found, key=lambda each: (each["created"], each["id"]), default=None)
