"""The owner's system makes, reads, changes and closes customers."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from redis import Redis

from accounts.models import AuditEvent, Invitation, Organization, Role
from accounts.services import create_staff
from billing.accounts import account_changed
from billing.models import StripeCustomer
from core.clock import now
from keys.hashing import digest
from keys.models import ApiKey
from keys.records import load_record
from keys.services import issue_key
from metering.costs import period_cost
from metering.models import UsageTotal
from plans.caps import cap_in_force
from plans.models import Meter, Period, Subscription
from tests.billing.kit import Customer as Billed
from tests.billing.tenant_kit import TENANTS, OwnersSystem
from tests.eager import tasks_at_once
from tests.factories import create_key, create_meter, create_organization, create_product, create_route
from tests.metering.api_kit import Customer, problem
from tests.metering.test_ingest import OWNER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(usage_redis: Redis) -> Iterator[OwnersSystem]:
    with tasks_at_once():  # mails leave at once
        yield OwnersSystem.start()


def test_a_new_name_is_told_to_collectors_once(owner: OwnersSystem) -> None:
    made, told = owner.create(name="Acme"), list[Organization]()

    def hear(organization: Organization, **_: Any) -> None:
        told.append(organization)

    account_changed.connect(hear)
    for name in ("Acme Ltd", "Acme Ltd"):
        assert owner.call("patch", f"/{made['id']}", {"name": name}).status_code == 200
    assert [(one.public_id, one.name) for one in told] == [(made["id"], "Acme Ltd")]


def test_a_customer_is_made_with_its_limits(owner: OwnersSystem) -> None:
    made = owner.create(
        name="Acme GmbH", plan="starter", stripe_customer_id="cus_Acme1", daily_token_limit=1_000_000,
        monthly_spend_cap="250.00", currency="USD", owner_email="Boss@acme.example",
    )  # fmt: skip
    organization = Organization.objects.get(public_id=made["id"])
    assert made | {"created_at": ""} == {
        "id": organization.public_id, "name": "Acme GmbH", "status": "active", "status_reason": "", "plan": "starter",
        "subscription_status": "trialing", "currency": "USD", "stripe_customer_id": "cus_Acme1",
        "daily_token_limit": 1_000_000, "monthly_spend_cap": "250.00", "rate_limits": [], "created_at": "",
    }  # fmt: skip
    assert StripeCustomer.objects.get(stripe_id="cus_Acme1").organization == organization
    cap = cap_in_force(organization, at=now())
    assert cap is not None
    assert (cap.amount_minor, cap.side) == (25_000, "owner")
    invitation = Invitation.objects.get(organization=organization)
    assert (invitation.email, invitation.role, invitation.invited_by) == (
        "boss@acme.example",
        Role.OWNER,
        None,
    )
    (letter,) = [one for one in mail.outbox if one.to == ["boss@acme.example"]]
    assert letter.subject == "Farebox invites you to Acme GmbH"
    (event,) = AuditEvent.objects.filter(action="tenant.created")
    assert (event.by, event.details["through"][:10]) == (None, "owner:key_")


def test_limits_that_differ_from_the_plans_are_set_as_a_whole(owner: OwnersSystem) -> None:
    made = owner.create()
    route = create_route(create_product("search"), "/find")
    path, organization = f"/{made['id']}", Organization.objects.get(public_id=made["id"])
    whole = {"scope": "organization", "measure": "calls", "route": None, "model": None, "meter": None}
    wanted: list[dict[str, Any]] = [
        whole | {"window_seconds": 60, "limit": "500"},
        whole | {"scope": "route", "route": route.public_id, "window_seconds": 1, "limit": "5"},
        whole | {"scope": "key", "measure": "concurrency", "window_seconds": 0, "limit": "3"},
    ]
    changed = owner.call("patch", path, {"rate_limits": wanted}).json()
    assert changed == made | {"rate_limits": wanted}
    organization.refresh_from_db()
    version = organization.version
    assert (
        owner.call("patch", path, {"rate_limits": wanted}).json() == changed
    )  # nothing changed, nothing was told
    organization.refresh_from_db()
    assert organization.version == version
    record = load_record(digest(create_key(organization=organization).clear), at=now())
    assert record is not None
    assert record.limits is not None
    assert record.windows == ((60, 500),)
    assert [w.limit for w in record.limits.windows(route.pk)] == [5]
    fewer = [wanted[0] | {"limit": "70"}]
    assert owner.call("patch", path, {"rate_limits": fewer}).json()["rate_limits"] == fewer
    assert owner.call("patch", path, {"name": "Other"}).json()["rate_limits"] == fewer
    assert owner.call("patch", path, {"rate_limits": []}).json()["rate_limits"] == []


@pytest.mark.parametrize(
    "limit",
    [
        {"limit": "5", "window_seconds": 60, "scope": "route"},
        {"limit": "5"},
        {"limit": "5", "window_seconds": 60, "measure": "tokens"},
        {"limit": "5", "window_seconds": 60, "scope": "route", "route": "route_x"},
        {"window_seconds": 60},
        {"limit": "-1", "window_seconds": 60},
        {"limit": "5", "window_seconds": 60, "windows": 1},
        {"limit": "6", "window_seconds": 1},  # said already
    ],
)
def test_a_limit_that_makes_no_sense_changes_nothing(owner: OwnersSystem, limit: dict[str, Any]) -> None:
    made = owner.create()
    right = {"limit": "5", "window_seconds": 1}
    refused = owner.call("patch", f"/{made['id']}", {"name": "New", "rate_limits": [right, limit]})
    assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
    assert owner.call("get", f"/{made['id']}").json() == made


def test_a_limit_of_nothing_is_refused_by_the_name_of_its_field(owner: OwnersSystem) -> None:
    made = owner.create()
    refused = owner.call("patch", f"/{made['id']}", {"rate_limits": [{"limit": "0", "window_seconds": 60}]})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == "rate_limits.limit"


def test_without_choices_it_is_the_first_plan_and_no_limits(owner: OwnersSystem) -> None:
    made = owner.create()
    assert (made["plan"], made["currency"]) == ("free", "USD")
    assert made["stripe_customer_id"] is made["daily_token_limit"] is made["monthly_spend_cap"] is None


def test_the_first_call_of_a_new_customer_passes(owner: OwnersSystem) -> None:
    customer = Customer.start()
    made = owner.create(plan="free")
    issued = owner.call("post", f"/{made['id']}/keys", {"name": "prod", "mode": "live"}).json()
    assert customer.get(key=issued["key"]).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "code", "field"),
    [
        ({"name": ""}, 400, "validation_error", "name"),
        ({"name": "x" * 121}, 400, "validation_error", "name"),
        ({"name": "a\x00"}, 400, "validation_error", "name"),
        ({"plan": "gold"}, 400, "validation_error", "plan"),
        ({"stripe_customer_id": "sub_1"}, 400, "validation_error", "stripe_customer_id"),
        ({"stripe_customer_id": "cus_taken"}, 409, "stripe_customer_taken", None),
        ({"daily_token_limit": 0}, 400, "validation_error", "daily_token_limit"),
        ({"daily_token_limit": 1.5}, 400, "validation_error", "daily_token_limit"),
        ({"monthly_spend_cap": "-1"}, 400, "validation_error", "monthly_spend_cap"),
        ({"monthly_spend_cap": "1.005"}, 400, "validation_error", "monthly_spend_cap"),
        ({"monthly_spend_cap": "NaN"}, 400, "validation_error", "monthly_spend_cap"),
        ({"monthly_spend_cap": "99999999999999"}, 400, "cap_out_of_range", None),
        ({"monthly_spend_cap": "5", "currency": "EUR"}, 400, "validation_error", "currency"),
        ({"owner_email": "nobody"}, 400, "validation_error", "owner_email"),
        ({"daily_tokens": 5}, 400, "validation_error", "daily_tokens"),
    ],
)
def test_what_cannot_be_is_refused_whole(
    owner: OwnersSystem, fields: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    owner.create(stripe_customer_id="cus_taken")
    told = problem(owner.call("post", "", {"name": "Acme"} | fields), status, code)
    assert [one["field"] for one in told.get("errors", [])] == ([field] if field else [])
    assert Organization.objects.count() == 1


def test_bodies_that_are_no_objects_are_refused(owner: OwnersSystem) -> None:
    for body in ([], "x", 5, None):
        assert owner.call("post", "", body if body is not None else "null").status_code == 400
    assert (
        owner.call("post", "", '{"name": "x", "reason": ' + "[" * 5_000 + "]" * 5_000 + "}").status_code
        == 400
    )
    assert Organization.objects.count() == 0


def test_a_customer_is_changed_by_what_is_sent_only(owner: OwnersSystem) -> None:
    made = owner.create(daily_token_limit=5, monthly_spend_cap="10")
    path = f"/{made['id']}"
    assert owner.call("patch", path, {"daily_token_limit": 7}).json() == made | {"daily_token_limit": 7}
    changed = owner.call(
        "patch", path, {"name": "New", "monthly_spend_cap": None, "stripe_customer_id": "cus_9"}
    ).json()
    assert changed == made | {
        "daily_token_limit": 7, "name": "New", "monthly_spend_cap": None, "stripe_customer_id": "cus_9",
    }  # fmt: skip
    assert owner.call("patch", path, {"daily_token_limit": None, "stripe_customer_id": None}).json() == (
        changed | {"daily_token_limit": None, "stripe_customer_id": None}
    )


def test_the_same_again_changes_nothing(owner: OwnersSystem) -> None:
    wanted = {
        "name": "Acme",
        "daily_token_limit": 5,
        "monthly_spend_cap": "10.00",
        "stripe_customer_id": "cus_1",
    }
    made = owner.create(**wanted)
    organization = Organization.objects.get()
    assert owner.call("patch", f"/{made['id']}", wanted | {"status": "active"}).json() == made
    assert Organization.objects.get().version == organization.version


def test_closing_a_door_holds_from_the_next_call_on(owner: OwnersSystem) -> None:
    customer = Customer.start()
    path = f"/{customer.organization.public_id}"
    assert customer.get().status_code == 200
    closed = owner.call("delete", path).json()
    assert (closed["status"], closed["status_reason"]) == ("disabled", "Set through the owner's API")
    problem(customer.get(), 402, "suspended")
    assert owner.call("delete", path).json() == closed
    assert owner.call("patch", path, {"status": "active"}).json()["status"] == "active"
    assert customer.get().status_code == 200
    disabled = owner.call("patch", path, {"status": "disabled", "reason": "unpaid"}).json()
    assert disabled["status_reason"] == "unpaid"
    problem(customer.get(), 402, "suspended")


def test_the_token_limit_stands_in_the_record_of_live_keys(owner: OwnersSystem) -> None:
    tokens = create_meter("tokens", unit="token", decimals=2)
    create_meter("gb", unit="GB")
    made = owner.create(daily_token_limit=500)
    organization = Organization.objects.get()
    records = {}
    for mode in ("live", "test"):
        issued = issue_key(organization=organization, name=mode, mode=mode, by=None, at=now())
        records[mode] = load_record(bytes(issued.key.hash), at=now())
    live, test = records["live"], records["test"]
    assert live is not None
    assert test is not None
    assert live.day_tokens is not None
    assert (live.day_tokens.limit, live.day_tokens.meters) == (500, ((tokens.pk, 2),))
    assert test.day_tokens is None
    before = live.version
    owner.call("patch", f"/{made['id']}", {"daily_token_limit": None})
    record = load_record(bytes(issued.key.hash), at=now())
    assert record is not None
    assert record.version > before
    assert record.day_tokens is None


def test_a_customer_that_subscribed_through_stripe_keeps_its_customer_there(
    owner: OwnersSystem,
) -> None:
    made = owner.create(stripe_customer_id="cus_1")
    organization = Organization.objects.get()
    organization.stripe_subscriptions.create(
        subscription=Subscription.objects.get(), version=Subscription.objects.get().version, stripe_id="sub_1",
        status="active", started_at=now(), synced_at=now(),
    )  # fmt: skip
    problem(
        owner.call("patch", f"/{made['id']}", {"stripe_customer_id": "cus_2"}), 409, "stripe_customer_in_use"
    )
    assert StripeCustomer.objects.get().stripe_id == "cus_1"


def test_lists_are_searched_filtered_and_paged(owner: OwnersSystem) -> None:
    made = [owner.create(name=f"Firm {n}", stripe_customer_id=f"cus_{n}") for n in range(5)]
    owner.call("delete", f"/{made[3]['id']}")
    names: list[str] = []
    before = ""
    while True:
        page = owner.call("get", f"?limit=2{before}").json()
        names += [one["name"] for one in page["tenants"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert names == [f"Firm {n}" for n in (4, 3, 2, 1, 0)]

    def found(query: str) -> list[str]:
        return [one["name"] for one in owner.call("get", query).json()["tenants"]]

    assert found("?status=disabled") == ["Firm 3"]
    assert found("?status=active&search=firm") == ["Firm 4", "Firm 2", "Firm 1", "Firm 0"]
    assert found("?search=cus_2") == found(f"?search={made[2]['id']}") == ["Firm 2"]
    assert found("?search=%25") == []
    for bad in ("?limit=0", "?limit=201", "?status=gone", "?before=org_x", "?search=%00"):
        assert owner.call("get", bad).status_code == 400, bad


def test_a_page_costs_the_same_for_one_and_for_many(
    owner: OwnersSystem, django_assert_num_queries: Any
) -> None:
    owner.create()
    with django_assert_num_queries(7):  # the key, the page, and five for what is set
        owner.call("get")
    for n in range(6):
        owner.create(
            name=f"Firm {n}", stripe_customer_id=f"cus_{n}", daily_token_limit=n + 1, monthly_spend_cap="5"
        )
    with django_assert_num_queries(7):
        assert len(owner.call("get").json()["tenants"]) == 7


def test_fifty_equal_requests_make_one_customer(owner: OwnersSystem) -> None:
    barrier = Barrier(50)

    def one(_: int) -> tuple[int, bytes]:
        barrier.wait()
        try:
            answer = owner.call("post", "", {"name": "Once"}, Idempotency_Key="signup-7")
            if answer.status_code == 409:
                assert answer["Retry-After"] == "1"
                assert answer.json()["code"] == "idempotency_in_progress"
            return answer.status_code, answer.content if answer.status_code == 200 else b""
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        answers = Counter(pool.map(one, range(50)))
    assert {status for status, _ in answers} <= {200, 409}
    assert len([body for status, body in answers if status == 200]) == 1
    assert Organization.objects.count() == 1
    again = owner.call("post", "", {"name": "Once"}, Idempotency_Key="signup-7")
    assert again["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == Organization.objects.get().public_id
    problem(
        owner.call("post", "", {"name": "Other"}, Idempotency_Key="signup-7"), 422, "idempotency_key_reused"
    )
    problem(owner.call("post", "", {"name": "Once"}, Idempotency_Key="a b"), 400, "bad_idempotency_key")


def test_keys_are_issued_once_rotated_and_revoked(owner: OwnersSystem) -> None:
    customer = Customer.start()
    path = f"/{customer.organization.public_id}/keys"
    body = {"name": "prod", "calls_per_minute": 50, "scopes": [f"product:{customer.product.slug}"]}
    issued = owner.call("post", path, body, Idempotency_Key="k").json()
    again = owner.call("post", path, body, Idempotency_Key="k")
    assert (again.json(), again["Idempotent-Replayed"]) == (issued, "true")
    assert issued["key"].startswith("fb_live_")
    assert issued["last4"] == issued["key"][-4:]
    assert customer.get(key=issued["key"]).status_code == 200

    rotated = owner.call("post", f"{path}/{issued['id']}/rotate", {"grace_seconds": 60}).json()
    listed = {one["id"]: one for one in owner.call("get", path).json()["keys"]}
    assert len(listed) == 3
    assert not any("key" in one or "hash" in one for one in listed.values())
    assert (listed[issued["id"]]["state"], listed[rotated["id"]]["state"]) == ("rotating", "active")
    assert customer.get(key=rotated["key"]).status_code == customer.get(key=issued["key"]).status_code == 200

    revoked = owner.call("delete", f"{path}/{rotated['id']}").json()
    assert revoked["state"] == "revoked"
    assert customer.get(key=rotated["key"]).status_code == 401
    problem(owner.call("post", f"{path}/{rotated['id']}/rotate"), 409, "key_not_usable")


def test_a_key_of_another_customer_is_not_there(owner: OwnersSystem) -> None:
    one, other = owner.create(), owner.create(name="Other")
    key = owner.call("post", f"/{one['id']}/keys", {"name": "prod"}).json()
    problem(owner.call("delete", f"/{other['id']}/keys/{key['id']}"), 404, "not_found")
    problem(owner.call("post", f"/{other['id']}/keys/{key['id']}/rotate"), 404, "not_found")
    assert ApiKey.objects.get().revoked_at is None


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", ""), ("post", ""), ("get", "/ORG"), ("patch", "/ORG"), ("delete", "/ORG"), ("get", "/ORG/usage"),
     ("get", "/ORG/keys"), ("post", "/ORG/keys"), ("delete", "/ORG/keys/KEY"), ("post", "/ORG/keys/KEY/rotate")],
)  # fmt: skip
def test_only_staff_and_keys_with_the_scope_get_in(
    owner: OwnersSystem, settings: Any, method: str, path: str
) -> None:
    organization = create_organization()
    issued = issue_key(organization=organization, name="live", mode="live", by=None, at=now())
    address = path.replace("ORG", organization.public_id).replace("KEY", issued.key.public_id)
    assert Client().generic(method.upper(), TENANTS + address).status_code == 401
    for token in (issued.clear, "wrong", "eyJ.a.b"):
        assert OwnersSystem(token).call(method, address).status_code == 401
    narrow = OwnersSystem.start("usage", "revenue")
    problem(narrow.call(method, address), 403, "owner_scope_missing")
    assert ApiKey.objects.get().revoked_at is None
    assert Organization.objects.get().status == "active"
    settings.ADMIN_API_KEY = OWNER
    assert OwnersSystem(OWNER).call(method, address).status_code in (200, 400)


def test_a_key_for_tenants_opens_nothing_else(owner: OwnersSystem) -> None:
    head = {"Authorization": f"Bearer {owner.token}"}
    for path in ("/api/usage/track", "/api/usage/correct", "/api/usage/aggregate"):
        answer = Client().post(path, {}, content_type="application/json", headers=head)
        problem(answer, 403, "owner_scope_missing")
    problem(Client().get("/api/usage/report?organization=org_x", headers=head), 403, "owner_scope_missing")
    problem(Client().get("/api/admin/revenue", headers=head), 403, "owner_scope_missing")


def test_staff_act_under_their_own_name(owner: OwnersSystem) -> None:
    staff = create_staff(email="ops@farebox.example", password="correct horse battery staple")
    tokens = Client().post(
        "/api/auth/login", {"email": staff.email, "password": "correct horse battery staple"}, content_type="application/json"
    )  # fmt: skip
    ours = OwnersSystem(tokens.json()["access"])
    made = ours.create(monthly_spend_cap="5", daily_token_limit=5, owner_email="boss@acme.example")
    key = ours.call("post", f"/{made['id']}/keys", {"name": "prod"}).json()
    assert ApiKey.objects.get(public_id=key["id"]).created_by == staff
    ours.call("delete", f"/{made['id']}")
    actions = {
        "tenant.created",
        "cap.set",
        "override.set",
        "key.issued",
        "organization.suspended",
        "tenant.changed",
    }
    assert {event.by for event in AuditEvent.objects.filter(action__in=actions)} == {staff}
    assert set(AuditEvent.objects.values_list("action", flat=True)) >= actions
    assert "ops@farebox" not in "".join(f"{one.subject} {one.body}" for one in mail.outbox)
    revenue = Client().get("/api/admin/revenue", headers={"Authorization": f"Bearer {ours.token}"}).json()
    assert {"mrr", "churn", "ltv"} <= {one["slug"] for one in revenue["definitions"]}


def total(
    organization: Organization,
    meter: Meter,
    hour: Any,
    *,
    quantity: str,
    count: int,
    status_class: int = 2,
    mode: str = "live",
) -> None:
    UsageTotal.objects.create(
        organization_id=organization.pk, mode=mode, meter_id=meter.pk, period_id=1, hour=hour, status_class=status_class,
        sum=Decimal(quantity), count=count, billed_count=count, min=0, max=0, last=0,
        last_at=hour + timedelta(minutes=5), last_id="019a0f0e-7d3c-7c41-8a52-0d5b1c9d2f10",
    )  # fmt: skip


def test_usage_is_of_the_utc_day_and_the_calendar_month(
    owner: OwnersSystem, django_assert_num_queries: Any
) -> None:
    made = owner.create(daily_token_limit=100)
    organization = Organization.objects.get()
    asked, answered, calls = (
        create_meter("in", unit="token"),
        create_meter("out", unit="token"),
        create_meter(),
    )
    day = now().replace(hour=0, minute=0, second=0, microsecond=0)
    month, hour = day.replace(day=1), timedelta(hours=1)
    total(organization, asked, day, quantity="30", count=3)
    total(organization, answered, day, quantity="12", count=3)
    total(organization, calls, day, quantity="2", count=2)
    total(organization, calls, day, quantity="9", count=9, status_class=0)  # reported: no requests
    total(organization, asked, day, quantity="500", count=5, mode="test")
    total(organization, asked, day - hour, quantity="1000", count=1)
    total(organization, asked, month - hour, quantity="70000", count=1)
    with django_assert_num_queries(15):
        usage = owner.call("get", f"/{made['id']}/usage").json()
    this_month = day - hour >= month
    assert (usage["day"], usage["month"]) == (f"{day:%Y-%m-%d}", f"{day:%Y-%m}")
    assert (usage["tokens_used_today"], usage["daily_token_limit"]) == (42, 100)
    assert usage["tokens_used_month"] == (1042 if this_month else 42)
    assert (usage["requests_today"], usage["requests_count"]) == (8, 9 if this_month else 8)
    assert usage["last_request"] == (day + timedelta(minutes=5)).isoformat()
    assert (usage["estimated_cost"], usage["currency"]) == ("0.00", "USD")


def test_the_cost_is_that_of_the_usage_page_to_the_cent(owner: OwnersSystem) -> None:
    customer = Billed.start(at=now() - timedelta(days=3))
    period = Period.objects.for_organization(customer.organization).earliest("starts_at")
    rated = period_cost(customer.organization, period=period, at=now())
    usage = owner.call("get", f"/{customer.organization.public_id}/usage").json()
    assert usage["estimated_cost"] == f"{Decimal(rated.total_minor) / 100:.2f}"
    assert usage["estimated_cost"] == "49.00"
    assert usage["period_start"] == period.starts_at.isoformat()
