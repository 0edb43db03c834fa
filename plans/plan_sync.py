"""Between `plans.toml` and the database: what is there, what a file would change, and changing it.

A published version is never edited: a price list that differs becomes a new version, published after it was checked;
customers stay on theirs. What is on sale and not in the file is taken off sale. Private plans, drafts and meters that the
file does not name are left alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from difflib import ndiff

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max, Model

from accounts.models import User
from accounts.services import record_audit
from core.currencies import CURRENCIES
from core.errors import PortalError
from core.money import exponent, to_major
from plans.dimensions import filter_texts
from plans.limit_files import entry_words, limit_entry, limit_row
from plans.models import Interval, Meter, Plan, PlanVersion, PriceComponent, VersionState
from plans.plan_file import (
    Catalogue,
    ComponentEntry,
    MeterEntry,
    PlanEntry,
    PlanFileWrong,
    PriceList,
    TierEntry,
    plain,
)
from plans.publishing import publish_version, retire_version
from plans.queries import PREFETCH

ListKey = tuple[str, str]  # currency, interval
# Counters in Redis and totals are in what these say.
_FIXED_OF_METERS = ("aggregation", "decimals", "time_unit", "value_property")
_PLAN_FIELDS = ("name", "description", "position")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that applying would do; `lines` are its details, `- ` before and `+ ` after."""

    title: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"    {line}" for line in self.lines)])


def export_catalogue() -> Catalogue:
    """What is on sale, in a stable order: meters by slug, plans by position, their lists by currency and interval."""
    meters = Meter.objects.filter(archived_at=None).order_by("slug")
    plans: dict[str, PlanEntry] = {}
    for plan in Plan.objects.filter(archived_at=None, organization=None).order_by("position", "slug"):
        lists = _lists_on_sale(plan)
        if lists:
            plans[plan.slug] = _plan_entry(plan, [_price_list(lists[key]) for key in sorted(lists)])
    return Catalogue({meter.slug: _meter_entry(meter) for meter in meters}, plans)


def catalogue_changes(wanted: Catalogue) -> list[Change]:
    """What `apply_catalogue` would do; empty when nothing. Raises PlanFileWrong for what can't be done at all."""
    present = export_catalogue()
    changes = []
    for slug, entry in wanted.meters.items():
        changes += _meter_changes(slug, present.meters.get(slug), entry)
    for slug, plan in wanted.plans.items():
        changes += _plan_changes(slug, present.plans.get(slug), plan)
    for slug in present.plans.keys() - wanted.plans.keys():
        changes.append(Change(f"- plan {slug}: off sale and archived; its customers stay on it"))
    return changes


@transaction.atomic
def apply_catalogue(wanted: Catalogue, *, by: User | None, at: datetime) -> list[PlanVersion]:
    """Carry the file out, all of it or nothing; the versions that were published.

    Raises PlanFileWrong, and NotPublishable or NotRetirable where a list can't be sold or must not be missed.
    """
    present = export_catalogue()
    for slug, meter in wanted.meters.items():
        _apply_meter(slug, present.meters.get(slug), meter)
    published = []
    for slug, plan in wanted.plans.items():
        published += _apply_plan(slug, present.plans.get(slug), plan, by, at)
    for slug in present.plans.keys() - wanted.plans.keys():
        _archive_plan(Plan.objects.get(slug=slug), by, at)
    record_audit(
        organization=None, by=by, action="plans.applied", target="plans.toml", at=at,
        details={"published": [str(version) for version in published]},
    )  # fmt: skip
    return published


def find_refusal(wanted: Catalogue, *, at: datetime) -> PortalError | None:
    """Why `apply_catalogue` would refuse this file; None where it would not. Carried out and taken back: nothing stays."""
    try:
        with transaction.atomic():
            apply_catalogue(wanted, by=None, at=at)
            transaction.set_rollback(True)
    except PortalError as refused:
        return refused
    return None


# --- from the database -------------------------------------------------------------------------------------------


def _lists_on_sale(plan: Plan) -> dict[ListKey, PlanVersion]:
    versions = plan.versions.filter(state=VersionState.PUBLISHED).prefetch_related(*PREFETCH)
    return {(version.currency, version.interval): version for version in versions.order_by("number")}


def _meter_entry(meter: Meter) -> MeterEntry:
    values = {f.name: getattr(meter, f.name) for f in fields(MeterEntry)}
    values["dimensions"] = tuple(meter.dimensions)
    values["filters"] = {name: filter_texts(allowed) for name, allowed in sorted(meter.filters.items())}
    return MeterEntry(**values)


def _plan_entry(plan: Plan, prices: Iterable[PriceList]) -> PlanEntry:
    return PlanEntry(plan.name, plan.description, plan.is_public, plan.position, tuple(prices))


def _price_list(version: PlanVersion) -> PriceList:
    components = sorted(version.components.all(), key=lambda c: (c.position, c.pk))
    return PriceList(
        currency=version.currency,
        interval=version.interval,
        fee=to_major(version.fee_minor, version.currency),
        minimum=to_major(version.minimum_minor, version.currency),
        over_cap=version.over_cap,
        concurrency=version.concurrency,
        trial_days=version.trial_days,
        features=tuple(version.features),
        texts=tuple(version.texts),
        rate_limits=tuple(limit_entry(limit) for limit in version.rate_limits.all()),
        components=tuple(_component_entry(component, version.currency) for component in components),
    )


def _component_entry(component: PriceComponent, currency: str) -> ComponentEntry:
    tiers = sorted(component.tiers.all(), key=lambda t: (t.up_to is None, t.up_to or 0))
    maximum = component.maximum_minor
    return ComponentEntry(
        meter=component.meter.slug,
        model=component.model,
        match=dict(sorted(component.match.items())),
        text=component.text,
        included=component.included,
        unit_price=component.unit_price,
        package_size=component.package_size,
        quota=component.quota,
        maximum=to_major(maximum, currency) if maximum is not None else None,
        tiers=tuple(TierEntry(tier.unit_price, tier.flat_price, tier.up_to) for tier in tiers),
    )


# --- what differs ------------------------------------------------------------------------------------------------


def _meter_changes(slug: str, old: MeterEntry | None, new: MeterEntry) -> list[Change]:
    if old is None:
        return [Change(f"+ meter {slug}", tuple(f"+ {line}" for line in _said(new)))]
    fixed = [name for name in _FIXED_OF_METERS if getattr(old, name) != getattr(new, name)]
    if fixed:
        raise PlanFileWrong(f"meters.{slug}: {', '.join(fixed)} cannot change; make another meter.")
    lines = _differences(_said(old), _said(new))
    return [Change(f"~ meter {slug}", lines)] if lines else []


def _plan_changes(slug: str, old: PlanEntry | None, new: PlanEntry) -> list[Change]:
    lists = {(prices.currency, prices.interval): prices for prices in new.prices}
    if old is None:
        made = [Change(f"+ plan {slug}", tuple(f"+ {line}" for line in _said(new)))]
        return made + [_list_change("+", slug, key, None, prices) for key, prices in sorted(lists.items())]
    lines = _differences(_said(old), _said(new))
    changes = [Change(f"~ plan {slug}", lines)] if lines else []
    olds = {(prices.currency, prices.interval): prices for prices in old.prices}
    for key in sorted(olds.keys() | lists.keys()):
        if olds.get(key) != lists.get(key):
            sign = "+" if key not in olds else "-" if key not in lists else "~"
            changes.append(_list_change(sign, slug, key, olds.get(key), lists.get(key)))
    return changes


def _list_change(sign: str, slug: str, key: ListKey, old: PriceList | None, new: PriceList | None) -> Change:
    lines = _differences(_list_lines(old) if old else [], _list_lines(new) if new else [])
    end = ": off sale; its customers stay on it" if new is None else ": a new version" if old else ""
    return Change(f"{sign} plan {slug}, {key[0]} {Interval(key[1]).label.lower()}{end}", lines)


def _differences(old: list[str], new: list[str]) -> tuple[str, ...]:
    return tuple(line for line in ndiff(old, new) if line[:2] in ("- ", "+ "))


def _said(entry: MeterEntry | PlanEntry | TierEntry | ComponentEntry) -> list[str]:
    """Each field in a line of its own; lists of a plan apart."""
    named = [(f.name, getattr(entry, f.name)) for f in fields(entry) if f.name != "prices"]
    return [f"{name} {_word(value)}" for name, value in named if value not in (None, "", (), {})]


def _list_lines(prices: PriceList) -> list[str]:
    lines = [f"fee {plain(prices.fee)}", f"minimum {plain(prices.minimum)}", f"over_cap {prices.over_cap}"]
    lines += [f"concurrency {prices.concurrency or 'any'}", f"trial_days {prices.trial_days}"]
    lines += [f"feature {name}" for name in prices.features] + [f"text {text}" for text in prices.texts]
    lines += [f"rate limit {entry_words(limit)}" for limit in prices.rate_limits]
    return lines + [f"price of {', '.join(_said(component))}" for component in prices.components]


def _word(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_word(one)}" for name, one in value.items())
    if isinstance(value, tuple):
        return "; ".join(_word(one) for one in value)
    return ", ".join(_said(value)) if isinstance(value, TierEntry) else str(value)


# --- to the database ---------------------------------------------------------------------------------------------


def _apply_meter(slug: str, old: MeterEntry | None, new: MeterEntry) -> None:
    if old == new:
        return
    _meter_changes(slug, old, new)  # refuses what is fixed
    meter = Meter.objects.filter(slug=slug).first() or Meter(slug=slug)
    for name in (f.name for f in fields(MeterEntry)):
        setattr(meter, name, getattr(new, name))
    meter.dimensions = list(new.dimensions)
    meter.filters = {name: list(values) for name, values in new.filters.items()}
    meter.archived_at = None
    _save(meter, f"meters.{slug}")


def _apply_plan(
    slug: str, old: PlanEntry | None, new: PlanEntry, by: User | None, at: datetime
) -> list[PlanVersion]:
    plan = Plan.objects.filter(slug=slug).first() or Plan(slug=slug)
    if plan.organization_id is not None:
        raise PlanFileWrong(f"plans.{slug} is the private plan of a customer.")
    if old is None or replace(old, prices=()) != replace(new, prices=()):
        for name in _PLAN_FIELDS:
            setattr(plan, name, getattr(new, name))
        plan.is_public, plan.archived_at = new.public, None
        _save(plan, f"plans.{slug}")
    present = _lists_on_sale(plan)
    wanted = {(prices.currency, prices.interval): prices for prices in new.prices}
    published = [
        _publish(plan, prices, by, at)
        for key, prices in sorted(wanted.items())
        if key not in present or _price_list(present[key]) != prices
    ]
    for key in sorted(present.keys() - wanted.keys()):  # afterwards: a plan that may not be missed keeps one
        retire_version(version=present[key], by=by, at=at)
    return published


def _publish(plan: Plan, prices: PriceList, by: User | None, at: datetime) -> PlanVersion:
    where = f"plans.{plan.slug}, {prices.currency} {prices.interval}"
    if prices.currency not in CURRENCIES:
        raise PlanFileWrong(f"{where}: not a currency of ISO 4217.")
    number = (plan.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    version = PlanVersion(plan=plan, number=number, currency=prices.currency, interval=prices.interval)
    version.fee_minor = _minor(prices.fee, prices.currency, f"{where}, fee")
    version.minimum_minor = _minor(prices.minimum, prices.currency, f"{where}, minimum")
    version.over_cap, version.concurrency = prices.over_cap, prices.concurrency
    version.trial_days = prices.trial_days
    version.features, version.texts = list(prices.features), list(prices.texts)
    _save(version, where)
    for limit in prices.rate_limits:
        _save(limit_row(version, limit, f"{where}, rate limits"), f"{where}, rate limits")
    for position, entry in enumerate(prices.components, 1):
        _add_component(version, position, entry, f"{where}, {entry.meter}")
    try:
        return publish_version(version=version, by=by, at=at)
    except PortalError as refused:
        raise type(refused)(f"{where}: {refused.detail}") from refused


def _add_component(version: PlanVersion, position: int, entry: ComponentEntry, where: str) -> None:
    meter = Meter.objects.filter(slug=entry.meter).first()
    if meter is None:
        raise PlanFileWrong(f"{where}: there is no such meter.")
    maximum = (
        _minor(entry.maximum, version.currency, f"{where}, maximum") if entry.maximum is not None else None
    )
    component = PriceComponent(
        version=version, meter=meter, position=position, maximum_minor=maximum,
        model=entry.model, match=entry.match, text=entry.text, included=entry.included,
        unit_price=entry.unit_price, package_size=entry.package_size, quota=entry.quota,
    )  # fmt: skip
    _save(component, where)
    for tier in entry.tiers:
        made = component.tiers.model(
            component=component, up_to=tier.up_to, unit_price=tier.unit_price, flat_price=tier.flat_price
        )
        _save(made, f"{where}, tiers")


def _archive_plan(plan: Plan, by: User | None, at: datetime) -> None:
    for version in _lists_on_sale(plan).values():
        retire_version(version=version, by=by, at=at)
    plan.archived_at = at
    plan.save(update_fields=["archived_at"])


def _minor(amount: Decimal, currency: str, where: str) -> int:
    scaled = amount.scaleb(exponent(currency))
    if scaled != scaled.to_integral_value():
        raise PlanFileWrong(f"{where}: {currency} has {exponent(currency)} decimals.")
    return int(scaled)


def _save(row: Model, where: str) -> None:
    """Saved as the admin would take it. Raises PlanFileWrong with the fields that are wrong."""
    try:
        row.full_clean()
    except ValidationError as error:
        words = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in error.message_dict.items())
        raise PlanFileWrong(f"{where}: {words}") from error
    row.save()
