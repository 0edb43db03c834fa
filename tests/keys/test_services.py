from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import AuditEvent
from core.errors import NotFound
from keys import services
from keys.hashing import digest
from keys.models import ApiKey
from keys.records import load_record
from tests.factories import create_key, create_organization, create_product, create_route

pytestmark = pytest.mark.django_db

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_key_is_stored_as_its_hash_only() -> None:
    issued = create_key(organization=create_organization(at=AT), at=AT)
    stored = ApiKey.objects.get(pk=issued.key.pk)
    assert bytes(stored.hash) == digest(issued.clear)
    assert issued.clear not in repr(issued)
    assert (stored.prefix, stored.last4) == (issued.clear[:12], issued.clear[-4:])


def test_issuing_raises_the_version_and_is_written_down() -> None:
    organization = create_organization(at=AT)
    before = organization.version
    issued = create_key(organization=organization, at=AT)
    organization.refresh_from_db()
    assert organization.version == before + 1
    event = AuditEvent.objects.for_organization(organization).get(action="key.issued")
    assert event.target == issued.key.public_id
    assert issued.clear not in str(event.details)


def test_too_many_usable_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_KEYS", 2)
    organization = create_organization(at=AT)
    first = create_key(organization=organization, at=AT)
    create_key(organization=organization, at=AT)
    with pytest.raises(services.KeyLimitReached):
        create_key(organization=organization, at=AT)
    services.revoke_key(key=first.key, by=None, at=AT)
    assert create_key(organization=organization, at=AT).key.state(AT) == "active"


def test_unknown_scopes_are_refused_and_known_ones_kept() -> None:
    organization, product = create_organization(at=AT), create_product("places")
    route = create_route(product, "/v1/search")
    scopes = ("product:places", f"route:{route.public_id}")
    assert create_key(organization=organization, scopes=scopes, at=AT).key.scopes == list(scopes)
    with pytest.raises(services.UnknownScope):
        create_key(organization=organization, scopes=("product:other",), at=AT)


def test_an_expiry_in_the_past_is_refused() -> None:
    with pytest.raises(services.ExpiryInPast):
        create_key(organization=create_organization(at=AT), expires_at=AT, at=AT)


def test_the_old_key_lives_through_its_grace() -> None:
    old = create_key(organization=create_organization(at=AT), scopes=(), calls_per_minute=7, at=AT).key
    new = services.rotate_key(key=old, grace=HOUR, by=None, at=AT).key
    old.refresh_from_db()
    assert (old.state(AT), old.state(AT + HOUR)) == ("rotating", "expired")
    assert (new.name, new.calls_per_minute, new.state(AT + HOUR)) == (old.name, 7, "active")


def test_a_rotation_never_lengthens_a_life() -> None:
    old = create_key(organization=create_organization(at=AT), expires_at=AT + HOUR, at=AT).key
    services.rotate_key(key=old, grace=24 * HOUR, by=None, at=AT)
    old.refresh_from_db()
    assert old.expires_at == AT + HOUR


def test_what_has_ended_cannot_be_rotated() -> None:
    key = create_key(organization=create_organization(at=AT), at=AT).key
    services.revoke_key(key=key, by=None, at=AT)
    with pytest.raises(services.KeyNotUsable):
        services.rotate_key(key=key, grace=HOUR, by=None, at=AT)


def test_a_grace_is_thirty_days_at_most() -> None:
    key = create_key(organization=create_organization(at=AT), at=AT).key
    with pytest.raises(services.GraceTooLong):
        services.rotate_key(key=key, grace=timedelta(days=31), by=None, at=AT)


def test_revoking_twice_keeps_the_first_time() -> None:
    key = create_key(organization=create_organization(at=AT), at=AT).key
    services.revoke_key(key=key, by=None, at=AT)
    assert services.revoke_key(key=key, by=None, at=AT + HOUR).revoked_at == AT


def test_a_foreign_key_looks_missing() -> None:
    theirs = create_key(organization=create_organization(at=AT), at=AT).key
    with pytest.raises(NotFound):
        ApiKey.objects.for_organization(create_organization(at=AT)).get_or_404(public_id=theirs.public_id)


def test_owner_keys_are_found_until_they_are_revoked() -> None:
    key, clear = services.issue_owner_key(name="crm", at=AT)
    assert services.find_owner_key(clear) == key
    services.revoke_owner_key(key=key, at=AT)
    assert services.find_owner_key(clear) is None


def test_a_given_owner_key_is_taken_over_once() -> None:
    first, _ = services.issue_owner_key(name="environment", at=AT, clear="given-by-the-environment")
    again, _ = services.issue_owner_key(name="environment", at=AT, clear="given-by-the-environment")
    assert first == again


def test_a_record_says_what_the_doors_need() -> None:
    organization = create_organization(plan="starter", at=AT)
    issued = create_key(organization=organization, calls_per_minute=7, at=AT)
    record = load_record(digest(issued.clear), at=AT)
    organization.refresh_from_db()
    assert record is not None
    assert (record.version, record.plan_slug, record.windows) == (
        organization.version,
        "starter",
        ((60, 100),),
    )
    assert record.key_windows == ((60, 7),)
    assert "all_endpoints" in record.features
    assert not record.revoked


def test_a_test_key_has_the_free_limits_and_the_plans_features() -> None:
    organization = create_organization(plan="enterprise", at=AT)
    issued = create_key(organization=organization, mode="test", at=AT)
    record = load_record(digest(issued.clear), at=AT)
    assert record is not None
    assert record.windows == ((60, 10),)
    assert "all_endpoints" in record.features
    assert record.spans[0].quotas[0][1] == 1_000


def test_a_record_is_read_in_a_fixed_number_of_queries(django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    issued = create_key(organization=create_organization(plan="starter", at=AT), at=AT)
    with django_assert_max_num_queries(9):
        load_record(digest(issued.clear), at=AT)


def test_an_unknown_key_has_no_record() -> None:
    assert load_record(digest("fb_live_nothing"), at=AT) is None
