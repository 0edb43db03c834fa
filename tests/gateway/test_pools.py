"""Which server of a pool is asked, and how long one is left out."""

from collections import Counter
from typing import Any

import pytest

from gateway.pools import (
    EJECT_AFTER,
    EJECT_SECONDS,
    LEAST_RETRIES,
    LONGEST_EJECTION_SECONDS,
    RetryBudget,
    Server,
    ServerPool,
    ServerState,
    Upstream,
    kept_state,
)


def server(name: str, *, position: int = 0, weight: int = 1) -> Server:
    return Server(name, Upstream(f"http://{name}", None, 1.0), "", position, weight, None, ServerState(name))


def pool_of(*servers: Server) -> ServerPool:
    return ServerPool("test", servers, retries=True)


def eject(*servers: Server, now: float = 100.0) -> None:
    for one in servers:
        for _ in range(EJECT_AFTER):
            one.state.fail("no answer", now=now)
        assert one.state.is_out


def chosen(pool: ServerPool, times: int) -> dict[str, int]:
    """Which servers so many calls went to, one after the other."""
    return dict(Counter(found.key for _ in range(times) if (found := pool.choose()) is not None))


def test_a_quiet_pool_is_shared_by_weight() -> None:
    assert chosen(pool_of(server("a", weight=3), server("b"), server("c", weight=2)), 60) == {
        "a": 30, "b": 10, "c": 20,
    }  # fmt: skip


def test_the_server_with_the_fewest_open_calls_for_its_weight_is_asked() -> None:
    one, two = server("a"), server("b", weight=2)
    pool = pool_of(one, two)
    one.state.open, two.state.open = 3, 5
    assert pool.choose() is two
    two.state.open = 6
    assert {pool.choose(), pool.choose(), pool.choose()} == {one, two}  # 3 of 1 is as 6 of 2
    two.state.open = 7
    assert pool.choose() is one


def test_calls_that_stay_open_are_spread_by_weight() -> None:
    pool = pool_of(server("a", weight=3), server("b"))
    for _ in range(40):
        found = pool.choose()
        assert found is not None
        found.state.open += 1
    assert [one.state.open for one in pool.servers] == [30, 10]


def test_the_next_position_is_asked_only_where_too_few_are_well() -> None:
    first, second, standby = server("a"), server("b"), server("standby", position=1)
    pool = pool_of(standby, first, second)
    assert set(chosen(pool, 10)) == {"a", "b"}
    eject(first)
    assert chosen(pool, 10) == {"b": 10}  # half is enough
    eject(second)
    assert chosen(pool, 10) == {"standby": 10}


def test_where_no_position_has_enough_all_are_asked(settings: Any) -> None:
    servers = [server(name) for name in "abcd"]
    pool = pool_of(*servers)
    eject(*servers[:3])
    assert chosen(pool, 8) == {"a": 2, "b": 2, "c": 2, "d": 2}
    settings.UPSTREAM_PANIC_PERCENT = 0
    assert chosen(pool, 8) == {"d": 8}
    eject(servers[3])
    assert chosen(pool, 8) == {"a": 2, "b": 2, "c": 2, "d": 2}  # with nobody well, everybody


def test_who_was_tried_is_not_chosen_again() -> None:
    one, two, standby = server("a"), server("b"), server("standby", position=1)
    pool = pool_of(one, two, standby)
    assert pool.choose([one]) is two
    assert pool.choose([one, two]) is standby
    assert pool.choose([one, two, standby]) is None
    eject(standby)
    assert pool.choose([one, two]) is None  # a server that is left out is no better one


# --- ejection ----------------------------------------------------------------------------------------------------


def test_only_failures_in_a_row_eject() -> None:
    state = ServerState("a")
    for _ in range(3):
        for _ in range(EJECT_AFTER - 1):
            state.fail("answered 503", now=1.0)
        state.succeed(chosen_at=1.0)
    assert not state.is_out
    for _ in range(EJECT_AFTER):
        state.fail("answered 503", now=1.0)
    assert (state.is_out, state.ejected_until, state.last_error) == (
        True,
        1.0 + EJECT_SECONDS,
        "answered 503",
    )


def test_an_ejection_ends_by_its_time_and_the_next_failure_makes_a_longer_one() -> None:
    state, now, lasted = ServerState("a"), 1_000.0, []
    for _ in range(EJECT_AFTER - 1):
        state.fail("no answer", now=now)
    for _ in range(8):
        state.fail("no answer", now=now)
        lasted.append(state.ejected_until - now)
        state.tick(state.ejected_until - 0.1)
        assert state.is_out
        now = state.ejected_until
        state.tick(now)
        assert not state.is_out
    assert lasted == [10, 20, 40, 80, 160, 300, 300, 300]
    assert lasted[-1] == LONGEST_EJECTION_SECONDS


def test_a_server_that_was_well_for_as_long_as_it_was_out_begins_anew() -> None:
    one = server("a")
    eject(one, now=100.0)
    one.state.tick(110.0)
    one.state.succeed(chosen_at=111.0)
    eject(one, now=125.0)
    assert one.state.ejected_until == 125.0 + EJECT_SECONDS


def test_an_answer_to_a_call_that_was_sent_while_it_was_out_ends_the_ejection() -> None:
    one = server("a")
    eject(one, now=100.0)
    was_out = []
    for chosen_at in (99.0, 101.0):  # sent before it was left out: says nothing of now
        one.state.succeed(chosen_at=chosen_at)
        was_out.append(one.state.is_out)
    assert was_out == [True, False]


def test_late_failures_of_an_ejected_server_make_it_no_longer() -> None:
    one = server("a")
    eject(one, now=100.0)
    for _ in range(20):
        one.state.fail("no answer", now=109.0)
    assert one.state.ejected_until == 110.0


def test_two_checks_in_a_row_change_the_judgement() -> None:
    state, was_out = ServerState("a"), []
    for error in ("answered 500", "", "answered 500", "answered 500", "", ""):
        state.checked(error)
        was_out.append(state.is_out)
    assert was_out == [False, False, False, True, True, False]
    assert state.last_error == "answered 500"


def test_checks_that_pass_do_not_end_an_ejection() -> None:
    """A server may answer its check and fail calls."""
    one = server("a")
    eject(one)
    for _ in range(5):
        one.state.checked("")
    assert one.state.is_out


# --- retries -----------------------------------------------------------------------------------------------------


def test_retries_are_a_share_of_the_calls_of_the_last_seconds() -> None:
    budget = RetryBudget()
    for _ in range(200):
        budget.count(50.0)
    assert [budget.take(55.0) for _ in range(41)] == [True] * 40 + [False]
    assert not budget.take(59.9)
    assert budget.take(65.0)  # ten seconds later: a quiet pool again


def test_a_quiet_pool_may_retry_a_few_calls() -> None:
    budget = RetryBudget()
    assert [budget.take(7.0) for _ in range(LEAST_RETRIES + 1)] == [True] * LEAST_RETRIES + [False]


@pytest.mark.parametrize("gap", [1, 9, 10, 1000])
def test_what_is_older_than_the_window_is_forgotten(gap: int) -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.count(100.0)
    assert sum(budget.take(100.0 + gap) for _ in range(30)) == (20 if gap < 10 else LEAST_RETRIES)


# --- what stays --------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_server_outlives_the_route_table_and_not_its_row() -> None:
    state = kept_state("product:1", "places at http://a")
    assert kept_state("product:1", "places at http://a") is state
    assert kept_state("product:1", "places at http://b") is not state
    state.failures = 3
    del state
    assert kept_state("product:1", "places at http://a").failures == 0
