"""Records and routes of tests that need no database."""

from decimal import Decimal

from gateway.routes import RouteEntry, Upstream
from keys.records import KeyRecord
from metering.admission import Target


def record() -> KeyRecord:
    return KeyRecord(
        key_id=5, key_public_id="key_5", key_name="production", mode="live", organization_id=7,
        organization_public_id="org_7", organization_name="Acme", shard=17, version=1, plan_slug="pro", plan_name="Pro",
        features=frozenset(), scopes=frozenset(), windows=((60, 10),), key_windows=(), spans=(), revoked=False,
        expires_at_us=None,
    )  # fmt: skip


def route(name: str, *segments: str | None, has_rest: bool = False, methods: str = "GET HEAD") -> RouteEntry:
    """A route of the product `places`; None is a free segment."""
    return RouteEntry(
        public_id=name, product_slug="places", segments=segments, has_rest=has_rest, methods=frozenset(methods.split()),
        target=Target(1, 2, 3, 1, Decimal(1)), required_feature="", bill_client_errors=False, timeout_s=1,
        body_limit=100, upstream=Upstream("http://127.0.0.1:9", None, 1),
    )  # fmt: skip
