"""Customers of the JSON API for tests: an organization on a plan of the test's own, its keys, and the stream they fill."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
from django.http import HttpResponse
from django.test import Client

from accounts.models import Organization
from core.redis import usage_redis
from core.redis_layout import stream_key
from keys.services import IssuedKey
from metering.drf import forget_cached
from plans.models import Product, Route
from tests.factories import create_key, create_organization, create_plan, create_product, create_route

SEARCH = "/api/v1/places/search?q=Lisbon"


@dataclass
class Customer:
    """An organization with one key; `calls` go to the sample's search unless told otherwise."""

    organization: Organization
    issued: IssuedKey
    product: Product
    route: Route
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    @classmethod
    def start(
        cls, *, key: dict[str, Any] | None = None, route: dict[str, Any] | None = None, **plan: Any
    ) -> "Customer":
        """A published plan (`plan`: arguments of create_plan), an organization on it, and the route that is sold."""
        forget_cached()
        version = create_plan(f"plan-of-{'-'.join(plan) or 'test'}", **({"per_minute": 100} | plan))
        organization = create_organization(plan=version.plan.slug)
        product = create_product()
        sold = create_route(product, "/v1/search", **(route or {}))
        return cls(organization, create_key(organization=organization, **(key or {})), product, sold)

    def get(self, path: str = SEARCH, *, key: str | None = None, **headers: str) -> HttpResponse:
        bearer = f"Bearer {self.issued.clear if key is None else key}"
        response: Any = self.client.get(path, headers={"Authorization": bearer} | headers)
        return response  # type: ignore[no-any-return]

    def events(self) -> list[dict[str, Any]]:
        """What the stream holds of the organization's shard, oldest first."""
        entries: Any = usage_redis().xrange(stream_key(self.organization.shard))
        return [orjson.loads(fields[b"e"]) for _, fields in entries]

    def billed(self) -> Decimal:
        return sum((Decimal(event["qty"]) for event in self.events()), Decimal(0))


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal, checked for what all of them have."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = orjson.loads(response.content)
    assert (document["code"], document["status"]) == (code, status)
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == response["X-Request-Id"]
    return document


def commands(name: str) -> int:
    """How often Redis ran this command since it started."""
    stats: Any = usage_redis().info("commandstats")
    return int(stats.get(f"cmdstat_{name}", {}).get("calls", 0))
