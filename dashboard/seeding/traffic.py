"""Believable usage: weekdays and weekends, mornings and nights, growth, noise, and some failures. Seeded, no floats.

One event stands for the calls of an hour of one key on one route with one outcome; its quantity is their number.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dashboard.seeding.companies import Company

# Share of a day's calls in each UTC hour, per mille; adds up to 1000.
HOURS = (14, 10, 8, 8, 10, 16, 28, 44, 62, 72, 74, 70, 64, 68, 70, 68, 62, 54, 48, 42, 36, 30, 24, 18)
HISTORY_DAYS = 90
SATURDAY = 5
NOT_FOUND_PER_MILLE = 30
OUTCOMES = ((200, ""), (404, "client_error"), (502, "upstream_error"))
WEIGHTS = (96, 3, 1)


@dataclass(frozen=True, slots=True)
class Burst:
    """Calls of one hour with one outcome. `key` and `route` are positions in the customer's keys and in the routes."""

    at: datetime
    key: int
    route: int
    status: int
    reason: str
    calls: int


def hourly_bursts(
    company: Company, *, start: datetime, end: datetime, routes: int, rng: random.Random, every_hours: int = 1
) -> Iterator[Burst]:
    """Bursts of `[start, end)` in order of time; `every_hours` puts so many hours into one."""
    moment = start.replace(minute=0, second=0, microsecond=0)
    while moment < end:
        calls = sum(_calls(company, moment + timedelta(hours=h), start, rng) for h in range(every_hours))
        yield from _split(company, moment, max(start, moment), end, calls, routes, rng)
        moment += timedelta(hours=every_hours)


def _calls(company: Company, hour: datetime, start: datetime, rng: random.Random) -> int:
    """Calls of one hour: share of the day, weekend, growth over the history, and 20 % of noise."""
    share = HOURS[hour.astimezone(UTC).hour]
    week = company.weekend if hour.weekday() >= SATURDAY else 100
    grown = 100 + company.growth * (hour - start).days // HISTORY_DAYS
    expected = company.calls_a_day * share * week * grown * rng.randint(80, 120)
    return _rounded(expected, 1000 * 100 * 100 * 100, rng)


def _split(
    company: Company,
    hour: datetime,
    first: datetime,
    end: datetime,
    calls: int,
    routes: int,
    rng: random.Random,
) -> Iterator[Burst]:
    """The first key and the first route take most; the remainder of a division goes to them too."""
    if not calls:
        return
    at = _moment(hour, first, end, rng)
    for key, route, part in _shares(calls, len(company.keys), routes):
        yield Burst(at, key, route, 200, "", part)
    if rng.randrange(1000) < company.failing * 4:
        reason, status = rng.choice((("upstream_error", 502), ("upstream_timeout", 504)))
        yield Burst(at, 0, 0, status, reason, 1)
    if rng.randrange(1000) < NOT_FOUND_PER_MILLE:
        yield Burst(at, 0, 0, 404, "client_error", 1)


def _shares(calls: int, keys: int, routes: int) -> list[tuple[int, int, int]]:
    """At most four parts: main key on two routes, the other keys on one each."""
    parts: list[tuple[int, int, int]] = []
    for key in range(1, keys):
        parts.append((key, key % routes, calls * 22 // 100))
    second = calls * 15 // 100 if routes > 1 and keys == 1 else 0
    if second:
        parts.append((0, 1, second))
    parts.append((0, 0, calls - sum(part for _, _, part in parts)))
    return [part for part in parts if part[2] > 0]


def _moment(hour: datetime, first: datetime, end: datetime, rng: random.Random) -> datetime:
    """Some second of the hour, inside `[first, end)`."""
    last = min(hour + timedelta(hours=1), end)
    seconds = max(int((last - first).total_seconds()) - 1, 0)
    return first + timedelta(
        seconds=rng.randint(0, seconds), microseconds=rng.randint(0, 999_999) if seconds else 0
    )


def _rounded(numerator: int, denominator: int, rng: random.Random) -> int:
    """The quotient, its remainder as the chance of one more: small customers have calls too."""
    whole, rest = divmod(numerator, denominator)
    return whole + (rng.randrange(denominator) < rest)


def single_calls(
    *, since: datetime, until: datetime, count: int, keys: int, routes: int, rng: random.Random
) -> Sequence[Burst]:
    """Single calls of the last hour, in order of time."""
    span = int((until - since).total_seconds() * 1000)
    moments = sorted(since + timedelta(milliseconds=rng.randint(0, span)) for _ in range(count))
    return [
        Burst(at, rng.randrange(keys), rng.randrange(routes), *rng.choices(OUTCOMES, WEIGHTS)[0], 1)
        for at in moments
    ]
