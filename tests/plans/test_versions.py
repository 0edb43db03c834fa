"""Versions reach Redis: only upwards, also late, and never as a state that was lost."""

import pytest
from django.db import transaction
from redis import Redis
from redis.exceptions import ConnectionError as RedisAway

from accounts.models import Organization
from core.redis_layout import organization_key
from plans import versions
from plans.models import StatePush
from plans.versions import push_pending, push_version, raise_version
from tests.factories import create_organization


@pytest.fixture
def organization(transactional_db: None, usage_redis: Redis) -> Organization:
    return create_organization()


def stored(redis: Redis, organization: Organization) -> int | None:
    found = redis.hget(organization_key(organization.shard, organization.pk), "v")
    return int(found) if found else None  # type: ignore[arg-type]


def pending(organization: Organization) -> bool:
    return StatePush.objects.for_organization(organization).exists()


def raise_once(organization: Organization) -> None:
    with transaction.atomic():
        raise_version(organization)


def test_a_raised_version_is_in_redis_and_leaves_no_row(
    organization: Organization, usage_redis: Redis
) -> None:
    before = organization.version
    raise_once(organization)
    assert stored(usage_redis, organization) == organization.version == before + 1
    assert not pending(organization)


def test_a_late_push_takes_nothing_back(organization: Organization, usage_redis: Redis) -> None:
    newest = organization.version
    assert push_version(organization, newest - 1)
    assert stored(usage_redis, organization) == newest
    assert push_version(organization, newest + 5)
    assert stored(usage_redis, organization) == newest + 5


def test_a_push_that_found_redis_dead_is_made_later(
    organization: Organization, usage_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Redis:
        raise RedisAway

    before = organization.version
    with monkeypatch.context() as dead:
        dead.setattr(versions, "usage_redis", away)
        raise_once(organization)
    assert stored(usage_redis, organization) == before
    assert pending(organization)
    assert push_pending() == 1
    assert stored(usage_redis, organization) == before + 1
    assert not pending(organization)


def test_a_lost_state_is_not_made_anew(organization: Organization, usage_redis: Redis) -> None:
    usage_redis.delete(organization_key(organization.shard, organization.pk))
    raise_once(organization)
    assert stored(usage_redis, organization) is None
    assert pending(organization)
    assert push_pending() == 0


def test_only_a_new_organization_gets_a_state(organization: Organization, usage_redis: Redis) -> None:
    usage_redis.delete(organization_key(organization.shard, organization.pk))
    assert not push_version(organization, 1)
    assert push_version(organization, 1, is_new=True)
    assert stored(usage_redis, organization) == 1


def test_a_change_that_is_rolled_back_pushes_nothing(organization: Organization, usage_redis: Redis) -> None:
    before = organization.version
    with transaction.atomic():
        raise_version(organization)
        transaction.set_rollback(True)
    assert stored(usage_redis, organization) == before
    assert not pending(organization)
