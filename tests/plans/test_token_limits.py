"""Rate limits of tokens: a plan's terms like those of calls, at the doors, in files and in words."""

from datetime import timedelta

import pytest

from core.clock import now
from dashboard.plan_cards import plan_card
from keys.hashing import digest
from keys.records import load_record
from plans.plan_file import LimitEntry, read_catalogue, write_catalogue
from plans.plan_sync import export_catalogue
from plans.publishing import new_draft
from tests.factories import create_key, create_meter, create_organization, create_product, create_route
from tests.plans.price_kit import component, put_on, version_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_tokens_are_sold")]
LIMITS = {("calls", 60, 10), ("tokens", 60, 60_000), ("tokens", 3600, 900_000)}


@pytest.fixture
def _tokens_are_sold(db: None) -> None:
    create_route(create_product(), meter=create_meter("tokens", unit="token"))


def test_they_reach_the_doors_beside_those_of_calls() -> None:
    organization = create_organization()
    issued = create_key(organization=organization)
    version = version_of(
        component(create_meter()), windows=((60, 10),), token_windows=((60, 60_000), (3600, 900_000))
    )
    put_on(organization, version)
    record = load_record(digest(issued.clear), at=now())
    assert record is not None
    assert (record.windows, record.token_windows) == (((60, 10),), ((60, 60_000), (3600, 900_000)))
    draft = new_draft(version=version, by=None, at=now() + timedelta(seconds=1))
    assert {(r.measure, r.window_seconds, r.calls) for r in draft.rate_limits.all()} == LIMITS


def test_files_tell_them() -> None:
    create_organization()
    plan = version_of(component(create_meter()), windows=((60, 10),), token_windows=((60, 60_000),)).plan
    exported = export_catalogue()
    (prices,) = exported.plans[plan.slug].prices
    assert prices.rate_limits == (LimitEntry(60, 10), LimitEntry(60, 60_000, "tokens"))
    text = write_catalogue(exported)
    assert text.count('measure = "tokens"') == 1
    assert read_catalogue(text).plans[plan.slug] == exported.plans[plan.slug]


def test_cards_and_limits_of_calls_are_not_mixed_up_with_them() -> None:
    version = version_of(
        component(create_meter()), windows=((60, 10),), token_windows=((30, 7), (60, 60_000))
    )
    card = plan_card(version)
    assert card.windows == ["10 a minute"]
    assert card.texts[:2] == ["Up to 7 tokens in 30 seconds", "Up to 60,000 tokens a minute"]
