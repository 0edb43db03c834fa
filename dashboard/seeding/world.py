"""Makes the demo's world through the acts of the product: catalogue, sample product, staff, customers with history."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.models import Membership, Organization, Role, User
from accounts.models.organization import SHARDS
from core.clock import to_micros
from core.ids import event_id
from dashboard.seeding.companies import COMPANIES, Company
from dashboard.seeding.traffic import HISTORY_DAYS, Burst, hourly_bursts, single_calls
from keys.models import ApiKey
from keys.services import IssuedKey, issue_key
from metering.events import Event
from plans.default_catalogue import CALLS_METER, install_default_catalogue
from plans.models import Meter, Period, Product, Route, Subscription, WebSocketBilling
from plans.queries import newest_version
from plans.services import (
    activate_subscription,
    cancel_subscription,
    change_plan,
    roll_periods,
    start_subscription,
)

SEED = 7
LAST_HOUR_CALLS = 60
PASSWORD = "demo-farebox"  # noqa: S105 - of the demo, printed on its first screen
STAFF_EMAIL = "staff@farebox.example"
CAST = {
    "alice@northwind.example": ("Alice Berg", Role.OWNER),
    "bob@northwind.example": ("Bob Lind", Role.DEVELOPER),
}


class RouteSeed(NamedTuple):
    """A route of the sample product; `feature` is what a plan needs to have."""

    name: str
    methods: tuple[str, ...]
    path: str
    feature: str = ""
    units: Decimal = Decimal(1)
    websocket: str = ""


ROUTES = (
    RouteSeed("Search", ("GET",), "/v1/search"),
    RouteSeed("Reverse geocoding", ("GET",), "/v1/reverse"),
    RouteSeed("City", ("GET",), "/v1/cities/{id}"),
    RouteSeed("Language of a text", ("POST",), "/v1/text/language"),
    RouteSeed("Readability of a text", ("POST",), "/v1/text/readability"),
    RouteSeed("Nearby cities", ("GET",), "/v1/nearby", "all_endpoints"),
    RouteSeed("Export of a country", ("GET",), "/v1/export", "all_endpoints", Decimal(5)),
    RouteSeed("Follow a position", ("GET",), "/v1/follow", websocket=WebSocketBilling.CLIENT_MESSAGES),
)
HISTORY_ROUTES = 5


@dataclass(frozen=True, slots=True)
class Customer:
    """A seeded customer with what its traffic refers to."""

    company: Company
    organization: Organization
    keys: list[ApiKey]
    periods: list[Period]
    ends_at: datetime


def make_catalogue(*, upstream_url: str, at: datetime) -> list[Route]:
    """The default plans and the sample product with its routes."""
    install_default_catalogue(at=at)
    product, _ = Product.objects.get_or_create(
        slug="places",
        defaults={
            "name": "Places",
            "description": "Cities of the world: search, reverse geocoding, and two tools for texts.",
            "upstream_url": upstream_url,
        },
    )
    meter = Meter.objects.get(slug=CALLS_METER)
    return [_make_route(product, meter, seed, position) for position, seed in enumerate(ROUTES)]


def make_person(email: str, name: str, *, is_staff: bool = False, password: str = PASSWORD) -> User:
    """A person with a confirmed address."""
    user = User.objects.create_user(email, password, name=name, is_staff=is_staff, is_superuser=is_staff)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


@transaction.atomic
def make_customer(company: Company, *, at: datetime) -> Customer:
    """Organization, people, subscription with all its periods until now, and keys."""
    since = (at - timedelta(days=company.since_days)).replace(hour=9, minute=12, second=0, microsecond=0)
    rng = random.Random(f"{SEED}:{company.name}")  # noqa: S311 - a believable past, not a secret
    organization = Organization.objects.create(
        name=company.name, shard=rng.randrange(SHARDS), created_at=since
    )
    owner = _make_members(organization, company, since)
    subscription = start_subscription(
        organization=organization, version=newest_version(company.began or company.plan), by=owner, at=since
    )
    ends_at = _live_until(subscription, company, owner, at)
    keys = [
        issue_key(organization=organization, name=name, mode="live", by=owner, at=since).key
        for name in company.keys
    ]
    return Customer(company, organization, keys, [], ends_at)


def history(customer: Customer, routes: list[Route], meter: Meter, *, at: datetime) -> Iterator[Event]:
    """The customer's usage until an hour ago in hourly sums, then single calls, in order of time."""
    rng = random.Random(f"{SEED}:{customer.organization.name}:usage")  # noqa: S311
    periods = list(Period.objects.for_organization(customer.organization).order_by("starts_at"))
    start = max(at - timedelta(days=HISTORY_DAYS), periods[0].starts_at)
    single_from = at - timedelta(hours=1)
    known = min(HISTORY_ROUTES, len(routes))
    bursts = list(
        hourly_bursts(
            customer.company, start=start, end=min(customer.ends_at, single_from), routes=known, rng=rng
        )
    )
    if customer.ends_at > single_from:
        bursts += single_calls(
            since=single_from, until=min(customer.ends_at, at) - timedelta(seconds=5), count=_last_hour(customer.company),
            keys=len(customer.keys), routes=known, rng=rng,
        )  # fmt: skip
    for burst in bursts:
        period = next(p for p in reversed(periods) if p.starts_at <= burst.at)
        yield _event(customer, burst, routes[burst.route], meter, period, rng)


def issue_demo_key(organization: Organization, *, by: User, at: datetime) -> IssuedKey:
    """The key that the demo prints."""
    return issue_key(organization=organization, name="demo", mode="live", by=by, at=at)


def _make_route(product: Product, meter: Meter, seed: RouteSeed, position: int) -> Route:
    route, _ = Route.objects.get_or_create(
        product=product,
        path=seed.path,
        defaults={
            "name": seed.name,
            "methods": list(seed.methods),
            "position": position,
            "meter": meter,
            "units": seed.units,
            "required_feature": seed.feature,
            "websocket": seed.websocket,
        },
    )
    return route


def _make_members(organization: Organization, company: Company, since: datetime) -> User:
    """Northwind is the cast's company; the others have one owner each."""
    if company is COMPANIES[0]:
        people = [(make_person(email, name), role) for email, (name, role) in CAST.items()]
    else:
        slug = company.name.lower().replace(" ", "-").replace("'", "")
        people = [(make_person(f"owner@{slug}.example", ""), Role.OWNER)]
    for user, role in people:
        Membership.objects.create(organization=organization, user=user, role=role, created_at=since)
    return people[0][0]


def _live_until(subscription: Subscription, company: Company, owner: User, at: datetime) -> datetime:
    """Pay, cancel or let the trial run out, then lay the periods until now; the end of the calls."""
    paid_at = subscription.trial_ends_at or subscription.started_at
    if company.pays:
        activate_subscription(subscription=subscription, by=None, at=paid_at)
    if company.began:
        moved_at = paid_at + timedelta(days=company.began_days)
        roll_periods(at=moved_at)
        change_plan(subscription=subscription, version=newest_version(company.plan), by=owner, at=moved_at)
    if company.cancelled:
        roll_periods(at=paid_at + timedelta(days=5))
        cancel_subscription(subscription=subscription, by=owner, at=paid_at + timedelta(days=5))
        roll_periods(at=at)
        subscription.refresh_from_db()
        return subscription.ended_at or at
    roll_periods(at=at)
    if not company.pays and subscription.trial_ends_at is not None:
        return min(subscription.trial_ends_at, at)
    return at


def _last_hour(company: Company) -> int:
    """Single calls of the last hour: a few for the small, at most LAST_HOUR_CALLS."""
    return min(LAST_HOUR_CALLS, max(company.calls_a_day // 24, 2))


def _event(
    customer: Customer, burst: Burst, route: Route, meter: Meter, period: Period, rng: random.Random
) -> Event:
    at_us = to_micros(burst.at)
    return Event(
        id=event_id(at_us, rng.getrandbits(74)),
        occurred_at_us=at_us,
        organization_id=customer.organization.pk,
        mode="live",
        meter_id=meter.pk,
        period_id=period.pk,
        quantity=Decimal(0) if burst.reason else Decimal(burst.calls) * route.units,
        door="gateway",
        reason=burst.reason,
        api_key_id=customer.keys[burst.key].pk,
        product_id=route.product_id,
        route_id=route.pk,
        status=burst.status,
        duration_us=rng.randint(9_000, 60_000) if burst.status != 504 else 30_000_000,
        bytes_in=rng.randint(180, 900),
        bytes_out=rng.randint(300, 6_000),
    )
