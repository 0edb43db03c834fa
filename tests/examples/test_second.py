"""Units as its callers see it."""

from collections.abc import Iterator

import pytest

from tests.examples.processes import Api, running


@pytest.fixture(scope="module")
def units() -> Iterator[Api]:
    with running("examples.second", UNITS_TOKEN="") as api:
        yield api


def test_converts_a_length(units: Api) -> None:
    answer = units.get("/convert?value=26.2&from=mi&to=km")

    assert (answer.status, answer.json["result"]) == (200, "42.1648128")


def test_converts_a_batch_in_order(units: Api) -> None:
    wanted = [{"value": "1", "from": "kg", "to": "lb"}, {"value": 3, "from": "gal", "to": "l"}]

    results = units.post("/batch", {"conversions": wanted}).json["results"]

    assert [one["result"] for one in results] == ["2.20462262185", "11.356235352"]


def test_lists_its_units(units: Api) -> None:
    assert units.get("/units").json["units"]["nmi"] == "length"


def test_tells_what_farebox_said_about_the_caller(units: Api) -> None:
    headers = {"X-Farebox-Plan": "starter", "X-Request-Id": "r1", "Accept": "*/*"}

    answer = units.get("/caller", headers=headers)

    assert answer.json == {"caller": {"x-farebox-plan": "starter", "x-request-id": "r1"}}


@pytest.mark.parametrize(
    "query",
    ["value=1&from=mi&to=kg", "value=1&from=x&to=m", "value=one&from=m&to=km", "value=nan&from=m&to=km", ""],
)
def test_nonsense_is_400_with_the_reason(units: Api, query: str) -> None:
    answer = units.get(f"/convert?{query}")

    assert answer.status == 400
    assert answer.json["error"]


@pytest.mark.parametrize("document", [[], {}, {"conversions": [1]}, {"conversions": [{"value": "1"}]}])
def test_bad_batch_is_400(units: Api, document: object) -> None:
    assert units.post("/batch", document).status == 400


def test_long_batches_and_bodies_are_refused(units: Api) -> None:
    one = {"value": "1", "from": "m", "to": "m"}

    assert units.post("/batch", {"conversions": [one] * 101}).status == 400
    assert units.send("POST", "/batch", body=b" " * 70_000).status == 413


def test_unknown_path_is_404(units: Api) -> None:
    assert units.get("/nothing").status == 404
    assert units.post("/nothing", {}).status == 404


def test_with_a_token_only_its_holder_gets_in() -> None:
    with running("examples.second", UNITS_TOKEN="s3cret") as guarded:
        assert guarded.get("/healthz").status == 200
        assert guarded.get("/units").status == 401
        assert guarded.post("/batch", {}).status == 401
        assert guarded.get("/units", headers={"Authorization": "Bearer wrong"}).status == 401
        assert guarded.get("/units", headers={"Authorization": "Bearer s3cret"}).status == 200
