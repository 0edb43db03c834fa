"""Stripe on a bad day, as the real client lives through it."""

import time

import pytest
import stripe

from tests.stripe_standin.conftest import StandIn


def count(standin: StandIn) -> int:
    return len(standin.api.customers.list().data)


@pytest.mark.parametrize(("kind", "made"), [("timeout_before", 0), ("timeout_after", 1)])
def test_a_dropped_connection(standin: StandIn, kind: str, made: int) -> None:
    standin.control("POST", "faults", kind=kind, method="POST", path="/v1/customers")
    with pytest.raises(stripe.APIConnectionError):
        standin.api.customers.create({})
    assert count(standin) == made


@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "error"])
def test_the_clients_own_retry_makes_one_customer(standin: StandIn, kind: str) -> None:
    standin.control("POST", "faults", kind=kind, method="POST", path="/v1/customers")
    client = standin.client_with(retries=2)
    client.v1.customers.create({"name": "once"})
    assert count(standin) == 1


def test_an_error_after_the_effect_is_kept_for_its_key(standin: StandIn) -> None:
    standin.control("POST", "faults", kind="error_after", path="/v1/customers")
    for _ in range(2):
        with pytest.raises(stripe.APIError) as broken:
            standin.api.customers.create({}, {"idempotency_key": "k"})
        assert broken.value.http_status == 500
    assert count(standin) == 1


def test_too_many_requests_and_slow_answers(standin: StandIn) -> None:
    standin.control("POST", "faults", kind="rate_limit", times=2)
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError):
            standin.api.customers.list()
    standin.control("POST", "faults", kind="slow", seconds=0.4)
    begun = time.monotonic()
    assert count(standin) == 0
    assert time.monotonic() - begun >= 0.4
    assert standin.control("GET", "faults")["counters"] == {"rate_limit": 2, "slow": 1}


def test_a_time_out_by_the_clients_own_patience(standin: StandIn) -> None:
    standin.control("POST", "faults", kind="timeout_after", path="/v1/customers", seconds=2)
    impatient = standin.client_with(retries=0, timeout=0.3)
    with pytest.raises(stripe.APIConnectionError):
        impatient.v1.customers.create({})
    assert count(standin) == 1
