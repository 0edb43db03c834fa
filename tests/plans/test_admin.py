"""Staff's pages of plan versions and customers: drafts beside a preview, buttons that call acts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from core.clock import now
from plans.admin.forms import tiers_as_text
from plans.models import (
    CostPrices,
    Override,
    Plan,
    PlanVersion,
    PriceComponent,
    RouteCost,
    SubscriptionEvent,
    VersionState,
)
from plans.publishing import new_draft, publish_version
from plans.queries import newest_version, terms_of
from tests.factories import create_organization, create_product, create_route, create_user

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


@pytest.fixture
def draft() -> PlanVersion:
    create_organization()
    return new_draft(version=newest_version("starter"), by=None, at=now())


def page(version: PlanVersion, name: str = "change") -> str:
    return reverse(f"admin:plans_planversion_{name}", args=[version.pk])


def form_of(version: PlanVersion, **changed: Any) -> dict[str, Any]:
    """What a browser sends for this draft."""
    component = version.components.get()
    values = {
        "currency": "USD", "interval": "month", "fee": "49.00", "minimum": "0.00", "over_cap": "written_off",
        "trial_days": "14", "features": "webhooks", "texts": "Yes, all\nSupport",
        "components-TOTAL_FORMS": "1", "components-INITIAL_FORMS": "1",
        "components-0-id": component.pk, "components-0-version": version.pk, "components-0-meter": component.meter_id,
        "components-0-model": "included", "components-0-position": "0", "components-0-match": "{}",
        "components-0-included": "50000", "components-0-unit_price": "0.001", "components-0-package_size": "1",
        "rate_limits-TOTAL_FORMS": "0", "rate_limits-INITIAL_FORMS": "0",
    }  # fmt: skip
    return values | changed


# --- editing -----------------------------------------------------------------------------------------------------


def test_a_draft_is_edited_with_amounts_tiers_and_texts_as_people_write_them(
    staff: Client, draft: PlanVersion
) -> None:
    tiers = "10,000: 0\n100000: 0.001 + 5\nabove: .0008"
    changes = {
        "fee": "59.50", "components-0-model": "graduated", "components-0-unit_price": "",
        "components-0-included": "0", "components-0-tiers": tiers,
    }  # fmt: skip
    assert staff.post(page(draft), form_of(draft, **changes)).status_code == 302
    draft.refresh_from_db()
    assert (draft.fee_minor, draft.texts, draft.features) == (5950, ["Yes, all", "Support"], ["webhooks"])
    component = draft.components.get()
    assert tiers_as_text(component) == "10000: 0\n100000: 0.001 + 5\nabove: 0.0008"
    assert "10000: 0\n100000: 0.001 + 5" in staff.get(page(draft)).content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fee", "49.001"),
        ("currency", "XYZ"),
        ("components-0-tiers", "ten: 1"),
        ("components-0-match", "[1]"),
        ("components-0-included", "-1"),
    ],
)
def test_what_is_wrong_is_said_beside_the_field(
    staff: Client, draft: PlanVersion, field: str, value: str
) -> None:
    answer = staff.post(page(draft), form_of(draft, **{field: value}))
    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()


def test_a_new_version_is_numbered_by_itself(staff: Client, draft: PlanVersion) -> None:
    form = {
        "plan": draft.plan_id, "currency": "eur", "interval": "year", "fee": "490", "over_cap": "billed", "trial_days": "0",
        "components-TOTAL_FORMS": "0", "components-INITIAL_FORMS": "0",
        "rate_limits-TOTAL_FORMS": "0", "rate_limits-INITIAL_FORMS": "0",
    }  # fmt: skip
    assert staff.post(reverse("admin:plans_planversion_add"), form).status_code == 302
    made = PlanVersion.objects.get(plan=draft.plan, number=3)
    assert (made.currency, made.fee_minor, made.state) == ("EUR", 49_000, VersionState.DRAFT)


def test_what_was_published_is_shown_with_its_tiers(staff: Client, draft: PlanVersion) -> None:
    component = draft.components.get()
    PriceComponent.objects.filter(pk=component.pk).update(model="volume", unit_price=None)
    component.tiers.create(up_to=D(7), unit_price=D("0.25"))
    component.tiers.create(unit_price=D("0.125"))
    publish_version(version=draft, by=None, at=now())
    text = staff.get(page(draft)).content.decode()
    assert "7: 0.25\nabove: 0.125" in text
    assert 'name="_save"' not in text
    assert "$49.00" in text


# --- preview -----------------------------------------------------------------------------------------------------


def test_the_draft_has_its_preview_beside_it(staff: Client, draft: PlanVersion) -> None:
    assert "A customer with 120,000 calls pays $119.00 a month." in staff.get(page(draft)).content.decode()


def test_the_preview_works_as_a_plain_form(staff: Client, draft: PlanVersion) -> None:
    text = staff.get(page(draft, "preview"), {"q0": "60,000"}).content.decode()
    assert "A customer with 60,000 calls pays $59.00 a month." in text
    assert "</html>" in text


def test_the_preview_takes_what_is_not_saved_and_leaves_nothing_behind(
    staff: Client, draft: PlanVersion
) -> None:
    before = terms_of(PlanVersion.objects.get(pk=draft.pk))
    changes = {"fee": "10", "components-0-unit_price": "0.002", "q0": "60000"}
    answer = staff.post(page(draft, "preview"), form_of(draft, **changes), headers={"HX-Request": "true"})
    text = answer.content.decode()
    assert "A customer with 60,000 calls pays $30.00 a month." in text
    assert "</html>" not in text
    assert terms_of(PlanVersion.objects.get(pk=draft.pk)) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fee": "much"}, "Correct the fields first: fee"),
        (
            {"components-0-model": "graduated", "components-0-unit_price": ""},
            "The last tier, and only the last, is open.",
        ),
        ({"q0": "many"}, "&#x27;many&#x27; is not a quantity."),
        ({"q0": "-1"}, "A quantity is 0 or more"),
        ({"q0": "NaN"}, "A quantity is 0 or more"),
    ],
)
def test_the_preview_says_why_there_is_none(
    staff: Client, draft: PlanVersion, changed: dict[str, str], words: str
) -> None:
    answer = staff.post(page(draft, "preview"), form_of(draft, **changed), headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert " pays " not in answer.content.decode()


# --- acts --------------------------------------------------------------------------------------------------------


def test_publishing_shows_what_to_know_and_goes_into_the_history(staff: Client, draft: PlanVersion) -> None:
    route = create_route(create_product(), meter=draft.components.get().meter)
    RouteCost.objects.create(route=route, third_party_calls=D(1))
    CostPrices.objects.create(valid_from=now() - timedelta(days=1), per_third_party_call=D("0.005"))
    Plan.objects.create(slug="fifth", name="Fifth")
    text = staff.get(page(draft, "publish")).content.decode()
    assert "a call is sold for as little as $0.001 and costs $0.005" in text
    assert "there are 5 public plans" in text
    assert "It takes the place of Starter v1" in text
    staff.post(page(draft, "publish"), {"act": "publish"})
    draft.refresh_from_db()
    assert draft.state == VersionState.PUBLISHED
    assert LogEntry.objects.filter(object_id=str(draft.pk), change_message__contains="is on sale").exists()


def test_faults_keep_it_from_being_published(staff: Client, draft: PlanVersion) -> None:
    draft.components.update(included=D("0.5"))
    assert "Included quantity 0.5 has more decimals" in staff.get(page(draft, "publish")).content.decode()
    answer = staff.post(page(draft, "publish"), {"act": "publish"}, follow=True)
    assert "Included quantity 0.5 has more decimals" in answer.content.decode()
    draft.refresh_from_db()
    assert draft.state == VersionState.DRAFT


def test_publishing_is_scheduled_and_forgotten(staff: Client, draft: PlanVersion) -> None:
    staff.post(page(draft, "publish"), {"act": "schedule", "publish_at": "2099-01-01T08:00"})
    draft.refresh_from_db()
    assert draft.publish_at == datetime(2099, 1, 1, 8, tzinfo=UTC)
    assert "2099" in staff.get(page(draft, "publish")).content.decode()
    staff.post(page(draft, "publish"), {"act": "forget"})
    assert PlanVersion.objects.get(pk=draft.pk).publish_at is None
    assert (
        "required"
        in staff.post(page(draft, "publish"), {"act": "schedule", "publish_at": ""}).content.decode()
    )


def test_a_draft_is_made_and_a_list_retired_by_a_button(staff: Client, draft: PlanVersion) -> None:
    professional = newest_version("professional")
    assert staff.get(page(professional, "draft")).status_code == 302
    assert not PlanVersion.objects.filter(plan=professional.plan, number=2).exists()
    staff.post(page(professional, "draft"))
    assert PlanVersion.objects.get(plan=professional.plan, number=2).state == VersionState.DRAFT
    assert "stay on it" in staff.get(page(professional, "retire")).content.decode()
    staff.post(page(professional, "retire"))
    professional.refresh_from_db()
    assert professional.state == VersionState.RETIRED


def test_a_private_plan_is_made_for_a_customer(staff: Client, draft: PlanVersion) -> None:
    organization = create_organization("Northwind Maps")
    assert (
        "no customer with this id"
        in staff.post(page(draft, "private"), {"organization": "org_none"}).content.decode()
    )
    staff.post(page(draft, "private"), {"organization": organization.public_id})
    assert Plan.objects.get(organization=organization).name == "Starter for Northwind Maps"


def test_customers_are_counted_before_they_are_moved(staff: Client, draft: PlanVersion) -> None:
    old = newest_version("starter")
    organization = create_organization(plan="starter")
    publish_version(version=draft, by=None, at=now())
    form = {"to_version": draft.pk, "act": "count"}
    text = staff.post(page(old, "move"), form).content.decode()
    assert "Move 1 customer<" in text
    assert organization.subscriptions.get().next_version is None
    staff.post(page(old, "move"), form | {"act": "move"})
    assert organization.subscriptions.get().next_version == draft
    answer = staff.post(page(old, "move"), form | {"to_version": newest_version("free", interval="month").pk})
    assert answer.status_code == 200


def test_one_customer_is_changed_for_its_periods_end_and_back(staff: Client) -> None:
    organization = create_organization(plan="starter")
    subscription = organization.subscriptions.get()
    url = reverse("admin:plans_subscription_schedule", args=[subscription.pk])
    assert "takes effect at the period" in staff.get(url).content.decode()
    staff.post(url, {"version": newest_version("professional").pk})
    subscription.refresh_from_db()
    assert subscription.next_version == newest_version("professional")
    staff.post(url, {"act": "forget"})
    subscription.refresh_from_db()
    assert subscription.next_version is None


def test_overrides_are_granted_and_ended_by_acts(staff: Client) -> None:
    organization = create_organization()
    url = reverse("admin:plans_override_add")
    form = {
        "organization": organization.pk,
        "kind": "rate_limit",
        "window_seconds": "60",
        "amount": "",
        "reason": "launch",
    }
    assert "amount is missing" in staff.post(url, form).content.decode()
    assert staff.post(url, form | {"amount": "500"}).status_code == 302
    made = Override.objects.for_organization(organization).get()
    assert (made.amount, made.by.email if made.by else "") == (D(500), "staff@farebox.example")
    staff.post(
        reverse("admin:plans_override_changelist"), {"action": "end_now", "_selected_action": [made.pk]}
    )
    made.refresh_from_db()
    assert made.ends_at is not None


def test_costs_are_added_and_never_edited(staff: Client) -> None:
    form = {
        "valid_from_0": "2026-01-01", "valid_from_1": "00:00:00", "currency": "USD", "per_compute_ms": "0.000002",
        "per_memory_gb_second": "0", "per_kb_out": "0.000001", "per_third_party_call": "0.005",
    }  # fmt: skip
    assert staff.post(reverse("admin:plans_costprices_add"), form).status_code == 302
    made = CostPrices.objects.get()
    answer = staff.post(reverse("admin:plans_costprices_change", args=[made.pk]), form | {"per_kb_out": "1"})
    assert answer.status_code == 403


def test_logs_are_read_only(staff: Client) -> None:
    create_organization(plan="starter")
    event = SubscriptionEvent.objects.first()
    assert event is not None
    for name in ("subscriptionevent", "spendcap", "restriction"):
        assert staff.get(reverse(f"admin:plans_{name}_add")).status_code == 403
    text = staff.get(reverse("admin:plans_subscriptionevent_change", args=[event.pk])).content.decode()
    assert 'name="_save"' not in text


def test_the_fifth_public_plan_is_warned_of_when_it_is_saved(staff: Client, draft: PlanVersion) -> None:
    form = {"slug": "fifth", "name": "Fifth", "position": "9", "is_public": "on"}
    answer = staff.post(reverse("admin:plans_plan_add"), form, follow=True)
    assert "With Fifth there are 5 public plans." in answer.content.decode()


@pytest.mark.parametrize("name", ["preview", "publish", "draft", "retire", "private", "move"])
def test_nobody_but_staff_with_the_right_comes_in(client: Client, draft: PlanVersion, name: str) -> None:
    client.force_login(create_user())
    assert client.post(page(draft, name)).status_code == 302
    clerk = create_user("clerk@farebox.example")
    clerk.is_staff = True
    clerk.save()
    client.force_login(clerk)
    assert client.post(page(draft, name)).status_code == 403
