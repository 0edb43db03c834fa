"""Which route a path means."""

import pytest

from gateway.routes import RouteTable, has_dot_segments
from tests.gateway.records import route

TABLE = RouteTable(
    [
        route("search", "search"),
        route("city", "cities", None),
        route("new", "cities", methods="POST"),
        route("list", "cities"),
        route("files", "files", has_rest=True, methods="GET HEAD PUT"),
        route("name", "São Paulo"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "name", "below"),
    [
        ("GET", "/places/search", "search", "/search"),
        ("HEAD", "/places/search", "search", "/search"),
        ("GET", "/places/cities/7", "city", "/cities/7"),
        ("GET", "/places/cities/a%2Fb", "city", "/cities/a%2Fb"),
        ("POST", "/places/cities", "new", "/cities"),
        ("GET", "/places/cities", "list", "/cities"),
        ("PUT", "/places/files/a/b%20c/", "files", "/files/a/b%20c/"),
        ("GET", "/places/S%C3%A3o%20Paulo", "name", "/S%C3%A3o%20Paulo"),
        ("GET", "/pl%61ces/s%65arch", "search", "/s%65arch"),
    ],
)
def test_path_means_a_route_and_stays_as_it_came(method: str, path: str, name: str, below: str) -> None:
    match = TABLE.find(method, path)

    assert match is not None
    assert match.route is not None
    assert (match.route.public_id, match.path) == (name, below)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/other/search",
        "/places",
        "/places/",
        "/places/search/",
        "/places/Search",
        "/places/cities/7/x",
        "/places/s",
    ],
)
def test_unknown_paths_mean_nothing(path: str) -> None:
    assert TABLE.find("GET", path) is None


def test_another_method_learns_the_methods_of_all_routes_that_fit() -> None:
    match = TABLE.find("DELETE", "/places/cities")

    assert match is not None
    assert match.route is None
    assert match.allowed == ("GET", "HEAD", "POST")


@pytest.mark.parametrize(
    "path",
    [
        "/places/../admin", "/places/./search", "/places/%2e%2e/admin", "/places/%2E./admin", "/places/files/..",
        "/places/files/a%2f..%2fb", "/places/files/%252e%252e/b", "/places/files/..%5cb", "/places/files/a%00b",
    ],
)  # fmt: skip
def test_path_that_could_climb_is_never_matched(path: str) -> None:
    assert has_dot_segments(path)
    assert TABLE.find("GET", path) is None


@pytest.mark.parametrize(
    "path", ["/places/files/...", "/places/files/a..b", "/places/files/.hidden", "/places/files/%2F"]
)
def test_dots_within_names_are_no_dot_segments(path: str) -> None:
    assert not has_dot_segments(path)
    assert TABLE.find("GET", path) is not None
