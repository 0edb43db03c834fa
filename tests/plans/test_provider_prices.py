"""Prices of models from the providers' lists: new dated rows only where something changed."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
)
from genai_prices.types import ModelPrice as ListedPrice

from plans import provider_prices
from plans.models import LanguageModel, ModelPrice
from plans.provider_prices import apply_price_changes, price_changes

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
D = Decimal


def listed(monkeypatch: pytest.MonkeyPatch, **models: Any) -> None:
    """What the providers list: of the provider `acme`."""
    infos = [ModelInfo(id=name, match=ClauseEquals(name), prices=prices) for name, prices in models.items()]
    provider = Provider(id="acme", name="Acme", api_pattern="", models=infos)
    snapshot = type("Snapshot", (), {"providers": [provider]})()
    monkeypatch.setattr(provider_prices, "get_snapshot", lambda: snapshot)


def sync(*names: str, at: datetime = AT, markup: Decimal | None = None) -> int:
    return apply_price_changes(price_changes(providers=["acme"], names=names, markup=markup, at=at))


def test_rows_are_written_once_and_anew_where_a_price_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    price = ListedPrice(input_mtok=D(2), output_mtok=D(8), cache_read_mtok=D("0.5"), requests_kcount=D(5))
    listed(monkeypatch, one=price, two=price)
    assert sync("one", markup=D("0.25")) == 1
    (row,) = ModelPrice.objects.all()
    assert (row.model.name, row.starts_at, row.input, row.cached_input, row.output) == (
        "one",
        AT,
        2,
        D("0.5"),
        8,
    )
    assert (row.cache_write, row.per_call, row.markup, row.source[:12]) == (
        None,
        D("0.005"),
        D("0.25"),
        "genai-prices",
    )
    assert sync(at=AT + timedelta(days=1)) == 0

    listed(monkeypatch, one=ListedPrice(input_mtok=D(1), output_mtok=D(8)))
    later = AT + timedelta(days=2)
    (change,) = price_changes(providers=[], names=[], markup=None, at=later)
    assert "input 2 -> 1" in str(change)
    assert "cached_input 0.5 -> -" in str(change)
    assert sync(at=later) == 1
    assert [(p.input, p.markup) for p in ModelPrice.objects.order_by("starts_at")] == [
        (2, D("0.25")),
        (1, D("0.25")),
    ]
    assert sync(at=later + timedelta(days=1), markup=D(0)) == 1
    assert not LanguageModel.objects.filter(name="two").exists()


def test_prices_of_long_prompts_and_announced_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    tiered = TieredPrices(base=D(1), tiers=[Tier(start=200_000, price=D(2))])
    begun = ConditionalPrice(prices=ListedPrice(input_mtok=tiered, output_mtok=D(4)))
    announced = ConditionalPrice(
        StartDateConstraint(date(2027, 1, 1)), prices=ListedPrice(input_mtok=D(3), output_mtok=D(4))
    )
    listed(monkeypatch, one=[begun, announced])
    assert sync("one") == 3
    rows = ModelPrice.objects.order_by("starts_at", "above_input").values_list(
        "starts_at", "above_input", "input"
    )
    assert list(rows) == [(AT, 0, 1), (AT, 200_000, 2), (datetime(2027, 1, 1, tzinfo=UTC), 0, 3)]
    assert sync(at=AT + timedelta(days=1)) == 0
    assert sync(at=datetime(2027, 2, 1, tzinfo=UTC)) == 0


def test_the_owners_own_rows_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    listed(monkeypatch, one=ListedPrice(input_mtok=D(2), output_mtok=D(8)))
    assert sync("one") == 1
    model = LanguageModel.objects.get()
    ModelPrice.objects.create(
        model=model, starts_at=AT + timedelta(days=1), input=D(9), output=D(9), source="own"
    )
    listed(monkeypatch, one=ListedPrice(input_mtok=D(1), output_mtok=D(8)))
    assert sync(at=AT + timedelta(days=2)) == 0


def test_embeddings_and_models_that_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = ListedPrice(input_mtok=D(5), output_image_mtok=D(40))
    listed(
        monkeypatch,
        vectors=ListedPrice(input_mtok=D("0.02")),
        drawing=drawing,
        minutes=ListedPrice(audio_hours=D(1)),
    )
    assert sync("vectors", "drawing", "minutes") == 2
    assert dict(ModelPrice.objects.values_list("model__name", "output")) == {"vectors": 0, "drawing": 40}


def test_an_hour_in_a_cache_and_tokens_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    price = ListedPrice(
        input_mtok=D(3), output_mtok=D(15), cache_write_mtok=D("3.75"), cache_write_1h_mtok=D(6),
        input_image_mtok=D(8), output_image_mtok=D(32),
    )  # fmt: skip
    listed(monkeypatch, one=price)
    assert sync("one") == 1
    row = ModelPrice.objects.get()
    assert (row.cache_write, row.cache_write_1h) == (D("3.75"), 6)
    assert (row.image_input, row.image_output, row.output, row.per_picture) == (8, 32, 15, {})
    assert sync(at=AT + timedelta(days=1)) == 0


def test_the_command_shows_and_writes_what_the_package_lists() -> None:
    options: dict[str, Any] = {"provider": ["openai"], "model": ["gpt-4o"], "markup": "0.25"}
    shown = StringIO()
    with pytest.raises(SystemExit) as differs:
        call_command("model_prices", "diff", stdout=shown, **options)
    assert differs.value.code == 2
    assert "gpt-4o from" in shown.getvalue()
    assert not ModelPrice.objects.exists()
    call_command("model_prices", "apply", stdout=shown, **options)
    assert "1 rows written." in shown.getvalue()
    row = ModelPrice.objects.get()
    assert row.input > row.cached_input > 0  # type: ignore[operator]
    again = StringIO()
    call_command("model_prices", "diff", stdout=again)
    assert again.getvalue() == "Nothing differs.\n"
    for mistyped in ({"model": ["gpt-4o", "gpt-4oo"]}, {"provider": ["opnai"]}):
        with pytest.raises(CommandError, match="does not list (gpt-4oo|opnai)"):
            call_command("model_prices", "apply", **mistyped)
    assert ModelPrice.objects.count() == 1
    for wrong in ("much", "-1"):
        with pytest.raises(CommandError):
            call_command("model_prices", "diff", markup=wrong)
