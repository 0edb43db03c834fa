"""Places as its callers see it: a process of its own, over HTTP."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from tests.examples.processes import ROOT, Answer, Api, running

BERLIN = 2950159


@pytest.fixture(scope="module")
def places() -> Iterator[Api]:
    with running("examples.places") as api:
        yield api


def error_of(answer: Answer) -> tuple[int, str, str]:
    error = answer.json["error"]
    assert error["message"]
    return answer.status, error["code"], error.get("parameter", "")


def test_search_answers_ranked_cities(places: Api) -> None:
    answer = places.get("/v1/search", q="KOLN", country="de", limit=2)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    first, second = answer.json["results"]
    assert (first["name"], first["country"], first["timezone"]) == ("Köln", "DE", "Europe/Berlin")
    assert first["score"] > second["score"]


def test_search_without_a_match_is_an_empty_list(places: Api) -> None:
    assert places.get("/v1/search", q="zzzzqqq").json == {"results": []}


def test_reverse_names_the_nearest_city(places: Api) -> None:
    answer = places.get("/v1/reverse", lat="48.8566", lon="2.3522")

    (city,) = answer.json["results"]
    assert city["country"] == "FR"
    assert city["distance_km"] < 2


def test_nearby_keeps_to_the_radius_nearest_first(places: Api) -> None:
    cities = places.get("/v1/nearby", lat="52.52", lon="13.405", radius_km="30").json["results"]

    distances = [city["distance_km"] for city in cities]
    assert len(cities) > 10
    assert distances == sorted(distances)
    assert distances[-1] <= 30


def test_city_by_id(places: Api) -> None:
    city = places.get(f"/v1/cities/{BERLIN}").json

    assert (city["id"], city["name"], city["country_name"]) == (BERLIN, "Berlin", "Germany")


def test_export_streams_every_city_of_a_country_in_chunks(places: Api) -> None:
    answer = places.get("/v1/export", country="DE")

    cities = [json.loads(line) for line in answer.body.splitlines()]
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert len(cities) > 1_000
    assert {city["country"] for city in cities} == {"DE"}
    assert cities[0]["name"] == "Berlin"


def test_language(places: Api) -> None:
    answer = places.post("/v1/text/language", {"text": "Wie viele Einwohner hat die Stadt?"})

    assert answer.json["language"] == "de"
    assert answer.json["candidates"][0]["probability"] > 0.9


def test_readability(places: Api) -> None:
    answer = places.post("/v1/text/readability", {"text": "The cat sat on the mat."})

    assert answer.json == {"sentences": 1, "words": 6, "syllables": 6, "reading_ease": 116.1, "grade": -1.4}


def test_healthz(places: Api) -> None:
    assert places.get("/healthz").json == {"status": "ok"}


def test_head_is_get_without_a_body(places: Api) -> None:
    answer = places.get("/v1/search", method="HEAD", q="berlin")

    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/v1/search", {}, "q"),
        ("/v1/search", {"q": "  "}, "q"),
        ("/v1/search", {"q": "a"}, "q"),
        ("/v1/search", {"q": "a" * 101}, "q"),
        ("/v1/search", {"q": "berlin", "limit": "0"}, "limit"),
        ("/v1/search", {"q": "berlin", "limit": "51"}, "limit"),
        ("/v1/search", {"q": "berlin", "limit": "-1"}, "limit"),
        ("/v1/search", {"q": "berlin", "limit": "٣"}, "limit"),
        ("/v1/search", {"q": "berlin", "limit": "9" * 5000}, "limit"),
        ("/v1/search", {"q": "berlin", "country": "XX"}, "country"),
        ("/v1/search", {"q": "berlin", "country": ""}, "country"),
        ("/v1/reverse", {"lon": "1"}, "lat"),
        ("/v1/reverse", {"lat": "91", "lon": "1"}, "lat"),
        ("/v1/reverse", {"lat": "nan", "lon": "1"}, "lat"),
        ("/v1/reverse", {"lat": "1", "lon": "east"}, "lon"),
        ("/v1/nearby", {"lat": "1", "lon": "1"}, "radius_km"),
        ("/v1/nearby", {"lat": "1", "lon": "1", "radius_km": "501"}, "radius_km"),
        ("/v1/nearby", {"lat": "1", "lon": "1", "radius_km": "0"}, "radius_km"),
        ("/v1/export", {}, "country"),
        ("/v1/export", {"country": "Germany"}, "country"),
    ],
)
def test_bad_parameter_is_named(places: Api, path: str, query: dict[str, str], parameter: str) -> None:
    assert error_of(places.get(path, **query)) == (400, "invalid_parameter", parameter)


@pytest.mark.parametrize("path", ["/v1/text/language", "/v1/text/readability"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 60_000, 400, "invalid_json"),
        (b"[]", 400, "invalid_parameter"),
        (b'{"text": 7}', 400, "invalid_parameter"),
        (b'{"text": " "}', 400, "invalid_parameter"),
        (b'{"text": "123 ..."}', 422, "not_enough_text"),
        (b'{"text": "' + b"a" * 70_000 + b'"}', 413, "text_too_long"),
    ],
)
def test_bad_body_is_refused(places: Api, path: str, body: bytes, status: int, code: str) -> None:
    assert error_of(places.send("POST", path, body=body))[:2] == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/cities/1", 404, "city_not_found"),
        ("GET", "/v1/cities/berlin", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/v1/search", 405, "method_not_allowed"),
        ("GET", "/v1/text/language", 405, "method_not_allowed"),
    ],
)
def test_wrong_paths_and_methods_answer_json(
    places: Api, method: str, path: str, status: int, code: str
) -> None:
    assert error_of(places.send(method, path))[:2] == (status, code)


def test_wrong_method_says_which_are_allowed(places: Api) -> None:
    assert "POST" in places.get("/v1/text/language").headers["allow"]


def test_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "examples.places", "--port", str(port)],
            cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_address_is_printed_and_served(places: Api) -> None:
    assert urlsplit(places.url).hostname == "127.0.0.1"


def test_follow_answers_each_position_with_the_nearest_city(places: Api) -> None:
    with connect(places.url.replace("http", "ws") + "/v1/follow") as socket:
        socket.send('{"lat": 52.52, "lon": 13.4}')
        assert json.loads(socket.recv(timeout=5))["country"] == "DE"
        for wrong in ("[]", "{", '{"lat": 91, "lon": 0}', '{"lat": "x", "lon": 0}', b"\x00\xff", ""):
            socket.send(wrong)
            assert json.loads(socket.recv(timeout=5))["error"]["code"] == "bad_position"
        socket.send('{"lat": 48.85, "lon": 2.35}')
        assert json.loads(socket.recv(timeout=5))["country"] == "FR"
