import json
from typing import Any

import pytest
from django.test import Client

from core import redis as core_redis

pytestmark = pytest.mark.django_db


def test_livez_needs_nothing(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        answer = client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_readyz_asks_both_servers(client: Client, usage_redis: Any) -> None:
    assert client.get("/readyz").json() == {"status": "ok", "postgres": True, "redis": True}


def test_readyz_says_which_server_is_away(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert core_redis.usage_redis().connection_pool.connection_kwargs["port"] == 1
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["redis"]) == (503, False)


def test_every_answer_has_its_own_request_id(client: Client) -> None:
    first = client.get("/pricing/", headers={"X-Request-Id": "chosen-by-the-client"})
    second = client.get("/pricing/")
    assert first["X-Request-Id"].startswith("req_")
    assert first["X-Request-Id"] != second["X-Request-Id"]


def test_log_lines_carry_the_id_that_the_client_was_told(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/nowhere/", headers={"X-Request-Id": "chosen-by-the-client"})
    lines = [record.msg for record in caplog.records if record.name.startswith("django_structlog")]
    assert {line["request_id"] for line in lines if isinstance(line, dict)} == {answer["X-Request-Id"]}


def test_an_unknown_page_is_a_page(client: Client) -> None:
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert "<html" in answer.content.decode()


def test_an_unknown_api_address_is_a_problem_document(client: Client) -> None:
    answer = client.get("/api/nowhere")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    body = json.loads(answer.content)
    assert (body["code"], body["status"], body["request_id"]) == ("not_found", 404, answer["X-Request-Id"])
    assert body["instance"] == "/api/nowhere"


@pytest.mark.parametrize(
    "path", ["/", "/pricing/", "/docs/errors/", "/accounts/login/", "/accounts/signup/", "/api/docs"]
)
def test_pages_carry_the_strict_policy_and_nothing_inline(client: Client, path: str) -> None:
    answer = client.get(path)
    policy = answer["Content-Security-Policy"]
    page = answer.content.decode()
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert " style=" not in page
    assert "<style" not in page
    assert "<script>" not in page
    assert answer["X-Frame-Options"] == "DENY"
    assert "camera=()" in answer["Permissions-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/invoices/%00/",
        "/admin/%00/",
        "/api/billing/statements/%00",
        "/plan/?currency=%00",
        "/pricing/?interval=%00",
    ],
)
def test_a_nul_in_an_address_is_not_found(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    if path.startswith("/api/"):
        assert answer.json()["code"] == "not_found"
