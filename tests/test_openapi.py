"""The API's document, its page, and what is not in it."""

import re
from typing import Any

import pytest
import yaml
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient

from tests.metering.api_kit import problem

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    validate_schema(document)  # type: ignore[no-untyped-call]


def test_it_is_served_without_credentials() -> None:
    answer = APIClient().get("/api/schema")
    assert answer.status_code == 200
    assert set(yaml.safe_load(answer.content)["paths"]) >= {"/api/account/", "/api/usage/track"}
    assert APIClient().get("/api/schema?format=json").json()["openapi"].startswith("3.1")


def test_every_endpoint_says_in_a_line_what_it_is_for_and_what_goes_wrong(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) >= 4
    for name, operation in found.items():
        assert 5 < len(operation.get("summary", "")) < 80, name
        assert {"200", "401", "503"} <= set(operation["responses"]), name
        refused = operation["responses"]["401"]["content"]
        assert "application/problem+json" in refused, name


def test_each_endpoint_names_the_keys_it_takes(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["customerKey"]["scheme"] == schemes["ownerKey"]["scheme"] == "bearer"
    assert schemes["customerKeyHeader"]["name"] == "X-API-Key"
    assert schemes["ownerKeyHeader"]["name"] == "X-Admin-Key"
    taken = {name: [set(one) for one in op.get("security", [])] for name, op in operations(document).items()}
    assert {name for name, security in taken.items() if not security} == {
        "post /api/auth/login", "post /api/auth/refresh",
    }  # fmt: skip
    assert taken["get /api/account/"] == [{"customerKey"}, {"customerKeyHeader"}]
    assert taken["get /api/v1/places/search"] == [{"customerKey"}, {"customerKeyHeader"}]
    assert taken["post /api/keys/verify"] == [{"ownerKey"}, {"ownerKeyHeader"}]
    assert taken["post /api/usage/track"] == [{"ownerKey"}, {"ownerKeyHeader"}]
    assert schemes["staffToken"]["bearerFormat"] == "JWT"
    assert taken["post /api/admin/tenants"] == [{"staffToken"}, {"ownerKey"}, {"ownerKeyHeader"}]
    assert taken["post /api/auth/logout"] == [{"staffToken"}]


def test_each_answer_and_body_is_described_as_it_is(document: dict[str, Any]) -> None:
    schemas, found = document["components"]["schemas"], operations(document)

    def fields(media: dict[str, Any]) -> set[str]:
        return set(schemas[media["application/json"]["schema"]["$ref"].rpartition("/")[2]]["properties"])

    account, track = found["get /api/account/"], found["post /api/usage/track"]
    assert {"organization", "plan", "usage"} <= fields(account["responses"]["200"]["content"])
    assert fields(track["responses"]["200"]["content"]) == {"accepted", "duplicate", "rejected", "events"}
    bodies = {one["$ref"].rpartition("/")[2] for one in schemas["Reported"]["oneOf"]}
    assert bodies == {"ReportedEvent", "ReportedBatch"}
    assert "idempotency_key" in schemas["ReportedEvent"]["required"]
    problem_fields = schemas["Problem"]["properties"]
    assert {"code", "detail", "request_id", "status", "title", "type"} <= set(problem_fields)


@pytest.mark.django_db
def test_the_page_to_try_it_needs_nothing_inline() -> None:
    answer = Client().get("/api/docs")
    assert answer.status_code == 200
    policy, page = answer["Content-Security-Policy"], answer.content.decode()
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert "swagger-ui" in page
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert scripts
    assert all("src=" in attributes and not body.strip() for attributes, body in scripts)


@pytest.mark.django_db
def test_the_script_of_the_page_points_at_the_document() -> None:
    page = Client().get("/api/docs").content.decode()
    (source,) = [s for s in re.findall(r'<script src="([^"]+)"', page) if not s.startswith("/static/")]
    script = Client().get(source.replace("&amp;", "&"))
    assert script.status_code == 200
    assert script["Content-Type"].startswith("application/javascript")
    assert b"/api/schema" in script.content


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post", "delete"])
@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api/v1/places/nothing", "/api/usage/track/x"])
def test_an_unknown_address_is_a_problem_document(path: str, method: str) -> None:
    problem(getattr(Client(), method)(path), 404, "not_found")
