"""Who may set a spend cap, which of two holds, and what a statement may come to."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import AuditEvent, Organization, Role
from core.errors import Forbidden
from plans.cap_table import LARGEST_CAP_MINOR
from plans.caps import (
    CapOutOfRange,
    CapUnchanged,
    cap_in_force,
    dropped_caps,
    newest_caps,
    set_cap,
    usage_bound_minor,
)
from plans.models import CapSide, Period, SpendCap
from plans.queries import current_period
from tests.factories import create_membership, create_organization, create_user
from tests.plans.price_kit import put_on, version_of

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONTH = timedelta(days=32)


@pytest.fixture
def organization() -> Organization:
    return create_organization(at=AT)


def put(organization: Organization, amount: int | None, **changes: object) -> SpendCap:
    values: dict[str, object] = {"side": CapSide.CUSTOMER, "spent_minor": 0, "by": None, "at": AT + HOUR}
    return set_cap(organization=organization, amount_minor=amount, **(values | changes))  # type: ignore[arg-type]


def in_force(organization: Organization, at: datetime = AT + 2 * HOUR) -> tuple[str, int] | None:
    cap = cap_in_force(organization, at=at)
    return (cap.side.value, cap.amount_minor) if cap else None


def test_without_a_row_there_is_no_cap(organization: Organization) -> None:
    assert in_force(organization) is None


def test_the_lower_side_holds_and_is_named(organization: Organization) -> None:
    put(organization, 5000)
    put(organization, 2000, side=CapSide.OWNER)
    assert in_force(organization) == ("owner", 2000)
    put(organization, 1000, at=AT + 2 * HOUR)
    assert in_force(organization) == ("customer", 1000)


def test_a_removed_cap_leaves_the_other_sides(organization: Organization) -> None:
    put(organization, 5000, side=CapSide.OWNER)
    put(organization, 1000)
    put(organization, None, at=AT + 2 * HOUR)
    assert in_force(organization) == ("owner", 5000)


def test_a_cap_raises_the_version_and_is_in_the_audit_log(organization: Organization) -> None:
    before = organization.version
    user = create_user()
    create_membership(organization=organization, user=user, role=Role.BILLING)
    put(organization, 1000, by=user)
    put(organization, 2000, by=user, at=AT + 2 * HOUR)
    organization.refresh_from_db()
    event = AuditEvent.objects.filter(action="cap.set").latest("at")
    assert organization.version == before + 2
    assert (event.by, event.target) == (user, "customer")
    assert event.details == {"before": "$10.00", "after": "$20.00"}


@pytest.mark.parametrize(
    ("role", "may"), [("owner", True), ("admin", True), ("billing", True), ("developer", False)]
)
def test_who_may_set_the_customers_cap(organization: Organization, role: str, *, may: bool) -> None:
    member = create_user()
    create_membership(organization=organization, user=member, role=role)
    if may:
        assert put(organization, 1000, by=member).by == member
    else:
        with pytest.raises(Forbidden):
            put(organization, 1000, by=member)


def test_only_staff_sets_the_providers_cap(organization: Organization) -> None:
    owner, staff = create_user(), create_user(is_staff=True)
    create_membership(organization=organization, user=owner, role=Role.OWNER)
    with pytest.raises(Forbidden):
        put(organization, 1000, side=CapSide.OWNER, by=owner)
    with pytest.raises(Forbidden):
        put(organization, 1000, by=staff)
    assert put(organization, 1000, side=CapSide.OWNER, by=staff).side == "owner"


@pytest.mark.parametrize("amount", [-1, LARGEST_CAP_MINOR + 1])
def test_amounts_that_the_door_cannot_count_are_refused(organization: Organization, amount: int) -> None:
    with pytest.raises(CapOutOfRange):
        put(organization, amount)


def test_the_same_cap_again_is_no_change(organization: Organization) -> None:
    with pytest.raises(CapUnchanged):
        put(organization, None)
    put(organization, 1000)
    with pytest.raises(CapUnchanged):
        put(organization, 1000, at=AT + 2 * HOUR)


def test_another_currency_drops_the_cap_and_says_so(organization: Organization) -> None:
    put(organization, 1000)
    put_on(organization, version_of(currency="EUR"))
    caps = newest_caps(organization, at=AT + 2 * HOUR)
    assert in_force(organization) is None
    assert [cap.currency for cap in dropped_caps(caps, "EUR")] == ["USD"]
    assert put(organization, 1000, at=AT + 2 * HOUR).currency == "EUR"


# --- what a statement may come to --------------------------------------------------------------------------------


def bound(organization: Organization, at: datetime = AT) -> int | None:
    return usage_bound_minor(organization, current_period(organization, at=at))


def test_no_cap_no_bound(organization: Organization) -> None:
    assert bound(organization) is None


def test_the_cap_bounds_its_period_and_those_after(organization: Organization) -> None:
    put(organization, 1000)
    assert bound(organization) == 1000
    assert bound(organization, AT + MONTH) == 1000


def test_what_was_spent_before_a_lower_cap_is_owed_in_that_period_only(organization: Organization) -> None:
    put(organization, 1000, spent_minor=1500)
    assert bound(organization) == 1500
    assert bound(organization, AT + MONTH) == 1000


def test_a_cap_of_later_periods_does_not_touch_the_one_before(organization: Organization) -> None:
    put(organization, 1000)
    put(organization, 5000, at=AT + MONTH)
    assert bound(organization) == 1000
    assert bound(organization, AT + MONTH) == 5000


def test_what_was_written_off_is_not_owed_by_a_lower_cap(organization: Organization) -> None:
    put(organization, 1000)
    put(organization, 500, spent_minor=9000, at=AT + 2 * HOUR)  # 8000 of it was reported above the cap
    assert bound(organization) == 1000


def test_the_lower_sides_bound_holds(organization: Organization) -> None:
    put(organization, 3000)
    put(organization, 500, side=CapSide.OWNER, spent_minor=800)
    assert bound(organization) == 800


def test_a_trial_has_no_bound(organization: Organization) -> None:
    put(organization, 1000)
    Period.objects.for_organization(organization).update(is_trial=True)
    assert bound(organization) is None
