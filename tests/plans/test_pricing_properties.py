"""What holds for every price and every usage (DESIGN.md, section 6)."""

from dataclasses import replace
from decimal import Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from core.money import to_minor
from plans.pricing import (
    Line,
    PriceModel,
    PriceStep,
    Rated,
    Terms,
    UsagePrice,
    borders,
    price_faults,
    rate_period,
    trial_terms,
    usage_line,
    usage_tiers,
)
from plans.tiers import EXACT

ZERO = Decimal(0)
STEPPED = (PriceModel.GRADUATED, PriceModel.VOLUME)
CURRENCIES = ("USD", "JPY", "KWD")

# As wide as the database's columns: 24 digits, 9 decimals for quantities, 12 for prices.
quantities = st.one_of(
    st.integers(0, 10**6).map(Decimal),
    st.decimals(min_value=0, max_value=10**15 - 1, places=9),
)
prices = st.one_of(
    st.sampled_from([Decimal(0), Decimal("0.001"), Decimal("0.005"), Decimal(7)]),
    st.decimals(min_value=0, max_value=10**12 - 1, places=12),
)
sizes = st.decimals(min_value=Decimal("0.000000001"), max_value=10**6, places=9)
maxima = st.one_of(st.none(), st.integers(0, 10**9))


@st.composite
def stepped_prices(draw: st.DrawFn, model: PriceModel) -> UsagePrice:
    ends = sorted(draw(st.sets(quantities.filter(bool), max_size=4)))
    steps = tuple(PriceStep(end, draw(prices), draw(prices)) for end in [*ends, None])
    return UsagePrice("m", "unit", draw(quantities), None, model, steps, maximum_minor=draw(maxima))


flat_prices = st.builds(
    UsagePrice,
    meter=st.just("m"),
    unit=st.just("unit"),
    included=quantities,
    unit_price=prices,
    model=st.sampled_from([PriceModel.INCLUDED, PriceModel.PER_UNIT, PriceModel.PACKAGE]),
    package_size=sizes,
    maximum_minor=maxima,
)
rising_prices = st.one_of(flat_prices, stepped_prices(PriceModel.GRADUATED))
any_prices = st.one_of(rising_prices, stepped_prices(PriceModel.VOLUME))


def exact_sum(line: Line) -> Decimal:
    with localcontext(EXACT):
        return sum((tier.amount for tier in line.tiers), ZERO)


@given(any_prices, quantities, st.sampled_from(CURRENCIES))
def test_tiers_add_up_to_the_line_exactly(price: UsagePrice, used: Decimal, currency: str) -> None:
    line = usage_line(price, used, currency)
    assert sum(tier.quantity for tier in line.tiers) == used
    with localcontext(EXACT):
        assert line.amount_minor == to_minor(exact_sum(line), currency)
        for tier in line.tiers:
            assert tier.amount == tier.quantity * tier.unit_price + tier.flat


@given(any_prices, quantities)
def test_a_line_is_never_negative_and_never_above_its_maximum(price: UsagePrice, used: Decimal) -> None:
    amount = usage_line(price, used, "USD").amount_minor
    assert amount >= 0
    assert price.maximum_minor is None or amount <= price.maximum_minor


@given(rising_prices, quantities, quantities)
def test_more_usage_never_costs_less_unless_it_is_by_volume(
    price: UsagePrice, one: Decimal, other: Decimal
) -> None:
    low, high = sorted((one, other))
    assert usage_line(price, low, "USD").amount_minor <= usage_line(price, high, "USD").amount_minor


@given(any_prices)
def test_included_units_are_free_in_every_model(price: UsagePrice) -> None:
    assert usage_line(price, price.included, "USD").amount_minor == 0


@given(any_prices, quantities)
def test_tiers_lie_one_after_the_other(price: UsagePrice, used: Decimal) -> None:
    reached = [tier for tier in usage_tiers(price, used) if tier.quantity]
    assert sum(tier.quantity for tier in reached) == used
    for tier in reached:
        assert tier.end is None or tier.start + tier.quantity <= tier.end
    if price.model is not PriceModel.VOLUME:
        place = ZERO
        for tier in reached:
            assert tier.start == place
            place += tier.quantity


@given(stepped_prices(PriceModel.GRADUATED))
def test_volume_against_graduated_at_each_border(price: UsagePrice) -> None:
    """Up to the first border both are the same. At a border volume has the whole quantity at the price of the step that
    ends there; one smallest unit further, at the next step's. Graduated only adds that unit and the step's flat price."""
    price = replace(price, included=ZERO, maximum_minor=None)
    by_volume = replace(price, model=PriceModel.VOLUME)
    smallest = Decimal("0.000000001")
    with localcontext(EXACT):
        for step, after in zip(price.steps, price.steps[1:], strict=False):
            assert step.up_to is not None
            end, over = step.up_to, step.up_to + smallest
            assert cost(by_volume, end) == end * step.unit_price + step.flat_price
            assert cost(by_volume, over) == over * after.unit_price + after.flat_price
            assert cost(price, over) - cost(price, end) == smallest * after.unit_price + after.flat_price
        first = price.steps[0].up_to
        if first is not None:
            assert cost(by_volume, first) == cost(price, first)


def cost(price: UsagePrice, used: Decimal) -> Decimal:
    with localcontext(EXACT):
        return sum((tier.amount for tier in usage_tiers(price, used)), ZERO)


@given(any_prices)
def test_the_price_of_a_unit_changes_only_at_borders(price: UsagePrice) -> None:
    ends = {tier.end for used in borders(price) for tier in usage_tiers(price, used + 1)}
    assert ends - {None} <= set(borders(price))


@given(any_prices)
def test_these_prices_may_be_sold(price: UsagePrice) -> None:
    assert price_faults(price) == ()


meters = st.sampled_from("abcd")
usages = st.dictionaries(st.tuples(meters, st.just("")), quantities)


@st.composite
def any_terms(draw: st.DrawFn) -> Terms:
    priced = tuple(replace(draw(any_prices), meter=meter) for meter in "abcd")
    fee, minimum = draw(st.integers(0, 10**9)), draw(st.integers(0, 10**9))
    return Terms("T", draw(st.sampled_from(CURRENCIES)), fee, priced, minimum)


def again(terms: Terms) -> Terms:
    """The same terms as they come from the database another time: nothing remembered."""
    return replace(terms, usage=tuple(replace(price) for price in terms.usage))


@given(any_terms(), usages, st.booleans(), st.booleans())
def test_lines_add_up_and_are_the_same_again(
    terms: Terms, usage: dict[tuple[str, str], Decimal], fee: bool, minimum: bool
) -> None:
    rated = rate_period(terms, usage, charge_fee=fee, charge_minimum=minimum)
    assert rated.total_minor == sum(line.amount_minor for line in rated.lines)
    shuffled = dict(reversed(usage.items()))
    assert rate_period(again(terms), shuffled, charge_fee=fee, charge_minimum=minimum) == rated
    assert len(rated.lines) == fee + 4 + bool(kinds(rated, "minimum"))


@given(any_terms(), usages)
def test_usage_and_true_up_reach_the_minimum_and_never_pass_it_together(
    terms: Terms, usage: dict[tuple[str, str], Decimal]
) -> None:
    rated = rate_period(terms, usage)
    used, true_up = kinds(rated, "usage"), kinds(rated, "minimum")
    assert used + true_up == max(used, terms.minimum_minor)
    assert rated.total_minor == terms.fee_minor + max(used, terms.minimum_minor)


def kinds(rated: Rated, kind: str) -> int:
    return sum(line.amount_minor for line in rated.lines if line.kind == kind)


@given(any_terms(), usages)
def test_a_trial_costs_nothing(terms: Terms, usage: dict[tuple[str, str], Decimal]) -> None:
    assert rate_period(trial_terms(terms), usage).total_minor == 0
