"""The product of language models is made once, with the addresses that SDKs know."""

from io import StringIO

import pytest
from django.core.management import call_command

from plans.models import Meter, Product, Route, RouteCharge

pytestmark = pytest.mark.django_db


def test_it_is_made_once_and_left_as_it_is() -> None:
    told = StringIO()
    call_command("install_language_models", "--upstream", "https://llm.example/v1", stdout=told)
    assert "POST /v1/chat/completions: OpenAI chat completions" in told.getvalue()
    assert "Plans with the feature language_models may call them." in told.getvalue()
    product = Product.objects.get(slug="v1")
    free = product.routes.filter(required_feature="").values_list("path", flat=True)
    assert sorted(free) == [
        "/models",
        "/models/*",
    ]  # nobody calls a model whose meters its plan has no price for
    assert product.upstream_url == "https://llm.example/v1"
    for route in Route.objects.all():
        route.full_clean()
    for charge in RouteCharge.objects.all():
        charge.full_clean()
    Route.objects.filter(path="/messages").update(on_leaving="free")
    call_command("install_language_models", stdout=told)
    assert (Route.objects.count(), RouteCharge.objects.count(), Meter.objects.count()) == (8, 8, 2)
    assert Route.objects.get(path="/messages").on_leaving == "free"
    assert Product.objects.get().upstream_url == "https://llm.example/v1"
