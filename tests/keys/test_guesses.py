import pytest

from keys import guesses
from keys.guesses import Guesses, TooManyGuesses


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MISSES_A_MINUTE", 2)
    monkeypatch.setattr(guesses, "ADDRESSES", 3)


def miss(counted: Guesses, address: str, times: int) -> None:
    for _ in range(times):
        counted.check(address)
        counted.count(address)


def is_over(counted: Guesses, address: str) -> bool:
    try:
        counted.check(address)
    except TooManyGuesses:
        return True
    return False


def test_an_address_has_so_many_misses_a_minute_and_others_have_theirs() -> None:
    seconds = 59.0
    counted = Guesses(lambda: seconds)
    miss(counted, "a", 1)
    assert not is_over(counted, "a")
    miss(counted, "a", 1)
    assert is_over(counted, "a")
    assert not is_over(counted, "b")
    seconds = 60.0
    assert not is_over(counted, "a")
    miss(counted, "a", 2)
    assert is_over(counted, "a")


def test_it_forgets_who_missed_longest_ago() -> None:
    counted = Guesses(lambda: 0.0)
    for address in ("a", "b", "c"):
        miss(counted, address, 1)
    miss(counted, "a", 1)
    miss(counted, "d", 1)
    assert is_over(counted, "a")
    miss(counted, "b", 1)  # was forgotten, so this is its first
    assert not is_over(counted, "b")


def test_clearing_forgets_all() -> None:
    counted = Guesses(lambda: 0.0)
    miss(counted, "a", 2)
    counted.clear()
    assert not is_over(counted, "a")
