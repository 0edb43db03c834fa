"""What one customer was granted apart from its plan."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import AuditEvent, Organization
from core.errors import Forbidden
from plans.models import OverrideKind
from plans.overrides import (
    Grant,
    OverrideIncomplete,
    OverrideOver,
    active_overrides,
    end_override,
    set_override,
)
from tests.factories import create_meter, create_organization, create_user

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = Grant(OverrideKind.RATE_LIMIT, amount=Decimal(500), window_seconds=60)


@pytest.fixture
def organization() -> Organization:
    return create_organization(at=AT)


def test_a_grant_holds_from_now_until_its_end(organization: Organization) -> None:
    version = organization.version
    made = set_override(
        organization=organization, grant=MINUTE, reason="launch week", by=None, at=AT, ends_at=AT + 7 * DAY
    )
    organization.refresh_from_db()
    assert organization.version == version + 1
    assert list(active_overrides(organization, at=AT)) == [made]
    assert not active_overrides(organization, at=AT + 7 * DAY)
    assert not active_overrides(create_organization(), at=AT)
    assert AuditEvent.objects.for_organization(organization).filter(action="override.set").exists()


def test_a_newer_grant_about_the_same_thing_ends_the_older(organization: Organization) -> None:
    grants = (
        MINUTE,
        Grant(OverrideKind.RATE_LIMIT, amount=Decimal(9), window_seconds=1),
        Grant(OverrideKind.FEATURE_ON, feature="webhooks"),
        Grant(OverrideKind.FEATURE_OFF, feature="webhooks"),
        Grant(OverrideKind.RATE_LIMIT, amount=Decimal(600), window_seconds=60),
    )
    for hours, grant in enumerate(grants):
        at = AT + timedelta(hours=hours)
        set_override(organization=organization, grant=grant, reason="agreed", by=None, at=at)
    held = active_overrides(organization, at=AT + DAY)
    assert [(o.kind, o.amount, o.window_seconds) for o in held] == [
        ("rate_limit", 600, 60), ("feature_off", None, None), ("rate_limit", 9, 1)
    ]  # fmt: skip


def test_ending_one_gives_the_plan_back(organization: Organization) -> None:
    staff = create_user(is_staff=True)
    made = set_override(organization=organization, grant=MINUTE, reason="agreed", by=staff, at=AT)
    organization.refresh_from_db()
    version = organization.version
    end_override(override=made, by=staff, at=AT + DAY)
    organization.refresh_from_db()
    assert organization.version == version + 1
    assert not active_overrides(organization, at=AT + DAY)
    with pytest.raises(OverrideOver):
        end_override(override=made, by=staff, at=AT + 2 * DAY)


def test_what_does_not_make_sense_is_refused(organization: Organization) -> None:
    peak = create_meter("peak")
    peak.aggregation = "last"
    peak.save()
    calls = create_meter()
    wrong = {
        "window_seconds": Grant(OverrideKind.RATE_LIMIT, amount=Decimal(5)),
        "amount": Grant(OverrideKind.QUOTA, meter=calls),
        "meter": Grant(OverrideKind.QUOTA, amount=Decimal(5), meter=peak),
        "feature": Grant(OverrideKind.CONCURRENCY, amount=Decimal(5), feature="webhooks"),
    }
    for field, grant in wrong.items():
        with pytest.raises(OverrideIncomplete) as refused:
            set_override(organization=organization, grant=grant, reason="agreed", by=None, at=AT)
        assert refused.value.field == field
    for amount in ("0", "1.5"):
        grant = Grant(OverrideKind.CONCURRENCY, amount=Decimal(amount))
        with pytest.raises(OverrideIncomplete):
            set_override(organization=organization, grant=grant, reason="agreed", by=None, at=AT)
    with pytest.raises(OverrideIncomplete):
        set_override(organization=organization, grant=MINUTE, reason="agreed", by=None, at=AT, ends_at=AT)


def test_only_staff_grants(organization: Organization) -> None:
    with pytest.raises(Forbidden):
        set_override(organization=organization, grant=MINUTE, reason="please", by=create_user(), at=AT)
