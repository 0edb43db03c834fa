"""The scenario by Stripe's API alone: at a real sandbox when STRIPE_TEST_SECRET_KEY is set, and always at the stand-in."""

import os
from collections.abc import Iterator

import pytest
from django.conf import LazySettings

from billing.stripe.client import stripe_client
from tests.billing.stripe.conftest import Standin
from tests.billing.stripe.scenario import ApiWorld, live
from tests.eager import tasks_at_once

pytestmark = pytest.mark.django_db(transaction=True)
KEY = os.environ.get("STRIPE_TEST_SECRET_KEY", "")


@pytest.fixture
def account(stripe_standin: Standin) -> Iterator[Standin]:
    """Set as docs/stripe.md asks an operator to set Stripe's dashboard: tries go on longer than our days of grace."""
    stripe_standin.control("settings", "POST", {"retry_days": [3, 5, 9, 14]})
    with tasks_at_once():
        yield stripe_standin


@pytest.fixture
def sandbox(settings: LazySettings) -> Iterator[None]:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_HOST = KEY, ""
    assert KEY.startswith(("sk_test_", "rk_test_")), "only a sandbox's key"
    with tasks_at_once():
        yield


def test_at_the_stand_in_without_its_controls(account: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sandbox is asked is what Stripe's API has: the stand-in is asked nothing else."""

    def control(*_: object) -> None:
        raise AssertionError("a sandbox has no such control")

    with monkeypatch.context() as patch:
        patch.setattr(Standin, "control", control)
        world = ApiWorld()
        live(world)
        world.payer.remove()
        assert not list(stripe_client().v1.test_helpers.test_clocks.list())


@pytest.mark.slow
@pytest.mark.skipif(not KEY, reason="NOT RUN: STRIPE_TEST_SECRET_KEY is not set")
def test_in_a_sandbox(sandbox: None) -> None:
    world = ApiWorld(f"Farebox {os.getpid()}")
    try:
        live(world)
    finally:
        world.payer.remove()
