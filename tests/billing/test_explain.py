"""Lines open into tiers, hours and calls that add up: stored ones at their cut, running ones as they stand."""

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

import pytest

from billing.breakdown import Share, add_shares
from billing.explain import NEXT, NOW, CallShare, OpenedLine, open_document, stored_document
from billing.models import Statement, StatementKind
from core.clock import now, to_micros
from core.errors import NotFound
from core.ids import event_id, new_nonce
from metering.events import Event
from metering.services import ingest_history
from metering.usage_corrections import correct_usage
from plans.models import Aggregation, Meter, Plan, PlanVersion, PriceComponent, PriceTier, TimeUnit
from plans.publishing import publish_version
from plans.services import roll_periods
from tests.billing.kit import HOUR, START, Customer

pytestmark = pytest.mark.django_db

MODELS = {
    "included": {"included": 40, "unit_price": "0.0015"},
    "per_unit": {"unit_price": "0.0015"},
    "graduated": {"tiers": [("10", "1", "3"), ("50.5", "0.3333", "2"), (None, "0.001", "0")]},
    "volume": {"included": 5, "tiers": [("20", "1", "3"), (None, "0.007", "2")]},
    "package": {"included": 3, "unit_price": "0.75", "package_size": 7},
}


def meter_of(kind: str, slug: str = "") -> Meter:
    return Meter.objects.create(
        slug=slug or f"m_{kind}", name=kind, unit="unit", aggregation=kind, decimals=6, dimensions=["region"],
        time_unit=TimeUnit.HOUR if kind == Aggregation.TIME_WEIGHTED else "",
        value_property="user" if kind == Aggregation.UNIQUE else "",
    )  # fmt: skip


def sell(meters: list[Meter], *, maximum_minor: int | None = None) -> PlanVersion:
    """A plan in which these meters have one pricing model each, by turns; the first also one of its own for the EU."""
    plan = Plan.objects.create(slug="all", name="All", is_public=False)
    version = PlanVersion.objects.create(plan=plan, number=1, fee_minor=4900, minimum_minor=100)
    for number, meter in enumerate(meters):
        model, facts = list(MODELS.items())[number % len(MODELS)]
        facts = dict(facts)
        tiers = facts.pop("tiers", [])
        for match in ({}, {"region": "eu"}) if number < 2 else ({},):
            component = PriceComponent.objects.create(
                version=version, meter=meter, model=model, position=number, match=match,
                maximum_minor=maximum_minor, **{"included": 0, "unit_price": None} | facts,
            )  # fmt: skip
            for up_to, price, flat in tiers:
                PriceTier.objects.create(
                    component=component, up_to=up_to and Decimal(up_to), unit_price=Decimal(price), flat_price=Decimal(flat)
                )  # fmt: skip
    return publish_version(version=version, by=None, at=START)


def report(customer: Customer, meter: Meter, at: datetime, quantity: str, **properties: object) -> Event:
    at_us, period = to_micros(at), customer.period()
    return Event(
        id=event_id(at_us, new_nonce()), occurred_at_us=at_us, received_at_us=at_us, mode="live", door="ingest",
        organization_id=customer.organization.pk, meter_id=meter.pk, period_id=period.pk, quantity=Decimal(quantity),
        properties=dict(properties) or None,
    )  # fmt: skip


def some_usage(customer: Customer, meters: list[Meter], random: Random, count: int) -> None:
    events = []
    for _ in range(count):
        at = START + timedelta(hours=random.randrange(30), seconds=random.randrange(3600))
        meter = random.choice(meters)
        counted = meter.aggregation == Aggregation.UNIQUE
        quantity = "1" if counted else str(Decimal(random.randrange(20_000_000)).scaleb(-6))
        properties = {
            "region": random.choice(["eu", "us", ""]),
            "user": random.choice(["ann", "bob", "cleo"]),
        }
        events.append(report(customer, meter, at, quantity, **properties))
    ingest_history(events, at=now())


def all_calls(line: OpenedLine, hour: datetime, tier: int | None = None) -> list[CallShare]:
    calls, after = [], None
    while True:
        page, after = line.calls(hour, tier=tier, after=after, limit=3)
        calls += page
        if after is None:
            return calls


def assert_adds_up(line: OpenedLine) -> None:
    """Tiers to the line to the cent; hours to each tier, and calls to each hour, exactly."""
    if not line.is_metered:
        assert line.hours() == []
        return
    assert line.adds_up()
    hours = line.hours()
    whole = add_shares([hour.share for hour in hours])
    assert whole == Share(line.line.quantity, line.exact)
    for hour in hours:
        assert add_shares([call.share for call in all_calls(line, hour.hour)]) == hour.share
    for number in range(1, len(line.line.tiers) + 1):
        for hour in line.hours(number)[:3]:
            assert add_shares([call.share for call in all_calls(line, hour.hour, number)]) == hour.share


@pytest.mark.parametrize("maximum_minor", [None, 900])
@pytest.mark.parametrize("seed", range(3))
def test_every_line_of_every_model_adds_up_at_every_level(seed: int, maximum_minor: int | None) -> None:
    """Five pricing models, each aggregation in turn, prices by region, late usage and corrections."""
    random = Random(seed)
    kinds = list(Aggregation.values)
    random.shuffle(kinds)
    meters = [meter_of(kind) for kind in kinds] + [meter_of("sum", f"s{number}") for number in range(5)]
    customer = Customer.start(version=sell(meters, maximum_minor=maximum_minor))
    some_usage(customer, meters, random, 120)
    running = open_document(customer.organization, NEXT, at=START + timedelta(days=3))
    for position in range(1, len(running.lines) + 1):
        assert_adds_up(running.line(position))

    statement = customer.finalise()
    before = [line.hours() for line in map(stored_document(statement).line, range(1, len(running.lines) + 1))]
    some_usage(customer, meters, random, 60)
    corrected = report(customer, meters[-1], START + HOUR, "5")
    ingest_history([corrected], at=now())
    correct_usage(corrected.id, quantity=Decimal("2"), reason="test", by=None, at=now())
    document = stored_document(Statement.objects.get(pk=statement.pk))
    for position in range(1, len(document.lines) + 1):
        assert_adds_up(document.line(position))
        assert document.line(position).hours() == before[position - 1], (
            "what comes late changes no final document"
        )


def test_an_adjustment_opens_into_the_difference() -> None:
    random, meters = Random(5), [meter_of("sum", f"s{number}") for number in range(5)] + [meter_of("max")]
    customer = Customer.start(version=sell(meters))
    some_usage(customer, meters, random, 60)
    customer.finalise()
    some_usage(customer, meters, random, 30)
    roll_periods(at=customer.period().ends_at + HOUR)
    statement = customer.finalise(1)
    assert statement.kind == StatementKind.PERIOD
    document = stored_document(statement)
    adjusted = [document.line(n) for n, line in enumerate(document.lines, 1) if line.kind == "adjustment"]
    assert len(adjusted) >= 5
    for line in adjusted:
        assert_adds_up(line)


def test_now_ends_readings_and_next_lets_them_stand() -> None:
    meter = meter_of("time_weighted")
    customer = Customer.start(version=sell([meter]))
    ingest_history([report(customer, meter, START, "2")], at=now())
    at = START + 5 * HOUR
    so_far = open_document(customer.organization, NOW, at=at)
    line = next(so_far.line(n) for n, one in enumerate(so_far.lines, 1) if one.meter and one.quantity)
    assert line.line.quantity == 10
    assert_adds_up(line)


@pytest.mark.parametrize("reference", ["stm_unknown", "p20200101T000000000000", "p2020", "", "x"])
def test_unknown_documents_and_lines_are_missing(reference: str) -> None:
    customer = Customer.start()
    with pytest.raises(NotFound):
        open_document(customer.organization, reference, at=START)
    with pytest.raises(NotFound):
        open_document(customer.organization, NOW, at=START).line(99)


def test_a_strangers_statement_is_missing() -> None:
    customer, stranger = Customer.start(), Customer.start("Contoso")
    customer.use(5)
    with pytest.raises(NotFound):
        open_document(stranger.organization, customer.finalise().public_id, at=now())


def test_corrections_stand_right_after_the_call_they_correct(usage_redis: object) -> None:
    """Also among calls of the same microsecond, and over pages; the order is always the same."""
    meter = meter_of("sum", "same")
    customer = Customer.start(version=sell([meter]))
    calls = [report(customer, meter, START + HOUR, "5") for _ in range(6)]
    ingest_history(calls, at=now())
    for call in calls[::2]:
        correct_usage(call.id, quantity=Decimal("2"), reason="test", by=None, at=now())
    line = next(
        line
        for line in map(open_document(customer.organization, NEXT, at=START + 2 * HOUR).line, (1, 2, 3))
        if line.is_metered and line.hours()
    )
    found = all_calls(line, START + HOUR)
    events = [one.event for one in found if one.event is not None]
    assert len(events) > len(calls)
    beside = [event.corrects_id or event.id for event in events]
    assert beside == sorted(beside)  # a call and what corrects it are neighbours
    firsts = {one: beside.index(one) for one in beside}
    assert all(events[place].corrects_id is None for place in firsts.values())
