"""Meters that do not add up: worked examples, and the statements against a plain model of the same readings."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import now, to_micros
from core.ids import event_id
from metering import aggregation
from metering.aggregation import Reading, integral, over_time, unit_micros
from metering.events import Event
from metering.period_usage import late_since, period_quantities, period_quantities_at, quantities_by_period
from metering.reconcile import reconcile
from metering.services import ingest_history
from plans.models import Aggregation, Meter, Period, TimeUnit
from tests.metering.ledger_kit import Ledger

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
START = datetime(2026, 9, 1, tzinfo=UTC)


def reading(value: str, *, us: int = 0, ordinal: str = "") -> Reading:
    return Reading(us, ordinal, Decimal(value))


# --- the arithmetic ----------------------------------------------------------------------------------------------


def test_three_gigabytes_for_two_hours_are_six_gigabyte_hours() -> None:
    stood = integral([reading("3"), reading("0", us=2 * HOUR_US)], start_us=0, end_us=DAY_US)
    assert over_time(stood, HOUR_US) == 6


def test_a_value_that_stood_when_the_period_began_is_carried_over() -> None:
    stood = integral([reading("5", us=12 * HOUR_US)], start_us=0, end_us=DAY_US, carried=Decimal(2))
    assert over_time(stood, HOUR_US) == 12 * 2 + 12 * 5


def test_readings_outside_the_period_change_nothing_in_it() -> None:
    readings = [reading("9", us=-1), reading("4", us=0), reading("9", us=DAY_US)]
    assert over_time(integral(readings, start_us=0, end_us=DAY_US), DAY_US) == 4


def test_of_two_readings_at_one_moment_the_greater_id_stands() -> None:
    readings = [reading("7", ordinal="b"), reading("4", ordinal="a")]
    assert integral(readings, start_us=0, end_us=10) == 70
    assert aggregation.last(readings) == 7
    assert aggregation.last([]) is None


@pytest.mark.parametrize(
    ("value_us", "unit_us", "expected"),
    [("1", 3, "0.333333333333"), ("2", 3, "0.666666666667"), ("1", 2_000_000_000_000, "0.000000000001"),
     ("1", 2_000_000_000_001, "0"), ("0.000000000001", 2, "0.000000000001"), ("0", 7, "0")],
)  # fmt: skip
def test_the_quotient_is_rounded_once_half_up(value_us: str, unit_us: int, expected: str) -> None:
    assert over_time(Decimal(value_us), unit_us) == Decimal(expected)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.decimals(0, 10**6, places=9)), max_size=8),
    st.integers(0, 1000),
)
def test_an_integral_is_the_sum_of_its_parts(pairs: list[tuple[int, Decimal]], cut: int) -> None:
    readings = [Reading(at, str(n), value) for n, (at, value) in enumerate(pairs)]
    whole = integral(readings, start_us=0, end_us=1000)
    before = [one for one in readings if one.at_us < cut]
    carried = aggregation.last(before) or Decimal(0)
    parts = (
        integral(readings, start_us=0, end_us=cut),
        integral(readings, start_us=cut, end_us=1000, carried=carried),
    )
    assert whole == sum(parts)


def test_a_month_is_the_usage_month_also_of_a_period_that_was_cut_short() -> None:
    period = Period(anchor=START, starts_at=START + timedelta(days=10), ends_at=START + timedelta(days=12))
    assert unit_micros(TimeUnit.MONTH, period) == 30 * DAY_US
    assert (unit_micros(TimeUnit.HOUR, period), unit_micros(TimeUnit.DAY, period)) == (HOUR_US, DAY_US)


# --- the statements ----------------------------------------------------------------------------------------------


class Books:
    """Two periods of one customer, a meter of each aggregation, and what was reported."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        subscription = ledger.period.subscription
        Period.objects.filter(subscription=subscription).delete()
        self.periods = [
            Period.objects.create(
                organization=ledger.organization, subscription=subscription, version=ledger.period.version,
                anchor=START, starts_at=start, ends_at=end,
            )
            for start, end in ((START, datetime(2026, 10, 1, tzinfo=UTC)), (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)))
        ]  # fmt: skip
        self.meters = {
            kind: Meter.objects.create(
                slug=f"m_{kind}", name=kind, unit="unit", aggregation=kind, decimals=6, dimensions=["region"],
                time_unit=TimeUnit.HOUR if kind == Aggregation.TIME_WEIGHTED else "",
                value_property="user" if kind == Aggregation.UNIQUE else "",
            )
            for kind in Aggregation.values
        }  # fmt: skip
        self.events: list[Event] = []
        self.nonces = count(1)

    def event(self, kind: str, at: datetime, quantity: str, *, nonce: int = 0, **properties: object) -> Event:
        at_us = to_micros(at)
        period = next(p for p in reversed(self.periods) if p.starts_at <= at)
        return Event(
            id=event_id(at_us, nonce or next(self.nonces)), occurred_at_us=at_us,
            organization_id=self.ledger.organization.pk, mode="live", meter_id=self.meters[kind].pk, period_id=period.pk,
            quantity=Decimal(quantity), door="ingest", properties=dict(properties) or None,
        )  # fmt: skip

    def store(self, *events: Event) -> None:
        self.events += events
        ingest_history(events, at=now())

    def quantities(self, period: Period, at: datetime | None = None) -> dict[tuple[str, str], Decimal]:
        """Read from the totals; checked against the events themselves."""
        found = period_quantities(self.ledger.organization, period=period, mode="live", at=at)
        if at is None:
            assert (
                found
                == period_quantities_at(period, cut_at=None)
                == period_quantities_at(period, cut_at=now())
            )
            assert found == quantities_by_period([p.pk for p in self.periods]).get(period.pk, {})
        return found


@pytest.fixture
def books(ledger: Ledger) -> Books:
    return Books(ledger)


def test_storage_is_billed_by_the_month_and_counted_daily(books: Books) -> None:
    """10 GB for ten days, 20 for ten, none for ten: 10 GB-months, at 0.10 one dollar."""
    meter = books.meters[Aggregation.TIME_WEIGHTED]
    meter.time_unit, meter.dimensions = TimeUnit.MONTH, []
    meter.save()
    sizes = ["10"] * 10 + ["20"] * 10 + ["0"] * 10
    books.store(
        *[books.event("time_weighted", START + timedelta(days=day), size) for day, size in enumerate(sizes)]
    )
    quantities = books.quantities(books.periods[0])
    assert quantities == {("m_time_weighted", ""): 10}
    assert quantities["m_time_weighted", ""] * Decimal("0.10") == 1
    assert books.quantities(books.periods[1]) == {}


def test_instances_that_run_are_hours_until_the_present_and_over_the_month_s_border(books: Books) -> None:
    september, october = books.periods
    at = september.ends_at - timedelta(hours=5)
    books.store(books.event("time_weighted", at, "2", region="eu"))
    slug = "m_time_weighted"
    assert books.quantities(september, at + timedelta(minutes=30)) == {(slug, "region=eu"): 1}
    assert books.quantities(september) == {(slug, "region=eu"): 10}
    books.store(books.event("time_weighted", october.starts_at + timedelta(hours=3), "0", region="eu"))
    assert books.quantities(october) == {(slug, "region=eu"): 6}
    assert books.quantities(september) == {(slug, "region=eu"): 10}


def test_each_aggregation_of_one_set_of_readings(books: Books) -> None:
    for kind in Aggregation.values:
        for hour, (value, user) in enumerate((("4", "ann"), ("9", "bob"), ("2.5", "ann"))):
            event = books.event(kind, START + timedelta(hours=hour), value, region="eu", user=user)
            books.store(event)
    quantities = {slug: value for (slug, _), value in books.quantities(books.periods[0]).items()}
    stood = 4 + 9 + Decimal("2.5") * (30 * 24 - 2)
    assert quantities == {
        "m_sum": Decimal("15.5"), "m_count": Decimal("15.5"), "m_max": 9, "m_last": Decimal("2.5"), "m_unique": 2,
        "m_time_weighted": stood,
    }  # fmt: skip


def test_late_usage_is_what_was_stored_after_the_cut(books: Books) -> None:
    september, october = books.periods
    books.store(books.event("sum", START, "3", region="eu"), books.event("max", START, "3", region="eu"))
    books.store(books.event("time_weighted", START, "1"))
    cut = now()
    assert late_since(september, cut_at=cut) == {}
    late = START + timedelta(days=29)
    books.store(books.event("sum", late, "2", region="eu"), books.event("sum", late, "1", region="us"))
    books.store(books.event("max", late, "2", region="eu"), books.event("time_weighted", late, "3"))
    expected = {("m_sum", "region=eu"): 2, ("m_sum", "region=us"): 1, ("m_time_weighted", "region="): 48}
    assert late_since(september, cut_at=cut) == expected
    assert late_since(october, cut_at=cut) == {("m_time_weighted", "region="): 2 * 31 * 24}
    assert late_since(september, cut_at=now()) == {}


@pytest.mark.parametrize("seed", range(12))
def test_totals_events_and_a_plain_model_agree(books: Books, seed: int) -> None:
    random = Random(seed)
    moments = []
    for _ in range(random.randint(1, 5)):
        books.store(*[_random_event(books, random) for _ in range(random.randint(1, 40))])
        moments.append((now(), len(books.events)))
    for period in books.periods:
        assert books.quantities(period) == _model(books, books.events, period)
        for cut_at, stored in moments:
            assert period_quantities_at(period, cut_at=cut_at) == _model(books, books.events[:stored], period)
            late = late_since(period, cut_at=cut_at)
            then = _model(books, books.events[:stored], period)
            both = {key: then.get(key, 0) + late.get(key, 0) for key in {*then, *late}}
            assert {k: v for k, v in both.items() if v} == {
                k: v for k, v in books.quantities(period).items() if v
            }
    assert reconcile(at=now()).is_equal


def _random_event(books: Books, random: Random) -> Event:
    kind = random.choice(Aggregation.values)
    span = 60 if random.random() < 0.7 else 3  # crowded hours too
    at = START + timedelta(days=span * random.random())
    if random.random() < 0.2:
        at = START + timedelta(hours=random.randrange(48))  # the same moments again
    properties: dict[str, object] = {"region": random.choice(["eu", "us", ""])}
    if random.random() < 0.9:
        properties["user"] = random.choice(["ann", "bob", "cleo", 7])
    quantity = str(Decimal(random.randrange(10**6)).scaleb(-random.randrange(7)))
    return books.event(kind, at, quantity, nonce=random.getrandbits(70), **properties)


def _model(books: Books, events: list[Event], period: Period) -> dict[tuple[str, str], Decimal]:
    found: dict[tuple[str, str], Decimal] = {}
    for kind, meter in books.meters.items():
        for region in ("eu", "us", ""):
            own = [
                e for e in events if e.meter_id == meter.pk and (e.properties or {}).get("region") == region
            ]
            quantity = _of_kind(kind, own, period)
            if quantity is not None:
                found[meter.slug, f"region={region}"] = quantity
    return found


def _of_kind(kind: str, events: list[Event], period: Period) -> Decimal | None:
    inside = [e for e in events if e.period_id == period.pk]
    if kind == Aggregation.TIME_WEIGHTED:
        readings = [Reading(e.occurred_at_us, str(e.id), e.quantity) for e in events]
        start, end = to_micros(period.starts_at), to_micros(period.ends_at)
        carried = aggregation.last([one for one in readings if one.at_us < start]) or Decimal(0)
        stood = integral(readings, start_us=start, end_us=end, carried=carried)
        return over_time(stood, HOUR_US) if inside or carried else None
    if not inside:
        return None
    if kind == Aggregation.MAX:
        return max(e.quantity for e in inside)
    if kind == Aggregation.LAST:
        return max(inside, key=lambda e: (e.occurred_at_us, e.id)).quantity
    if kind == Aggregation.UNIQUE:
        users = {str(e.properties["user"]) for e in inside if e.properties and "user" in e.properties}
        return Decimal(len(users)) if users else None
    return sum((e.quantity for e in inside), Decimal(0))
