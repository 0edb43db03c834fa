"""Staff's page of a language model: servers with a credential that is never shown, prices that are only added."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from plans.models import LanguageModel, LanguageUpstream, Measure, ModelPrice, RouteCharge
from tests.factories import create_meter, create_product, create_route, create_user

pytestmark = pytest.mark.django_db
SECRET = "Bearer sk-very-secret"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(create_user("staff@farebox.example", is_staff=True))
    return client


@pytest.fixture
def model() -> LanguageModel:
    model = LanguageModel.objects.create(name="gpt-4o")
    LanguageUpstream.objects.create(
        model=model,
        base_url="https://api.openai.com/v1",
        credential_header="Authorization",
        credential=SECRET,
    )
    ModelPrice.objects.create(
        model=model, starts_at=datetime(2026, 1, 1, tzinfo=UTC), input=Decimal(2), output=Decimal(8)
    )
    return model


def form_of(model: LanguageModel, **changed: Any) -> dict[str, Any]:
    upstream = model.upstreams.get()
    values = {
        "name": model.name, "max_output_tokens": "4096", "bytes_per_token": "2", "is_active": "on",
        "upstreams-TOTAL_FORMS": "1", "upstreams-INITIAL_FORMS": "1", "upstreams-0-id": upstream.pk,
        "upstreams-0-model": model.pk, "upstreams-0-base_url": "https://other.example/v1",
        "upstreams-0-credential_header": "Authorization", "upstreams-0-credential": "", "upstreams-0-position": "0",
        "upstreams-0-is_active": "on", "upstreams-0-weight": "1", "upstreams-0-check_seconds": "10",
        "upstreams-0-check_status": "200", "prices-TOTAL_FORMS": "0", "prices-INITIAL_FORMS": "0",
    }  # fmt: skip
    return values | changed


def page(model: LanguageModel) -> str:
    return reverse("admin:plans_languagemodel_change", args=[model.pk])


def test_the_credential_is_written_and_never_shown(staff: Client, model: LanguageModel) -> None:
    shown = staff.get(page(model)).content.decode()
    assert "https://api.openai.com/v1" in shown
    assert "very-secret" not in shown
    assert staff.post(page(model), form_of(model)).status_code == 302
    upstream = model.upstreams.get()
    assert (upstream.base_url, upstream.credential) == ("https://other.example/v1", SECRET)
    staff.post(page(model), form_of(model, **{"upstreams-0-credential": "Bearer new"}))
    assert model.upstreams.get().credential == "Bearer new"
    staff.post(page(model), form_of(model, **{"upstreams-0-forget_credential": "on"}))
    assert model.upstreams.get().credential == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("credential", "Bearer a\r\nX-More: 1"), ("credential", "schl\u00fcssel"), ("credential_header", "X Y"),
        ("credential_header", "X: Y"), ("credential_header", "Host"), ("credential_header", "content-length"),
    ],
)  # fmt: skip
def test_a_credential_that_cannot_be_sent_is_said_beside_its_field(
    staff: Client, model: LanguageModel, field: str, value: str
) -> None:
    answer = staff.post(page(model), form_of(model, **{f"upstreams-0-{field}": value}))
    assert answer.status_code == 200
    assert f'id="id_upstreams-0-{field}_error"' in answer.content.decode()
    assert (model.upstreams.get().credential_header, model.upstreams.get().credential) == (
        "Authorization",
        SECRET,
    )


def test_a_credential_needs_a_header(staff: Client, model: LanguageModel) -> None:
    typed = {"upstreams-0-credential": "sk-new", "upstreams-0-credential_header": ""}
    answer = staff.post(page(model), form_of(model, **typed))
    assert "Name the header that carries the credential." in answer.content.decode()
    assert model.upstreams.get().credential == SECRET


def test_prices_are_added_and_never_changed(staff: Client, model: LanguageModel) -> None:
    old = model.prices.get()
    added = {
        "prices-TOTAL_FORMS": "1", "prices-INITIAL_FORMS": "0", "prices-0-model": model.pk,
        "prices-0-starts_at_0": "2026-12-01", "prices-0-starts_at_1": "00:00:00", "prices-0-above_input": "0",
        "prices-0-currency": "USD", "prices-0-input": "1", "prices-0-output": "4", "prices-0-per_call": "0",
        "prices-0-markup": "0.25",
    }  # fmt: skip
    assert staff.post(page(model), form_of(model, **added)).status_code == 302
    assert [(row.input, row.markup) for row in model.prices.all()] == [(1, Decimal("0.25")), (2, 0)]
    changed = added | {"prices-INITIAL_FORMS": "1", "prices-0-id": old.pk, "prices-0-input": "9"}
    staff.post(page(model), form_of(model, **changed))
    old.refresh_from_db()
    assert old.input == 2
    assert staff.get(reverse("admin:plans_languagemodel_delete", args=[model.pk])).status_code == 403


def test_the_list_tells_servers_and_prices(staff: Client, model: LanguageModel) -> None:
    LanguageModel.objects.create(name="plain")
    shown = staff.get(reverse("admin:plans_languagemodel_changelist")).content.decode()
    assert "https://api.openai.com/v1" in shown
    assert "that of the product" in shown


def test_routes_count_on_further_meters(staff: Client) -> None:
    route = create_route(create_product(), "/chat/completions")
    tokens = create_meter("tokens", unit="token")
    RouteCharge.objects.create(route=route, meter=tokens, measure=Measure.TOKENS)
    shown = staff.get(reverse("admin:plans_route_change", args=[route.pk])).content.decode()
    assert "Further meters that its calls count on" in shown
    assert "charges-0-measure" in shown


def test_prices_of_pictures_are_read_and_checked(staff: Client, model: LanguageModel) -> None:
    row = {
        "prices-TOTAL_FORMS": "1", "prices-0-model": model.pk, "prices-0-starts_at_0": "2026-12-01", "prices-0-starts_at_1": "00:00",
        "prices-0-above_input": "0", "prices-0-currency": "USD", "prices-0-input": "0", "prices-0-output": "0",
        "prices-0-per_call": "0", "prices-0-markup": "0",
    }  # fmt: skip
    wrong = staff.post(page(model), form_of(model, **row, **{"prices-0-per_picture": '{"hd": "1"}'}))
    assert "is no quality/size" in wrong.content.decode()
    listed = '{"hd/1024x1792": "0.12", "*/*": "0.04"}'
    assert (
        staff.post(page(model), form_of(model, **row, **{"prices-0-per_picture": listed})).status_code == 302
    )
    prices = model.prices.latest("starts_at").as_prices()
    assert prices.per_picture == {"hd/1024x1792": Decimal("0.12"), "*/*": Decimal("0.04")}


def test_a_routes_page_shows_what_the_apis_call_it(staff: Client) -> None:
    route = create_route(create_product(), "/one")
    shown = staff.get(reverse("admin:plans_route_change", args=[route.pk])).content.decode()
    assert route.public_id in shown
