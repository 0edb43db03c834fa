"""Which product and route a path means: a snapshot of the catalogue, matched without a query.

Paths stay percent-encoded as they came; only the comparison with literal segments decodes them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import structlog
from cryptography.fernet import InvalidToken
from django.conf import settings
from django.db.models import Prefetch

from gateway.pools import Check, Server, ServerPool, Upstream, kept_state, servers_of
from metering.admission import Target
from plans.door import smallest_units
from plans.models import (
    Dialect,
    LanguageModel,
    LanguageUpstream,
    Product,
    Route,
    ServerOfPool,
    UpstreamServer,
)
from plans.token_prices import TokenPrices
from plans.upstream_address import shape_fault

log = structlog.get_logger(__name__)
CONNECT_SECONDS = 5.0  # to a model's own upstream


@dataclass(frozen=True, slots=True)
class FurtherMeter:
    """One more meter that a call counts on, and what of it."""

    meter_id: int
    decimals: int
    measure: str


@dataclass(frozen=True, slots=True)
class LanguageTerms:
    """How a route of language models is read and billed. `meters`: the route's own first; `upstream`: the environment's server
    for models that have none."""

    dialect: str
    on_leaving: str
    meters: tuple[FurtherMeter, ...]
    upstream: Upstream | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A language model as it is sold: where its calls go (none: the environment's server, or the product's) and its prices."""

    name: str
    max_output_tokens: int
    bytes_per_token: int
    upstreams: tuple[tuple[Upstream, str], ...]  # with the name that each knows it by
    prices: tuple[TokenPrices, ...]
    pool: ServerPool | None = None  # of the upstreams, where there are several


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A route, ready to match. `segments`: literal text, None for one free segment; `has_rest`: a last `*`."""

    public_id: str
    product_slug: str
    segments: tuple[str | None, ...]
    has_rest: bool
    methods: frozenset[str]
    target: Target
    required_feature: str
    bill_client_errors: bool
    timeout_s: float
    body_limit: int
    upstream: Upstream
    language: LanguageTerms | None = None
    pool: ServerPool | None = None  # where the product has several servers
    websocket: str = ""  # how its connections are billed; "": it has none
    replay_s: int = 0  # answers are kept for retries so long

    @property
    def units_text(self) -> str:
        """What a billed call counts as, for a header."""
        return f"{self.target.quantity.normalize():f}"

    def fits(self, parts: Sequence[str]) -> bool:
        """Whether the decoded segments of a path are of this route."""
        if len(parts) < len(self.segments) or (len(parts) > len(self.segments) and not self.has_rest):
            return False
        return all(own is None or own == part for own, part in zip(self.segments, parts, strict=False))


@dataclass(frozen=True, slots=True)
class Match:
    """The result of a look-up: a route with the path below the product, or the methods that would have fitted."""

    route: RouteEntry | None
    path: str
    allowed: tuple[str, ...] = ()


class RouteTable:
    """Products by slug, each with its routes in order."""

    def __init__(self, entries: Iterable[RouteEntry] = (), models: Iterable[ModelEntry] = ()) -> None:
        self._by_product: dict[str, list[RouteEntry]] = {}
        self._by_id: dict[str, RouteEntry] = {}
        self.models = {model.name: model for model in models}
        entries = list(entries)
        self.servers = servers_of([e.pool for e in entries] + [m.pool for m in self.models.values()])
        for entry in entries:
            self._by_product.setdefault(entry.product_slug, []).append(entry)
            self._by_id[entry.public_id] = entry

    def __eq__(self, other: object) -> bool:
        """What is read anew each second and is the same stays as it was made ready from."""
        if not isinstance(other, RouteTable):
            return NotImplemented
        return self._by_product == other._by_product and self.models == other.models

    __hash__ = None  # type: ignore[assignment]  # compared, never a name

    def find_by_id(self, public_id: str) -> RouteEntry | None:
        """The route with this public id."""
        return self._by_id.get(public_id)

    def has_product(self, slug: str) -> bool:
        """Whether a product of this name has routes."""
        return slug in self._by_product

    def find(self, method: str, raw_path: str) -> Match | None:
        """The first route that fits method and path. None: no such product or path; no route: another method."""
        slug, _, rest = raw_path.lstrip("/").partition("/")
        entries, path = self._by_product.get(unquote(slug)), "/" + rest
        if entries is None or has_dot_segments(path):
            return None
        parts = [unquote(part) for part in path[1:].split("/")]
        allowed: set[str] = set()
        for entry in entries:
            if entry.fits(parts):
                if method in entry.methods:
                    return Match(entry, path)
                allowed |= entry.methods
        return Match(None, path, tuple(sorted(allowed))) if allowed else None


def has_dot_segments(raw_path: str) -> bool:
    """Whether a path, once decoded by whoever stands behind us, could climb out of its base."""
    decoded = unquote(unquote(raw_path)).replace("\\", "/")
    return any(part in (".", "..") for part in decoded.split("/")) or "\0" in decoded


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a product's calls go: to one server, or to several."""

    upstream: Upstream
    pool: ServerPool | None


def load_route_table() -> RouteTable:
    """Read products and routes that are on sale: four queries, three more where language models are sold. A row that cannot
    be used is left out and logged."""
    on_sale = Product.objects.defer("credential").filter(is_active=True, archived_at=None)
    servers = Prefetch("servers", UpstreamServer.objects.filter(is_active=True))
    products = {product.pk: product for product in on_sale.prefetch_related(servers)}
    targets = {pk: _target(product) for pk, product in products.items()}
    routes = Route.objects.filter(is_active=True, archived_at=None, product_id__in=products)
    entries = [
        _usable_entry(route, products[route.product_id], targets[route.product_id])
        for route in routes.select_related("meter").prefetch_related("charges__meter")
    ]
    usable = [entry for entry in entries if entry is not None]
    has_models = any(entry.language is not None for entry in usable)
    return RouteTable(usable, _load_models() if has_models else ())


def _load_models() -> Iterable[ModelEntry]:
    models = LanguageModel.objects.filter(is_active=True, archived_at=None)
    upstreams_of = Prefetch("upstreams", LanguageUpstream.objects.filter(is_active=True).defer("credential"))
    for model in models.prefetch_related(upstreams_of, "prices"):
        servers = [
            _server(f"model:{row.pk}", row, found, known_as=row.upstream_name or model.name)
            for row in model.upstreams.all()
            if (found := _model_upstream(row)) is not None
        ]
        if model.upstreams.all() and not servers:  # its prompts are not for the environment's server
            log.error("model_left_out", model=model.name, hint="none of its servers can be used")
            continue
        yield ModelEntry(
            model.name, model.max_output_tokens, model.bytes_per_token,
            upstreams=tuple((server.upstream, server.known_as) for server in servers),
            prices=tuple(price.as_prices() for price in model.prices.all()),
            pool=ServerPool(f"model:{model.pk}", servers, retries=True) if len(servers) > 1 else None,
        )  # fmt: skip


def _model_upstream(row: LanguageUpstream) -> Upstream | None:
    if not _is_plain_address(row.base_url, of=f"{row.model} at a server"):  # the address may hold a password
        return None
    try:
        credential = (row.credential_header, row.credential) if row.credential_header else None
    except InvalidToken:
        log.error(
            "credential_not_readable",
            upstream=str(row),
            hint="ENCRYPTION_KEYS lacks the key it was written with",
        )
        return None
    return Upstream(row.base_url.rstrip("/"), credential, CONNECT_SECONDS)


def _server(key: str, row: ServerOfPool, upstream: Upstream, *, known_as: str = "") -> Server:
    check = None
    if row.check_path:
        check = Check(row.check_path, row.check_seconds, row.check_status, row.check_with_credential)
    return Server(key, upstream, known_as, row.position, row.weight, check, kept_state(key, str(row)))


def _is_plain_address(url: str, *, of: str) -> bool:
    """Whether everybody reads this address alike; rows may have been written by other ways than the admin."""
    if fault := shape_fault(url):
        log.error("upstream_address_left_out", upstream=of, hint=fault)
    return not fault


def _language_terms(route: Route) -> LanguageTerms | None:
    if not route.dialect:
        return None
    meters = [FurtherMeter(route.meter_id, route.meter.decimals, route.measure)]
    meters += [FurtherMeter(c.meter_id, c.meter.decimals, c.measure) for c in route.charges.all()]
    return LanguageTerms(
        route.dialect, route.on_leaving, tuple(meters), _upstream_of_environment(route.dialect)
    )


def _upstream_of_environment(dialect: str) -> Upstream | None:
    url, key = settings.UPSTREAM_OPENAI_BASE_URL, settings.UPSTREAM_OPENAI_API_KEY
    credential = ("Authorization", f"Bearer {key}")
    if dialect == Dialect.MESSAGES:
        url, key = settings.UPSTREAM_ANTHROPIC_BASE_URL, settings.UPSTREAM_ANTHROPIC_API_KEY
        credential = ("x-api-key", key)
    if not url or not _is_plain_address(url, of="the environment"):
        return None
    return Upstream(url.rstrip("/"), credential if key else None, CONNECT_SECONDS)


def _usable_entry(route: Route, product: Product, target: _Target | None) -> RouteEntry | None:
    if target is None:
        return None
    try:
        return _entry(route, product, target)
    except ValueError as error:
        log.error("route_left_out", route=route.public_id, error=str(error))
        return None


def _target(product: Product) -> _Target | None:
    """None when its credential cannot be decrypted: without it the upstream would only refuse; or when it has no address."""
    try:
        credential = (product.credential_header, product.credential) if product.credential_header else None
    except InvalidToken:
        log.error(
            "credential_not_readable",
            product=product.slug,
            hint="ENCRYPTION_KEYS lacks the key it was written with",
        )
        return None
    seconds = product.connect_timeout_ms / 1000
    servers = [
        _server(f"product:{row.pk}", row, Upstream(row.base_url.rstrip("/"), credential, seconds))
        for row in product.servers.all()
        if _is_plain_address(row.base_url, of=f"{product.slug} at a server")
    ]
    if len(servers) > 1:
        pool = ServerPool(f"product:{product.pk}", servers, retries=product.retry_calls)
        return _Target(pool.servers[0].upstream, pool)
    if servers:
        return _Target(servers[0].upstream, None)
    if not _is_plain_address(product.upstream_url, of=product.slug):
        return None
    return _Target(Upstream(product.upstream_url.rstrip("/"), credential, seconds), None)


def _entry(route: Route, product: Product, target: _Target) -> RouteEntry:
    has_rest = route.path.endswith("*")
    path = route.path.removesuffix("*").strip("/") if has_rest else route.path[1:]
    segments = (
        tuple(None if part.startswith("{") else part for part in path.split("/"))
        if path or not has_rest
        else ()
    )
    methods = {method.upper() for method in route.methods}
    return RouteEntry(
        public_id=route.public_id,
        product_slug=product.slug,
        segments=segments,
        has_rest=has_rest,
        methods=frozenset(methods | {"HEAD"} if "GET" in methods else methods),
        target=Target(
            product.pk,
            route.pk,
            route.meter_id,
            smallest_units(route.units, route.meter.decimals),
            route.units,
        ),
        required_feature=route.required_feature,
        bill_client_errors=route.bill_client_errors,
        timeout_s=route.timeout_ms / 1000,
        body_limit=route.body_limit_bytes,
        upstream=target.upstream,
        language=_language_terms(route),
        pool=target.pool,
        websocket=route.websocket,
        replay_s=route.replay_seconds,
    )
