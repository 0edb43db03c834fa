"""Every page of the admin answers for staff, with rows in it; none offers to delete what usage refers to."""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import Organization
from core.clock import now
from plans.models import PlanVersion, Product
from plans.suspension import suspend_organization
from tests.cast import create_cast
from tests.factories import create_key, create_product, create_route, create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    cast = create_cast()
    create_key(organization=cast.northwind)
    create_route(create_product(credential_header="Authorization", credential="Bearer very-secret"))
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


def lists() -> list[Any]:
    return sorted(admin.site._registry, key=lambda model: model._meta.label)


def test_every_list_and_every_row_opens(staff: Client) -> None:
    for model in lists():
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert staff.get(reverse(f"{base}_changelist")).status_code == 200, model
        assert staff.get(reverse(f"{base}_add")).status_code in (200, 403), model
        row = model._default_manager.first()
        if row is not None:
            assert staff.get(reverse(f"{base}_change", args=[row.pk])).status_code == 200, model


def test_a_credential_is_written_but_never_shown(staff: Client) -> None:
    product = Product.objects.get()
    url = reverse("admin:plans_product_change", args=[product.pk])
    assert "very-secret" not in staff.get(url).content.decode()
    form = {
        "slug": product.slug, "name": "Renamed", "upstream_url": product.upstream_url, "credential_header": "Authorization",
        "credential": "", "connect_timeout_ms": "2000", "is_active": "on",
        "routes-TOTAL_FORMS": "0", "routes-INITIAL_FORMS": "0", "servers-TOTAL_FORMS": "0", "servers-INITIAL_FORMS": "0",
    }  # fmt: skip
    assert staff.post(url, form).status_code == 302
    product.refresh_from_db()
    assert (product.name, product.credential) == ("Renamed", "Bearer very-secret")


def test_a_credential_can_be_forgotten(staff: Client) -> None:
    product = Product.objects.get()
    form = {
        "slug": product.slug, "name": product.name, "upstream_url": product.upstream_url, "credential_header": "",
        "credential": "", "forget_credential": "on", "connect_timeout_ms": "2000", "is_active": "on",
        "routes-TOTAL_FORMS": "0", "routes-INITIAL_FORMS": "0", "servers-TOTAL_FORMS": "0", "servers-INITIAL_FORMS": "0",
    }  # fmt: skip
    assert staff.post(reverse("admin:plans_product_change", args=[product.pk]), form).status_code == 302
    product.refresh_from_db()
    assert product.credential == ""


def test_a_published_version_is_shown_but_not_editable(staff: Client) -> None:
    version = PlanVersion.objects.get(plan__slug="starter")
    page = staff.get(reverse("admin:plans_planversion_change", args=[version.pk])).content.decode()
    assert 'name="_save"' not in page


def test_staff_can_add_a_route_with_methods(staff: Client) -> None:
    page = staff.get(reverse("admin:plans_route_add")).content.decode()
    for name in ("methods", "path", "units", "required_feature", "timeout_ms"):
        assert f'name="{name}"' in page


def test_nothing_that_usage_refers_to_can_be_deleted(staff: Client) -> None:
    for label in ("product", "route", "meter", "plan"):
        model = next(m for m in lists() if m._meta.label_lower == f"plans.{label}")
        url = reverse(f"admin:plans_{label}_delete", args=[model._default_manager.first().pk])
        assert staff.post(url, {"post": "yes"}).status_code == 403


def test_a_suspended_customer_is_marked(staff: Client) -> None:

    organization = Organization.objects.get(name="Northwind Maps")
    suspend_organization(organization=organization, reason="abuse", by=None, at=now())
    assert "Suspended" in staff.get(reverse("admin:accounts_organization_changelist")).content.decode()
