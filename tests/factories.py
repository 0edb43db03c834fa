"""Plain typed functions that make rows for tests, through the acts of the product wherever there is one."""

from datetime import datetime
from decimal import Decimal
from itertools import count

from accounts.models import Membership, Organization, Role, User
from billing.accounts import get_account
from billing.models import Statement, StatementKind
from core.clock import now
from keys.models import ApiKey
from keys.services import IssuedKey, issue_key
from plans.default_catalogue import CALLS_METER, install_default_catalogue
from plans.models import Meter, Plan, PlanVersion, PriceComponent, Product, RateLimit, Route, Subscription
from plans.publishing import publish_version
from plans.queries import newest_version
from plans.services import start_subscription

_number = count(1)
PASSWORD = "correct horse battery staple"


def create_user(email: str = "", *, name: str = "", is_staff: bool = False, password: str = PASSWORD) -> User:
    return User.objects.create_user(
        email or f"user{next(_number)}@example.com",
        password,
        name=name,
        is_staff=is_staff,
        is_superuser=is_staff,
    )


def create_organization(
    name: str = "",
    *,
    owner: User | None = None,
    plan: str = "free",
    at: datetime | None = None,
    shard: int = 17,
) -> Organization:
    """An organization with a subscription on `plan` (paid plans: in their trial) and, if given, an owner."""
    moment = at or now()
    organization = Organization.objects.create(
        name=name or f"Organization {next(_number)}", shard=shard, created_at=moment
    )
    if owner is not None:
        create_membership(organization=organization, user=owner, role=Role.OWNER)
    if plan:
        create_subscription(organization=organization, plan=plan, at=moment)
        organization.refresh_from_db()
    return organization


def create_subscription(
    *, organization: Organization, plan: str = "free", at: datetime | None = None, has_payment: bool = False
) -> Subscription:
    install_default_catalogue(at=at or now())
    return start_subscription(
        organization=organization,
        version=newest_version(plan),
        by=None,
        at=at or now(),
        has_payment=has_payment,
    )


def create_membership(
    *, organization: Organization, user: User | None = None, role: str = Role.DEVELOPER
) -> Membership:
    return Membership.objects.create(
        organization=organization, user=user or create_user(), role=role, created_at=now()
    )


def create_key(
    *,
    organization: Organization,
    name: str = "production",
    mode: str = "live",
    by: User | None = None,
    scopes: tuple[str, ...] = (),
    expires_at: datetime | None = None,
    calls_per_minute: int | None = None,
    at: datetime | None = None,
) -> IssuedKey:
    """A key with its clear text."""
    return issue_key(
        organization=organization,
        name=name,
        mode=mode,
        by=by,
        at=at or now(),
        scopes=scopes,
        expires_at=expires_at,
        calls_per_minute=calls_per_minute,
    )


def expire_key(key: ApiKey, *, at: datetime) -> None:
    ApiKey.objects.for_organization(key.organization).filter(pk=key.pk).update(expires_at=at)


def create_meter(slug: str = CALLS_METER, *, decimals: int = 0, unit: str = "call") -> Meter:
    meter, _ = Meter.objects.get_or_create(
        slug=slug, defaults={"name": slug.replace("_", " "), "unit": unit, "decimals": decimals}
    )
    return meter


def create_product(
    slug: str = "places",
    *,
    upstream_url: str = "http://127.0.0.1:9",
    credential_header: str = "",
    credential: str = "",
) -> Product:
    return Product.objects.create(
        slug=slug,
        name=slug.title(),
        upstream_url=upstream_url,
        credential_header=credential_header,
        credential=credential,
    )


def create_route(
    product: Product,
    path: str = "/*",
    *,
    methods: tuple[str, ...] = ("GET", "POST"),
    position: int = 0,
    units: Decimal = Decimal(1),
    meter: Meter | None = None,
    required_feature: str = "",
    bill_client_errors: bool = False,
    timeout_ms: int = 30_000,
    body_limit_bytes: int = 10 * 1024 * 1024,
    websocket: str = "",
) -> Route:
    return Route.objects.create(
        product=product,
        name=path,
        path=path,
        methods=list(methods),
        position=position,
        units=units,
        meter=meter or create_meter(),
        required_feature=required_feature,
        bill_client_errors=bill_client_errors,
        timeout_ms=timeout_ms,
        body_limit_bytes=body_limit_bytes,
        websocket=websocket,
    )


def create_plan(
    slug: str,
    *,
    fee_minor: int = 0,
    included: Decimal = Decimal(1_000),
    unit_price: Decimal | None = None,
    per_minute: int = 10,
    trial_days: int = 0,
    features: tuple[str, ...] = (),
    meter: Meter | None = None,
    windows: tuple[tuple[int, int], ...] = (),
    interval: str = "month",
    currency: str = "USD",
) -> PlanVersion:
    """A published plan of one version; `windows` (seconds, calls) replace `per_minute`."""
    plan = Plan.objects.create(slug=slug, name=slug.title(), position=10 + next(_number))
    version = PlanVersion.objects.create(
        plan=plan,
        number=1,
        fee_minor=fee_minor,
        trial_days=trial_days,
        features=list(features),
        interval=interval,
        currency=currency,
    )
    PriceComponent.objects.create(
        version=version, meter=meter or create_meter(), included=included, unit_price=unit_price
    )
    for seconds, calls in windows or ((60, per_minute),):
        RateLimit.objects.create(version=version, window_seconds=seconds, calls=calls)
    return publish_version(version=version, by=None, at=now())


def create_statement(organization: Organization, *, total_minor: int = 0, number: str = "") -> Statement:
    """A final statement of the organization's first period, without lines."""
    period = organization.periods.select_related("version").earliest("starts_at")
    account = get_account(organization)
    return Statement.objects.create(
        organization=organization,
        subscription=period.subscription,
        period=period,
        version=period.version,
        kind=StatementKind.PERIOD,
        number=number or f"{account.number_prefix}-9001",
        currency=period.version.currency,
        total_minor=total_minor,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        cut_at=now(),
        finalised_at=now(),
    )
