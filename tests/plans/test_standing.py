"""What the doors are told: the plan's entitlements with overrides, restrictions and caps on top."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Organization
from plans.caps import set_cap
from plans.models import CapSide, Meter, Override, Period, Restriction
from plans.queries import current_period, newest_version
from plans.standing import ANY_NUMBER, ModeTerms, find_standing, mode_terms
from tests.factories import create_organization
from tests.plans.price_kit import component, meter, put_on, version_of

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONTH = timedelta(days=31)


@pytest.fixture
def organization() -> Organization:
    """On Starter, paying: 50,000 calls included, 100 a minute."""
    organization = create_organization(plan="starter", at=AT)
    put_on(organization, newest_version("starter"))
    return organization


def terms(organization: Organization, mode: str = "live", at: datetime = AT + HOUR) -> ModeTerms:
    return mode_terms(find_standing(organization, at=at), mode=mode, test_plan="free")


def override(organization: Organization, kind: str, **changes: object) -> Override:
    values = {"starts_at": AT, "reason": "agreed", "by": None} | changes
    return Override.objects.create(organization=organization, kind=kind, **values)


def restrict(organization: Organization, kind: str, **changes: object) -> Restriction:
    period = current_period(organization, at=AT + HOUR)
    values = {"period": period, "cause": "120 % of the quota", "at": AT + HOUR} | changes
    return Restriction.objects.create(organization=organization, kind=kind, **values)


def calls() -> Meter:
    return Meter.objects.get(slug="api_calls")


# --- overrides ---------------------------------------------------------------------------------------------------


def test_an_override_takes_the_place_of_the_plans_window_for_live_keys(organization: Organization) -> None:
    override(organization, "rate_limit", window_seconds=60, amount=250)
    override(organization, "rate_limit", window_seconds=1, amount=20)
    assert terms(organization).windows == ((1, 20), (60, 250))
    assert terms(organization, "test").windows == ((60, 10),)


def test_of_two_overrides_the_newer_holds(organization: Organization) -> None:
    override(organization, "rate_limit", window_seconds=60, amount=250)
    override(organization, "rate_limit", window_seconds=60, amount=300, starts_at=AT + HOUR)
    assert terms(organization).windows == ((60, 300),)


def test_overrides_hold_from_their_start_until_their_end(organization: Organization) -> None:
    override(organization, "concurrency", amount=5, starts_at=AT + HOUR, ends_at=AT + 2 * HOUR)
    held = [terms(organization, at=AT + n * HOUR).concurrency for n in (0, 1, 2)]
    assert held == [ANY_NUMBER, 5, ANY_NUMBER]


def test_features_are_added_and_taken_away_in_both_modes(organization: Organization) -> None:
    override(organization, "feature_on", feature="custom_models")
    override(organization, "feature_off", feature="webhooks")
    for mode in ("live", "test"):
        assert "custom_models" in terms(organization, mode).features
        assert "webhooks" not in terms(organization, mode).features


def test_a_quota_override_refuses_where_the_plan_sells_more(organization: Organization) -> None:
    assert terms(organization).spans[0].quotas == ()
    override(organization, "quota", meter=calls(), amount=Decimal(60_000))
    assert terms(organization).spans[0].quota(calls().pk) == 60_000
    assert terms(organization, "test").spans[0].quota(calls().pk) == 1_000


# --- the plan itself ---------------------------------------------------------------------------------------------


def test_several_windows_and_calls_at_once_come_from_the_plan(organization: Organization) -> None:
    windows = ((1, 5), (60, 100), (86_400, 9_000), (2_592_000, 100_000))
    put_on(organization, version_of(windows=windows, concurrency=8))
    found = terms(organization)
    assert found.windows == windows
    assert (found.concurrency, terms(organization, "test").concurrency) == (8, ANY_NUMBER)


def test_quotas_of_one_meters_dimensions_add_up(organization: Organization) -> None:
    regions = meter("by_region", dimensions=["region"])
    quotas = (({"region": "eu"}, 100), ({"region": "us"}, 50), ({}, 0))
    prices = [component(regions, match=m, quota=q, unit_price=Decimal("0.01")) for m, q in quotas]
    put_on(organization, version_of(*prices))
    assert terms(organization).spans[0].quota(regions.pk) == 150


def test_a_trial_may_use_what_costs_nothing(organization: Organization) -> None:
    free_tier = component(calls(), model="graduated", included=5, tiers=((100, 0, 0), (None, "0.01", 0)))
    put_on(organization, version_of(free_tier))
    assert terms(organization).spans[0].quota(calls().pk) == -1
    Period.objects.for_organization(organization).update(is_trial=True)
    assert terms(organization).spans[0].quota(calls().pk) == 105


def test_meters_that_the_door_cannot_count_have_no_quota_there(organization: Organization) -> None:
    seats = meter("seats", aggregation="max")
    put_on(organization, version_of(component(seats, included=5, unit_price=Decimal(1))))
    Period.objects.for_organization(organization).update(is_trial=True)
    assert terms(organization).spans[0].quota(seats.pk) == -1


# --- restrictions ------------------------------------------------------------------------------------------------


def test_a_throttle_narrows_the_minute_of_live_keys_until_it_is_lifted(organization: Organization) -> None:
    found = restrict(organization, "throttle", calls_per_minute=6)
    assert terms(organization).windows == ((60, 6),)
    assert terms(organization, "test").windows == ((60, 10),)
    Restriction.objects.for_organization(organization).filter(pk=found.pk).update(lifted_at=AT + 2 * HOUR)
    assert terms(organization).windows == ((60, 100),)


def test_a_throttle_never_widens(organization: Organization) -> None:
    restrict(organization, "throttle", calls_per_minute=5_000)
    assert terms(organization).windows == ((60, 100),)


def test_a_throttle_ends_with_its_period(organization: Organization) -> None:
    restrict(organization, "throttle", calls_per_minute=6)
    assert terms(organization, at=AT + MONTH).windows == ((60, 100),)


def test_a_block_closes_its_period_for_live_keys_only(organization: Organization) -> None:
    restrict(organization, "block")
    assert [span.refusal for span in terms(organization).spans] == ["blocked_by_alert", "", ""]
    assert [span.refusal for span in terms(organization, "test").spans] == ["", "", ""]


# --- caps --------------------------------------------------------------------------------------------------------


def cap(organization: Organization, amount: int) -> None:
    set_cap(
        organization=organization, side=CapSide.CUSTOMER, amount_minor=amount, spent_minor=0, by=None, at=AT + HOUR
    )  # fmt: skip


def test_a_cap_comes_with_the_prices_of_each_period(organization: Organization) -> None:
    cap(organization, 150)
    for span in terms(organization).spans:
        assert span.spend is not None
        assert span.spend.cap_minor == 150
        assert not span.spend.is_passed({calls().pk: 51_500})  # 50,000 included, then 0.001
        assert span.spend.is_passed({calls().pk: 51_501})


def test_no_cap_nothing_is_told(organization: Organization) -> None:
    assert [span.spend for span in terms(organization).spans] == [None, None, None]


def test_test_keys_and_trials_need_no_cap(organization: Organization) -> None:
    cap(organization, 150)
    assert terms(organization, "test").spans[0].spend is None
    Period.objects.for_organization(organization).update(is_trial=True)
    assert terms(organization).spans[0].spend is None


def test_a_cap_costs_one_query_more(organization: Organization, django_assert_num_queries) -> None:  # type: ignore[no-untyped-def]
    with django_assert_num_queries(8):
        terms(organization)
    cap(organization, 150)
    with django_assert_num_queries(9):
        terms(organization)
