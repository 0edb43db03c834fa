"""Language models on sale, customers who call them, and what the ledger says of it."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import orjson

from core.redis import usage_redis
from core.redis_layout import reservations_key, usage_key
from plans.language_catalogue import PATHS, install_language_models
from plans.models import (
    LanguageModel,
    LanguageUpstream,
    Measure,
    Meter,
    ModelPrice,
    OnLeaving,
    Route,
    RouteCharge,
)
from plans.queries import current_period
from tests.examples.processes import Answer
from tests.factories import create_key, create_organization, create_product, create_route
from tests.gateway.kit import Customer, Shop, wait_for
from tests.gateway.language.upstream import KEY
from tests.plans.price_kit import component, meter, put_on, version_of

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MARKUP = Decimal("0.25")
PRICES = {"input": Decimal(1), "cached_input": Decimal("0.5"), "output": Decimal(4), "reasoning": Decimal(8)}
MESSAGES = [{"role": "user", "content": "Say something."}]
LONGEST = 4096


def cost_of(**tokens: int) -> Decimal:
    """By hand: prices of a million, a quarter on top."""
    return (
        sum((PRICES[kind] * count for kind, count in tokens.items()), Decimal(0)) / 1_000_000 * (1 + MARKUP)
    )


def usage_meter() -> Meter:
    return meter("model_usage", unit="USD", decimals=9, dimensions=["model"])


def token_meter() -> Meter:
    return meter("tokens", unit="token", dimensions=["model"])


def sell_models(url: str) -> dict[str, Route]:
    """The addresses of OpenAI and Anthropic; `/delivered/...` and `/free/...` have the other policies."""
    install_language_models(upstream_url=url, credential=f"Bearer {KEY}")
    Route.objects.update(timeout_ms=2_000)
    routes = {f"v1{route.path}": route for route in Route.objects.filter(product__slug="v1")}
    for slug, policy in (("delivered", OnLeaving.DELIVERED), ("free", OnLeaving.FREE)):
        product = create_product(
            slug, upstream_url=url, credential_header="Authorization", credential=f"Bearer {KEY}"
        )
        for path, dialect in PATHS.items():
            route = create_route(product, path, meter=usage_meter(), timeout_ms=2_000)
            Route.objects.filter(pk=route.pk).update(dialect=dialect, measure=Measure.COST, on_leaving=policy)
            RouteCharge.objects.create(route=route, meter=token_meter(), measure=Measure.TOKENS)
            routes[slug + path] = route
    add_model("gpt-test")
    add_model("gpt-renamed", (f"{url}", "inner-name"), (f"{url}", "never-asked"))
    add_model("gpt-failover", ("http://127.0.0.1:9", "gpt-failover"), (url, "gpt-failover"))
    LanguageModel.objects.create(name="gpt-unpriced")
    add_painter("painter")
    claude = add_model("claude-test")
    LanguageUpstream.objects.create(model=claude, base_url=url, credential_header="x-api-key", credential=KEY)
    add_model("gpt-wrong-key", (url, "gpt"))
    LanguageUpstream.objects.filter(model__name="gpt-wrong-key").update(credential="Bearer wrong")
    return routes


def add_model(name: str, *upstreams: tuple[str, str]) -> LanguageModel:
    model = LanguageModel.objects.create(name=name, max_output_tokens=LONGEST)
    ModelPrice.objects.create(model=model, starts_at=LONG_AGO, markup=MARKUP, **PRICES)
    for position, (url, upstream_name) in enumerate(upstreams):
        LanguageUpstream.objects.create(
            model=model, base_url=url, upstream_name=upstream_name, position=position,
            credential_header="Authorization", credential=f"Bearer {KEY}",
        )  # fmt: skip
    return model


PICTURES = {"standard/*": "0.04", "hd/1024x1792": "0.12", "*/*": "0.5"}


def add_painter(name: str) -> None:
    """A model that is paid by the picture alone."""
    model = LanguageModel.objects.create(name=name, max_output_tokens=1)
    ModelPrice.objects.create(
        model=model, starts_at=LONG_AGO, input=Decimal(0), output=Decimal(0), per_picture=PICTURES
    )


class Models(Shop):
    """The shop of language models."""

    def user(
        self, *, quota: int | None = None, per_minute: int | None = None, scopes: tuple[str, ...] = (),
        limits: tuple[dict[str, Any], ...] = (),
    ) -> "User":  # fmt: skip
        """A paying organization; `quota`: its most tokens in a period, `per_minute`: in a minute; `limits`: others of its plan."""
        organization = create_organization()
        tokens = component(token_meter(), model="per_unit", unit_price=Decimal(0), quota=quota)
        cost = component(usage_meter(), model="per_unit", unit_price=Decimal(1))
        windows = ((60, per_minute),) if per_minute else ()
        put_on(organization, version_of(cost, tokens, token_windows=windows, limits=limits))
        organization.refresh_from_db()
        return User(organization, create_key(organization=organization, scopes=scopes), self.gateway.api)

    def requests(self) -> list[dict[str, Any]]:
        """What reached the upstream since it was last asked."""
        return list(self.upstream.get("/log").json)

    def pieces(self, name: str) -> int:
        """How many pieces of this stream the upstream wrote."""
        return int(self.upstream.get(f"/sent/{name}").json)


@dataclass
class User(Customer):
    """Somebody who asks models."""

    def ask(
        self, path: str = "/chat/completions", act: str = "", *, product: str = "v1", content: bytes | None = None, **body: Any
    ) -> Answer:  # fmt: skip
        """One call; the body's `model` is gpt-test if nothing else is said."""
        return self.call(path, "POST", content or document(path, body), product=product, X_Act=act)

    @contextmanager
    def stream(
        self,
        path: str = "/chat/completions",
        act: str = "",
        *,
        product: str = "v1",
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Iterator[http.client.HTTPResponse]:
        """A stream whose head came; leaving the block closes the connection."""
        connection = http.client.HTTPConnection(urlsplit(self.api.url).netloc, timeout=30)
        headers = {"Authorization": f"Bearer {self.issued.clear}", "X-Act": act} | (headers or {})
        try:
            connection.request("POST", f"/{product}{path}", document(path, {"stream": True} | body), headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def rows(self, calls: int = 1) -> list[dict[str, Any]]:
        """Events of the call's cost; waits for as many calls."""
        main = usage_meter().pk
        wait_for(lambda: len([e for e in self.events() if e["meter"] == str(main)]) >= calls, within=10)
        return [e for e in self.events() if e["meter"] == str(main)]

    def row(self) -> dict[str, Any]:
        (row,) = self.rows()
        return row

    def tokens(self) -> Decimal:
        """The sum of the meter of tokens."""
        other = str(token_meter().pk)
        return sum((e["qty"] for e in self.events() if e["meter"] == other), Decimal(0))

    def counters(self) -> dict[str, int]:
        """Settled and reserved units of the period."""
        period = current_period(self.organization, at=datetime.now(UTC))
        assert period is not None
        with usage_redis() as client:
            fields: Any = client.hgetall(
                usage_key(self.organization.shard, self.organization.pk, "live", period.pk)
            )
        return {name.decode(): int(value) for name, value in fields.items()}

    def assert_nothing_reserved(self) -> None:
        with usage_redis() as client:
            assert client.zcard(reservations_key(self.organization.shard, self.organization.pk)) == 0
        assert [value for name, value in self.counters().items() if name.startswith("r") and value] == []


def document(path: str, body: dict[str, Any]) -> bytes:
    """A body that the address understands."""
    given: dict[str, Any] = {"model": "claude-test" if path == "/messages" else "gpt-test"}
    if path in ("/chat/completions", "/messages"):
        given["messages"] = MESSAGES
    elif path in ("/completions", "/images/generations"):
        given["prompt"] = "Say something."
    else:
        given["input"] = "Say something."
    if path == "/messages":
        given["max_tokens"] = 100
    return orjson.dumps(given | body)


def frames(body: bytes) -> list[Any]:
    """The JSON of a stream's frames; the text itself where it is none."""
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [orjson.loads(line) if line.startswith("{") else line for line in lines]
