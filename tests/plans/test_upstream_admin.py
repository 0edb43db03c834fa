"""Staff's page of a product's servers: rows judged like addresses of products, and what the gateway sees of each."""

import time
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from redis.exceptions import RedisError

from core.redis import usage_redis
from plans.admin import servers
from plans.models import Product, UpstreamServer
from plans.upstream_states import ServerSeen, report_commands
from tests.factories import create_product, create_route, create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


def form_of(product: Product, **server: str) -> dict[str, str]:
    row = {
        "base_url": "http://geo-2:8080", "position": "1", "weight": "3", "check_path": "/healthz", "check_seconds": "5",
        "check_status": "204", "is_active": "on",
    } | server  # fmt: skip
    return {
        "slug": product.slug, "name": product.name, "upstream_url": product.upstream_url, "connect_timeout_ms": "2000",
        "is_active": "on", "routes-TOTAL_FORMS": "0", "routes-INITIAL_FORMS": "0", "servers-TOTAL_FORMS": "1",
        "servers-INITIAL_FORMS": "0",
    } | {f"servers-0-{name}": value for name, value in row.items()}  # fmt: skip


def page(product: Product) -> str:
    return reverse("admin:plans_product_change", args=[product.pk])


def test_servers_are_set_on_the_products_page(staff: Client) -> None:
    product = create_product()
    assert staff.post(page(product), form_of(product)).status_code == 302
    row = UpstreamServer.objects.get()
    assert (row.base_url, row.position, row.weight, row.check_path) == ("http://geo-2:8080", 1, 3, "/healthz")
    assert not row.check_with_credential
    product.refresh_from_db()
    assert not product.retry_calls  # the box was not ticked


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", "http://169.254.169.254/latest"), ("base_url", "http://user@host"), ("base_url", "http://0x7f000001"),
        ("weight", "0"), ("weight", "101"), ("check_seconds", "0"), ("check_status", "99"), ("check_path", "http://other/"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_beside_its_field(staff: Client, field: str, value: str) -> None:
    product = create_product()
    answer = staff.post(page(product), form_of(product, **{field: value}))
    assert answer.status_code == 200
    assert f'id="id_servers-0-{field}_error"' in answer.content.decode()
    assert not UpstreamServer.objects.exists()


def test_staff_see_what_the_workers_see(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    product = create_product()
    first, second = (
        UpstreamServer.objects.create(product=product, base_url=f"http://geo-{number}") for number in (1, 2)
    )
    client: Any = usage_redis()
    for worker in ("w1", "w2"):
        seen = [
            ServerSeen(f"product:{first.pk}", "healthy", open=2),
            ServerSeen(f"product:{second.pk}", "ejected", 20, "answered 503"),
        ]
        for command in report_commands(worker, seen, at_s=time.time()):
            client.execute_command(*command)

    shown = staff.get(page(product)).content.decode()

    assert "healthy, 2 open calls (2 workers)" in shown
    assert "left out for 20 s (answered 503) (2 workers)" in shown

    def away() -> Any:
        raise RedisError

    monkeypatch.setattr(servers, "usage_redis", away)
    assert "Redis does not answer" in staff.get(page(product)).content.decode()


@pytest.mark.parametrize(
    ("field", "value"), [("methods", ["FOO"]), ("methods", ["get"]), ("path", "/a/../b"), ("timeout_ms", 0)]
)
def test_a_route_that_no_call_could_pass_is_refused(field: str, value: Any) -> None:
    route = create_route(create_product(), "/one")
    setattr(route, field, value)
    with pytest.raises(ValidationError) as refused:
        route.full_clean()
    assert list(refused.value.message_dict) == [field]


def test_a_product_that_nothing_could_connect_to_is_refused() -> None:
    product = create_product()
    product.connect_timeout_ms = 0
    with pytest.raises(ValidationError) as refused:
        product.full_clean()
    assert list(refused.value.message_dict) == ["connect_timeout_ms"]
