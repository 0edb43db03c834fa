"""The pure functions of the sample's index."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.places.cities import HALF_WAY_ROUND_KM, distance_km, fold, load_index, nearby, reverse, search

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)


def names(query: str, **options: object) -> list[str]:
    return [city.name for city, _ in search(load_index(), query, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  São-Paulo", "sao paulo"),
        ("ŁÓDŹ", "lodz"),
        ("Straße", "strasse"),
        ("O'Higgins_2", "o higgins 2"),
        ("a\nb", "a b"),
        ("İzmir", "izmir"),
        ("--", ""),
    ],
)
def test_fold_removes_case_accents_and_punctuation(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize("query", ["são paulo", "SAO PAULO", "Sao-Paulo", "  sao   paulo "])
def test_search_ignores_case_accents_and_spaces(query: str) -> None:
    assert names(query, limit=1) == ["São Paulo"]


@pytest.mark.parametrize(
    ("query", "first"),
    [("paris", "Paris"), ("roma", "Rome"), ("wien", "Vienna"), ("北京", "Beijing"), ("munch", "Munich")],
)
def test_best_match_comes_first(query: str, first: str) -> None:
    assert names(query)[0] == first


def test_search_finds_a_later_word_of_a_name() -> None:
    assert "Los Angeles" in names("angeles", country="US")


def test_each_city_is_found_once() -> None:
    found = [city.id for city, _ in search(load_index(), "san", limit=500)]

    assert len(found) == len(set(found)) == 500


def test_country_restricts_the_search() -> None:
    hits = search(load_index(), "paris", country="US", limit=50)

    assert {city.country for city, _ in hits} == {"US"}


def test_scores_fall() -> None:
    scores = [score for _, score in search(load_index(), "new", limit=50)]

    assert scores == sorted(scores, reverse=True)


def test_text_without_letters_finds_nothing() -> None:
    assert names("---") == []


def test_distance_is_the_great_circle() -> None:
    assert distance_km(52.52, 13.405, 48.8566, 2.3522) == pytest.approx(877.5, abs=1)
    assert distance_km(0, 0, 0, 180) == pytest.approx(HALF_WAY_ROUND_KM)
    assert distance_km(0, 179.9, 0, -179.9) == pytest.approx(22.24, abs=0.01)


@pytest.mark.no_cover
@settings(max_examples=40, deadline=None)
@given(LATITUDES, LONGITUDES)
def test_reverse_finds_what_looking_at_every_city_finds(lat: float, lon: float) -> None:
    index = load_index()
    every = sorted(distance_km(lat, lon, city.latitude, city.longitude) for city in index.cities)

    assert [distance for _, distance in reverse(index, lat, lon, limit=3)] == pytest.approx(every[:3])


@settings(max_examples=40, deadline=None)
@given(LATITUDES, LONGITUDES, st.floats(1, 500))
def test_nearby_finds_exactly_the_cities_in_the_circle(lat: float, lon: float, radius_km: float) -> None:
    index = load_index()
    inside = {
        city.id for city in index.cities if distance_km(lat, lon, city.latitude, city.longitude) <= radius_km
    }

    assert {city.id for city, _ in nearby(index, lat, lon, radius_km=radius_km)} == inside


@pytest.mark.parametrize(("lat", "lon"), [(-17.8, 179.99), (-17.8, -179.99), (65.0, 180.0)])
def test_circle_reaches_over_the_date_line(lat: float, lon: float) -> None:
    found = {city.id for city, _ in nearby(load_index(), lat, lon, radius_km=500)}
    every = {c.id for c in load_index().cities if distance_km(lat, lon, c.latitude, c.longitude) <= 500}

    assert found == every
