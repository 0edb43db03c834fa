"""Language models as they are sold: what callers name, where their calls go, and dated prices of tokens."""

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from core.crypto import EncryptedTextField
from plans.models.catalogue import Measure, Meter, Route
from plans.models.upstreams import ServerOfPool
from plans.token_prices import KINDS, TokenPrices, check_picture_prices
from plans.upstream_address import check_upstream_address


class RouteCharge(models.Model):
    """One more meter that calls to a route count on, beside the route's own."""

    route = models.ForeignKey(Route, models.CASCADE, related_name="charges")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    measure = models.CharField(max_length=13, choices=Measure.choices, default=Measure.TOKENS)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint("route", "meter", name="route_charge_meter")]

    def __str__(self) -> str:
        return f"{self.meter}: {self.get_measure_display()}"

    def clean(self) -> None:
        """A meter twice would be counted twice; readings are reported, never counted by calls."""
        if self.meter_id and not self.meter.is_additive:
            raise ValidationError(
                {"meter": f"Calls cannot count on {self.meter}: its readings are reported."}
            )
        if self.meter_id and self.route_id and self.meter_id == self.route.meter_id:
            raise ValidationError({"meter": "The route counts on this meter already."})


class LanguageModel(models.Model):
    """A model that callers may name. `max_output_tokens` is reserved where a caller sets no limit of its own."""

    name = models.CharField(max_length=120, unique=True, help_text="What callers send as `model`: gpt-4o.")
    max_output_tokens = models.PositiveIntegerField(default=4096, validators=[MinValueValidator(1)])
    bytes_per_token = models.PositiveSmallIntegerField(
        default=2,
        validators=[MinValueValidator(1)],
        help_text="A prompt of so many bytes is reserved as one token; 1 is never too little.",
    )
    is_active = models.BooleanField(default=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class LanguageUpstream(ServerOfPool):
    """A server that answers for a model. Without one, calls go to the environment's server or to their product's."""

    model = models.ForeignKey(LanguageModel, models.CASCADE, related_name="upstreams")
    base_url = models.CharField(
        max_length=500,
        validators=[check_upstream_address],
        help_text="With its version: https://api.openai.com/v1, http://vllm:8000/v1.",
    )
    credential_header = models.CharField(max_length=60, blank=True, help_text="Authorization, x-api-key.")
    credential = EncryptedTextField(blank=True, help_text="Its value. Stored encrypted, never shown again.")
    upstream_name = models.CharField(
        max_length=120, blank=True, help_text="What the server calls the model; empty: the same."
    )

    class Meta:
        ordering = ["position", "pk"]

    def __str__(self) -> str:
        return f"{self.model} at {self.base_url}"


def _per_million(
    *, text: str = "", is_needed: bool = False
) -> "models.DecimalField[Decimal | None, Decimal | None]":
    return models.DecimalField(
        max_digits=24, decimal_places=12, null=not is_needed, blank=not is_needed, validators=[MinValueValidator(0)],
        help_text=text,
    )  # fmt: skip


class ModelPrice(models.Model):
    """Prices of a model's tokens from a moment on, in major units per million. Added, never edited, so that a past call keeps
    its cost; what is not given costs what its family does."""

    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="prices")
    starts_at = models.DateTimeField()
    above_input = models.PositiveIntegerField(
        default=0, help_text="Only for calls with more input tokens than this (long prompts)."
    )
    currency = models.CharField(max_length=3, default="USD")
    input = _per_million(is_needed=True)
    cached_input = _per_million(text="Empty: as input.")
    cache_write = _per_million(text="Empty: as input.")
    cache_write_1h = _per_million(text="Kept for an hour (Anthropic). Empty: as cache write.")
    audio_input = _per_million(text="Empty: as input.")
    image_input = _per_million(text="Empty: as input.")
    output = _per_million(is_needed=True)
    reasoning = _per_million(text="Empty: as output.")
    audio_output = _per_million(text="Empty: as output.")
    image_output = _per_million(text="Empty: as output.")
    per_picture = models.JSONField(
        default=dict, blank=True,
        help_text='Of one drawn picture, by quality and size: {"hd/1024x1792": "0.12", "standard/*": "0.04", "*/*": "0.12"}. In quotes.',
    )  # fmt: skip
    per_call = models.DecimalField(
        max_digits=24, decimal_places=12, default=0, validators=[MinValueValidator(0)]
    )
    markup = models.DecimalField(
        max_digits=9,
        decimal_places=6,
        default=0,
        validators=[MinValueValidator(0)],
        help_text="0.25 is 25 % on top.",
    )
    source = models.CharField(max_length=120, blank=True, help_text="Where the prices are from.")

    class Meta:
        ordering = ["model", "-starts_at", "above_input"]
        constraints = [
            models.UniqueConstraint("model", "starts_at", "above_input", name="model_price_start"),
            models.CheckConstraint(
                condition=Q(input__gte=0, output__gte=0, markup__gte=0), name="model_price_positive"
            ),
        ]
        indexes = [models.Index(F("model"), F("starts_at").desc(), name="model_price_newest")]

    def __str__(self) -> str:
        return f"{self.model} from {self.starts_at:%Y-%m-%d}"

    def clean(self) -> None:
        """Prices of pictures are decimal texts under a quality and a size."""
        try:
            check_picture_prices(self.per_picture)
        except ValueError as error:
            raise ValidationError({"per_picture": str(error)}) from error

    def as_prices(self) -> TokenPrices:
        """The row as the pure rules take it."""
        from_row = {kind: getattr(self, kind) for kind in KINDS}
        return TokenPrices(
            row_id=self.pk,
            starts_at=self.starts_at,
            currency=self.currency,
            per_million={kind: price for kind, price in from_row.items() if price is not None},
            per_call=self.per_call,
            markup=self.markup,
            above_input=self.above_input,
            per_picture={name: Decimal(price) for name, price in self.per_picture.items()},
        )
