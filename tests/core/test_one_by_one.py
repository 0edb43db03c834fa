"""Recurring work goes on behind an item at fault, and stops only where the database is away."""

import pytest
from django.db import OperationalError

from core.one_by_one import one_by_one


def _act(item: int) -> int:
    if item == 2:
        raise ValueError("at fault")
    if item == 9:
        raise OperationalError("away")
    return item


def test_the_others_are_done() -> None:
    assert one_by_one([1, 2, 3], _act, failed="test_failed") == 4


def test_a_database_that_is_away_ends_the_run() -> None:
    with pytest.raises(OperationalError):
        one_by_one([1, 9, 3], _act, failed="test_failed")
