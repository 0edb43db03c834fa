"""The route table is read each second; one that says the same is the same, and what was made ready from it stays ready."""

from typing import Any

import pytest

from gateway.routes import load_route_table
from gateway.snapshot import Catalogue
from plans.language_catalogue import install_language_models
from plans.models import LanguageModel, Route, UpstreamServer
from tests.factories import create_product, create_route

pytestmark = pytest.mark.django_db


@pytest.fixture
def route() -> Route:
    product = create_product(
        "kept", upstream_url="http://127.0.0.1:9", credential_header="X-Token", credential="secret"
    )
    for port in (1, 2):
        UpstreamServer.objects.create(product=product, base_url=f"http://127.0.0.1:{port}")
    install_language_models(upstream_url="https://llm.example/v1")
    LanguageModel.objects.create(name="gpt-4o")
    return create_route(product, "/*")


@pytest.mark.usefixtures("route")
def test_table_that_says_the_same_is_kept() -> None:
    catalogue = Catalogue()
    first = catalogue._chosen(load_route_table())
    catalogue.value = first

    assert first.find("GET", "/kept/a") is not None
    assert catalogue._chosen(load_route_table()) is first


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (Route, {"timeout_ms": 1234}),
        (Route, {"methods": ["GET"]}),
        (Route, {"body_limit_bytes": 99}),
        (UpstreamServer, {"weight": 7}),
        (LanguageModel, {"max_output_tokens": 7}),
    ],
)
def test_table_that_says_something_else_is_not(route: Route, model: Any, change: dict[str, Any]) -> None:
    catalogue = Catalogue()
    catalogue.value = load_route_table()
    model.objects.update(**change)

    assert catalogue._chosen(load_route_table()) is not catalogue.value


def test_credential_that_changed_is_another_table(route: Route) -> None:
    catalogue = Catalogue()
    catalogue.value = load_route_table()
    product = route.product
    product.credential = "another"
    product.save()

    assert catalogue._chosen(load_route_table()) is not catalogue.value
