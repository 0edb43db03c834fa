"""Tokens of a day: a limit of one customer."""

from datetime import timedelta

import pytest

from accounts.models import Organization
from core.clock import now
from core.errors import Forbidden
from plans.daily_tokens import daily_tokens, set_daily_tokens
from plans.models import Aggregation, Meter, Override
from plans.overrides import OverrideIncomplete
from plans.queries import token_meters
from plans.standing import DayTokens, find_standing, mode_terms
from tests.factories import create_meter, create_organization, create_user

pytestmark = pytest.mark.django_db
AT = now()


def put(organization: Organization, tokens: int | None) -> bool:
    return set_daily_tokens(organization=organization, tokens=tokens, reason="agreed", by=None, at=now())


def test_it_is_set_changed_and_removed() -> None:
    one, other = create_organization(), create_organization()
    assert [put(one, 500), put(one, 500), put(one, 900)] == [True, False, True]
    put(other, 7)
    assert daily_tokens([one.pk, other.pk], at=now()) == {one.pk: 900, other.pk: 7}
    assert [put(one, None), put(one, None)] == [True, False]
    assert daily_tokens([one.pk, other.pk], at=now()) == {other.pk: 7}
    assert daily_tokens([one.pk], at=AT - timedelta(days=1)) == {}
    assert Override.objects.for_organization(one).count() == 2


def test_it_is_a_number_and_staff_decide() -> None:
    organization = create_organization()
    for tokens in (0, -1):
        with pytest.raises(OverrideIncomplete):
            put(organization, tokens)
    with pytest.raises(Forbidden):
        set_daily_tokens(organization=organization, tokens=5, reason="", by=create_user(), at=now())
    assert not Override.objects.exists()


def test_meters_of_tokens_are_known_by_their_unit() -> None:
    create_organization()
    create_meter("gb", unit="GB")
    tokens = create_meter("tokens", unit="token", decimals=3)
    Meter.objects.create(slug="peak", name="peak", unit="token", aggregation=Aggregation.MAX)
    Meter.objects.create(slug="old", name="old", unit="token", archived_at=now())
    assert list(token_meters()) == [tokens]


def test_the_terms_of_live_keys_have_it() -> None:
    organization = create_organization()
    tokens = create_meter("tokens", unit="token", decimals=3)
    put(organization, 5)
    standing = find_standing(organization, at=now())
    assert mode_terms(standing, mode="live", test_plan="free").day_tokens == DayTokens(5, ((tokens.pk, 3),))
    assert mode_terms(standing, mode="test", test_plan="free").day_tokens is None
    put(organization, None)
    assert mode_terms(find_standing(organization, at=now()), mode="live", test_plan="free").day_tokens is None
