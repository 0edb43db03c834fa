"""Limits of keys, routes, models and units: what may be published, what is agreed, and what the doors are told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.models import Organization
from core.clock import now, to_micros
from dashboard.plan_cards import plan_card
from keys.hashing import digest
from keys.limits import OpenLimit, ScopedWindow
from keys.records import KeyRecord, load_record
from metering.admission import Target, admission
from metering.script_calls import admit_args, window_rules
from plans.agreed_limits import set_limits
from plans.checks import limits_hold
from plans.limit_checks import MOST_LIMITS
from plans.limit_words import limit_words
from plans.models import LanguageModel, OverrideKind, PlanVersion, RateLimit, Route
from plans.overrides import (
    MOST_AGREED,
    Grant,
    OverrideIncomplete,
    active_overrides,
    agreed_limits,
    end_override,
    set_override,
)
from plans.plan_file import LimitEntry, PlanFileWrong, read_catalogue, write_catalogue
from plans.plan_sync import apply_catalogue, catalogue_changes, export_catalogue
from plans.publishing import NotPublishable, new_draft
from tests.factories import create_key, create_meter, create_organization, create_product, create_route
from tests.plans.price_kit import component, put_on, version_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def route() -> Route:
    return create_route(create_product(), "/v1/search")


@pytest.fixture
def model() -> LanguageModel:
    """A model on sale, on a route that reads tokens."""
    talk = create_route(create_product("v1"), "/chat/completions")
    Route.objects.filter(pk=talk.pk).update(dialect="chat_completions")
    return LanguageModel.objects.create(name="gpt-test:8b")


def version_with(*limits: dict[str, Any]) -> PlanVersion:
    return version_of(component(create_meter()), windows=((60, 100),), limits=limits)


def record_on(version: PlanVersion, *, calls_per_minute: int | None = None) -> KeyRecord:
    """What the doors know of a live key of an organization on this version."""
    organization = create_organization()
    put_on(organization, version)
    return record_of(organization, calls_per_minute=calls_per_minute)


def record_of(organization: Organization, *, calls_per_minute: int | None = None) -> KeyRecord:
    issued = create_key(organization=organization, calls_per_minute=calls_per_minute)
    record = load_record(digest(issued.clear), at=now())
    assert record is not None
    return record


def test_a_plan_of_calls_alone_prepares_nothing() -> None:
    record = record_on(version_with())
    assert record.limits is None
    assert (record.windows, record.key_windows) == (((60, 100),), ())


def test_each_scope_reaches_the_doors_under_its_own_name(route: Route, model: LanguageModel) -> None:
    gb = create_meter("gb", unit="GB", decimals=3)
    create_route(create_product("files"), meter=gb)
    record = record_on(
        version_with(
            {"scope": "key", "calls": 10, "window_seconds": 1},
            {"scope": "key", "calls": 5_000, "measure": "tokens"},
            {"scope": "route", "route": route, "calls": 7},
            {"scope": "route", "route": route, "calls": 2, "measure": "concurrency", "window_seconds": 0},
            {"scope": "model", "model": model, "calls": 900, "measure": "output_tokens"},
            {"calls": Decimal("1.5"), "measure": "units", "meter": gb, "window_seconds": 3600},
            {"scope": "key", "calls": 3, "measure": "concurrency", "window_seconds": 0},
        )
    )
    limits, key = record.limits, record.key_id
    assert limits is not None
    assert record.key_windows == ((1, 10),)
    everywhere = {
        ScopedWindow(f"key:{key}:tokens", 60, 5_000, "tokens", "token_rate_limited"),
        ScopedWindow("units:gb", 3600, 1_500, "units", "unit_rate_limited", gb.pk),
    }
    of_route = ScopedWindow(f"route:{route.pk}", 60, 7, "calls", "route_rate_limited")
    of_model = ScopedWindow(f"model:{model.pk}:output_tokens", 60, 900, "output_tokens", "token_rate_limited")
    assert set(limits.windows(0)) == everywhere
    assert set(limits.windows(route.pk)) == {*everywhere, of_route}
    assert set(limits.windows(0, "gpt-test:8b")) == {*everywhere, of_model}
    of_key = OpenLimit(f"key{key}", 3, "key_concurrency_limited")
    assert limits.opened(0) == (of_key,)
    assert limits.opened(route.pk) == (of_key, OpenLimit(f"route{route.pk}", 2, "route_concurrency_limited"))


def test_a_key_gets_the_narrower_of_its_own_limit_and_its_plans() -> None:
    version = version_with({"scope": "key", "calls": 20}, {"scope": "key", "calls": 2, "window_seconds": 1})
    organization = create_organization()
    put_on(organization, version)
    assert [record_of(organization, calls_per_minute=n).key_windows for n in (None, 5, 50)] == [
        ((1, 2), (60, 20)), ((1, 2), (60, 5)), ((1, 2), (60, 20))
    ]  # fmt: skip


# --- what may be published ---------------------------------------------------------------------------------------


def test_what_cannot_be_counted_is_not_published(route: Route) -> None:
    fine = create_meter("usage", unit="USD", decimals=9)
    create_route(create_product("paid"), meter=fine)
    elsewhere = create_meter("gb", unit="GB")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"calls": 2**32}, "A window counts at most 4,294,967,295"),
        ({"calls": Decimal("0.5")}, "more decimals"),
        ({"calls": 5, "measure": "units", "meter": fine}, "at most 4.294967295 USD: it counts 9 decimals"),
        ({"calls": 5, "measure": "units", "meter": elsewhere}, "No call counts on gb"),
        ({"calls": 1, "measure": "units", "meter": fine, "scope": "route", "route": route}, "No call on this route"),
        ({"calls": 5, "window_seconds": 32 * 86_400}, "at most 31 days"),
        ({"calls": 5, "measure": "tokens"}, "No call counts tokens here"),
        ({"calls": 5, "measure": "concurrency", "window_seconds": 0}, "a field of the plan itself"),
    ]  # fmt: skip
    for limit, words in wrong:
        with transaction.atomic(), pytest.raises(NotPublishable) as refused:
            version_with({"window_seconds": 7} | limit)
        assert words in refused.value.detail


def test_tokens_are_limited_where_something_counts_them(route: Route) -> None:
    tokens = {"calls": 5, "measure": "tokens"}
    with transaction.atomic(), pytest.raises(NotPublishable):
        version_with(tokens)
    counted = create_route(create_product("words"), meter=create_meter("tokens", unit="token"))
    assert version_with(tokens, tokens | {"scope": "route", "route": counted})
    with transaction.atomic(), pytest.raises(NotPublishable):
        version_with(tokens | {"scope": "route", "route": route})
    with (
        transaction.atomic(),
        pytest.raises(NotPublishable),
    ):  # only language models tell prompts from answers
        version_with(tokens | {"measure": "input_tokens"})


def test_no_plan_and_no_customer_has_more_limits_than_a_call_can_be_held_against() -> None:
    def windows(count: int) -> list[dict[str, Any]]:
        return [{"scope": "key", "calls": 9, "window_seconds": second} for second in range(1, count + 1)]

    with transaction.atomic(), pytest.raises(NotPublishable, match="at most 60 limits"):
        version_with(*windows(MOST_LIMITS))  # and one of the organization
    organization = create_organization()
    put_on(organization, version_with(*windows(MOST_LIMITS - 1)))
    wanted = [
        Grant(OverrideKind.RATE_LIMIT, Decimal(5), second, measure="calls")
        for second in range(100, 100 + MOST_AGREED)
    ]
    set_limits(organization=organization, wanted=wanted, reason="agreed", by=None, at=now())
    others = [replace(grant, window_seconds=(grant.window_seconds or 0) + 1_000) for grant in wanted]
    set_limits(organization=organization, wanted=others, reason="agreed", by=None, at=now())
    with pytest.raises(OverrideIncomplete, match="at most 60 limits"):
        set_override(
            organization=organization, grant=Grant(OverrideKind.RATE_LIMIT, Decimal(5), 7), reason="one more", by=None,
            at=now(),
        )  # fmt: skip
    set_override(
        organization=organization,
        grant=replace(others[0], amount=Decimal(6)),
        reason="other",
        by=None,
        at=now(),
    )
    organization.refresh_from_db()
    record = record_of(organization, calls_per_minute=3)
    target = Target(1, 1, 1, 1, Decimal(1))
    span = record.span_at(to_micros(now()))
    assert span is not None
    request = admission(record, span, target, nonce=1)
    assert len(window_rules(request)) > 100
    admit_args(request)


def test_one_thing_has_one_limit_of_a_customer() -> None:
    organization = create_organization()
    twice = [Grant(OverrideKind.RATE_LIMIT, Decimal(amount), 60) for amount in (5, 6)]
    with pytest.raises(OverrideIncomplete, match="twice"):
        set_limits(organization=organization, wanted=twice, reason="agreed", by=None, at=now())
    assert not active_overrides(organization, at=now()).exists()


def test_fields_that_contradict_each_other_are_no_limit(route: Route) -> None:
    draft = new_draft(version=version_with(), by=None, at=now())
    wrong: list[dict[str, Any]] = [
        {"scope": "route"}, {"route": route}, {"scope": "model"}, {"measure": "units"}, {"window_seconds": 0},
        {"measure": "concurrency", "scope": "key"}, {"meter": route.meter},
    ]  # fmt: skip
    for fields in wrong:
        limit = RateLimit(version=draft, **({"calls": 5} | fields))
        with pytest.raises(ValidationError):
            limit.clean()
        with transaction.atomic(), pytest.raises(IntegrityError):
            limit.save()
    RateLimit(version=draft, scope="route", route=route, calls=5).full_clean()


# --- agreed with one customer ------------------------------------------------------------------------------------


@pytest.fixture
def agree(route: Route) -> Callable[..., Any]:
    def act(organization: Organization, kind: str = "rate_limit", **grant: Any) -> Any:
        return set_override(
            organization=organization, grant=Grant(OverrideKind(kind), **grant), reason="agreed", by=None, at=now(),
            ends_at=now() + timedelta(days=1),
        )  # fmt: skip

    return act


def test_one_customer_gets_other_numbers_until_they_end(route: Route, agree: Callable[..., Any]) -> None:
    organization = create_organization()
    plan = version_with(
        {"scope": "route", "route": route, "calls": 7},
        {"scope": "key", "calls": 3, "measure": "concurrency", "window_seconds": 0},
    )
    put_on(organization, plan)
    raised = agree(organization, amount=Decimal(70), window_seconds=60, scope="route", route=route)
    agree(organization, amount=Decimal(9), window_seconds=1, scope="route", route=route)
    agree(organization, kind="concurrency", amount=Decimal(1), scope="key")
    agree(organization, amount=Decimal(5), window_seconds=60, scope="key")
    organization.refresh_from_db()
    assert agreed_limits(organization, at=now()) == [
        "5 calls a minute with each key", "1 call at the same time with each key", "9 calls a second on places/v1/search",
        "70 calls a minute on places/v1/search",
    ]  # fmt: skip
    record = record_of(organization)
    assert record.limits is not None
    assert {(w.seconds, w.limit) for w in record.limits.windows(route.pk)} == {(60, 70), (1, 9)}
    assert [one.limit for one in record.limits.opened(0)] == [1]
    assert (record.windows, record.key_windows) == (((60, 100),), ((60, 5),))
    version = organization.version
    end_override(override=raised, by=None, at=now())
    organization.refresh_from_db()
    assert organization.version == version + 1
    limits = record_of(organization).limits
    assert limits is not None
    assert {(w.seconds, w.limit) for w in limits.windows(route.pk)} == {(60, 7), (1, 9)}


def test_test_keys_have_the_test_plans_limits(route: Route, agree: Callable[..., Any]) -> None:
    organization = create_organization()
    put_on(organization, version_with({"scope": "route", "route": route, "calls": 7}))
    agree(organization, amount=Decimal(70), window_seconds=60, scope="route", route=route)
    issued = create_key(organization=organization, mode="test")
    record = load_record(digest(issued.clear), at=now())
    assert record is not None
    assert record.limits is None


def test_nothing_is_agreed_that_no_call_counts(route: Route, agree: Callable[..., Any]) -> None:
    organization = create_organization()
    wrong: list[dict[str, Any]] = [
        {"amount": Decimal(5), "window_seconds": 60, "scope": "route"},
        {"amount": Decimal(5), "window_seconds": 60, "route": route},
        {"amount": Decimal(5), "window_seconds": 60, "measure": "tokens"},
        {"amount": Decimal(5), "window_seconds": 60, "measure": "units"},
        {"amount": Decimal(2**32), "window_seconds": 60},
        {"kind": "quota", "amount": Decimal(5), "meter": route.meter, "scope": "key"},
        {"kind": "concurrency", "amount": Decimal(5), "scope": "route"},
    ]
    for grant in wrong:
        with pytest.raises(OverrideIncomplete):
            agree(organization, **grant)


# --- in words and files ------------------------------------------------------------------------------------------


def test_people_read_them_in_plain_words(route: Route, model: LanguageModel) -> None:
    version = version_with(
        {"scope": "key", "calls": 10, "window_seconds": 1},
        {"scope": "model", "model": model, "calls": 1, "window_seconds": 90},
        {"scope": "model", "model": model, "calls": 60_000, "measure": "input_tokens"},
        {"scope": "route", "route": route, "calls": 2, "measure": "concurrency", "window_seconds": 0},
    )
    assert [limit_words(limit) for limit in version.rate_limits.all()] == [
        "10 calls a second with each key",
        "1 call in 90 seconds with gpt-test:8b",
        "60,000 tokens of prompts a minute with gpt-test:8b",
        "100 calls a minute",
        "2 calls at the same time on places/v1/search",
    ]
    card = plan_card(version)
    assert card.windows == ["100 a minute"]
    assert "Up to 2 calls at the same time on places/v1/search" in card.texts


def test_files_tell_and_make_them(route: Route, model: LanguageModel) -> None:
    gb = create_meter("gb", unit="GB", decimals=3)
    create_route(create_product("files"), meter=gb)
    plan = version_with(
        {"scope": "route", "route": route, "calls": 7},
        {"scope": "model", "model": model, "calls": 9, "measure": "tokens"},
        {"calls": Decimal("1.5"), "measure": "units", "meter": gb},
        {"scope": "key", "calls": 3, "measure": "concurrency", "window_seconds": 0},
    ).plan
    exported = export_catalogue()
    (prices,) = exported.plans[plan.slug].prices
    assert set(prices.rate_limits) == {
        LimitEntry(60, 100),
        LimitEntry(60, 7, scope="route", route="places/v1/search"),
        LimitEntry(60, 9, "tokens", "model", model="gpt-test:8b"),
        LimitEntry(60, measure="units", meter="gb", units=Decimal("1.5")),
        LimitEntry(0, 3, "concurrency", "key"),
    }
    text = write_catalogue(exported)
    assert read_catalogue(text).plans[plan.slug] == exported.plans[plan.slug]
    changed = read_catalogue(text.replace("calls = 7", "calls = 8"))
    (change,) = catalogue_changes(changed)
    assert change.lines == (
        "- rate limit 7 calls per 60 s of places/v1/search", "+ rate limit 8 calls per 60 s of places/v1/search"
    )  # fmt: skip
    apply_catalogue(changed, by=None, at=now())
    assert export_catalogue().plans[plan.slug] == changed.plans[plan.slug]
    with pytest.raises(PlanFileWrong, match="there is no route"):
        apply_catalogue(read_catalogue(text.replace("places/v1", "nowhere/v1")), by=None, at=now())


def test_a_start_names_limits_that_nothing_counts_against_any_more() -> None:
    words = create_route(create_product("words"), meter=create_meter("tokens", unit="token"))
    version = version_with({"calls": 9, "measure": "tokens"})
    assert limits_hold(["default"]) == limits_hold(None) == []
    Route.objects.filter(pk=words.pk).update(archived_at=now())
    (warning,) = limits_hold(["default"])
    assert warning.msg.startswith(f"{version}: 9 tokens a minute. No call counts tokens here")
