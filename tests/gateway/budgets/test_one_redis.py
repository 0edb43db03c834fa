"""500 parallel calls against a budget that fits exactly 100, over four workers and one Redis."""

import pytest

from tests.gateway.budgets.kit import KINDS, House
from tests.gateway.budgets.proofs import Record, assert_at_most_100_with_a_death, assert_exactly_100


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_as_many_pass_as_fit(house: House, kind: str, record_property: Record) -> None:
    assert_exactly_100(house, kind, record_property)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_worker_lets_none_too_many_pass_and_holds_nothing_for_ever(
    house: House, kind: str, record_property: Record
) -> None:
    assert_at_most_100_with_a_death(house, kind, record_property)
