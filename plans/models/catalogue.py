"""What is sold: products, their routes, and the meters that routes count on."""

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from core.crypto import EncryptedTextField
from core.ids import public_id
from plans.upstream_address import check_upstream_address

SLUG = RegexValidator(r"^[a-z0-9][a-z0-9_-]*$", "Lower case letters, digits, hyphen and underscore.")
FEATURE = RegexValidator(r"^[a-z][a-z0-9_]*$", "Lower case letters, digits and underscore.")
RESERVED_SLUGS = ("api",)  # paths of the gateway itself
LONGEST_REPLAY_SECONDS = 7 * 86_400
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def product_public_id() -> str:
    return public_id("prod")


def route_public_id() -> str:
    return public_id("route")


class Aggregation(models.TextChoices):
    SUM = "sum", "Sum"
    COUNT = "count", "Count"
    MAX = "max", "Maximum"
    LAST = "last", "Last"
    UNIQUE = "unique", "Unique count"
    TIME_WEIGHTED = "time_weighted", "Time-weighted sum"


class TimeUnit(models.TextChoices):
    """By what a time-weighted sum is divided: 3 GB for two hours are 6 GB-hours; over a month of 720 h, 0.0083 GB-months."""

    HOUR = "hour", "Hour"
    DAY = "day", "Day"
    MONTH = "month", "Usage month"


ADDITIVE = (Aggregation.SUM, Aggregation.COUNT)
CAPPABLE = (*ADDITIVE, Aggregation.MAX)  # what Redis counts; doors bound the additive ones


class Measure(models.TextChoices):
    """What one call counts as on a meter."""

    CALLS = "calls", "The call itself, at the route's units"
    TOKENS = "tokens", "All tokens"
    INPUT_TOKENS = "input_tokens", "Tokens of the prompt"
    OUTPUT_TOKENS = "output_tokens", "Tokens of the answer"
    PICTURES = "pictures", "Pictures that a model draws"
    COST = "cost", "What the model's prices make of its tokens"


class Dialect(models.TextChoices):
    """The wire format of a route of language models; without one a route is passed on unread."""

    CHAT_COMPLETIONS = "chat_completions", "OpenAI chat completions"
    COMPLETIONS = "completions", "OpenAI completions"
    RESPONSES = "responses", "OpenAI responses"
    EMBEDDINGS = "embeddings", "OpenAI embeddings"
    IMAGES = "images", "OpenAI images"
    MODELS = "models", "OpenAI list of models"
    MESSAGES = "messages", "Anthropic messages"


class OnLeaving(models.TextChoices):
    """What is billed when a client leaves in the middle of an answer (docs/language-models.md)."""

    DRAIN = "drain", "All of it: the answer is read to its end"
    DELIVERED = "delivered", "What was delivered until then"
    FREE = "free", "Nothing"


class WebSocketBilling(models.TextChoices):
    """What the units of a route of WebSockets are counted for (docs/websockets.md)."""

    CONNECTION = "connection", "Each connection, when the API accepts it"
    MESSAGES = "messages", "Each message, from the client and to it"
    CLIENT_MESSAGES = "client_messages", "Each message from the client"


class Meter(models.Model):
    """What is counted. `decimals` fixes the smallest unit in which Redis counts whole numbers.

    Usage may be reported in `base_unit`, of which `base_per_unit` make one unit (1 GB = 1,000,000,000 byte). `filters`
    names the property values that count (others are recorded with quantity 0, reason `filtered`); `dimensions` are the
    properties that totals keep apart, so that prices can differ by them.
    """

    slug = models.CharField(max_length=60, unique=True, validators=[SLUG])
    name = models.CharField(max_length=120)
    unit = models.CharField(max_length=30, help_text="Singular, as on an invoice: call, token, GB-hour.")
    aggregation = models.CharField(max_length=13, choices=Aggregation.choices, default=Aggregation.SUM)
    decimals = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(9)])
    base_unit = models.CharField(
        max_length=30, blank=True, help_text="A smaller unit that usage may be reported in, for example byte."
    )
    base_per_unit = models.DecimalField(
        max_digits=24,
        decimal_places=0,
        default=1,
        validators=[MinValueValidator(1)],
        help_text="How many base units make one unit: 1000000000 bytes are one GB.",
    )
    time_unit = models.CharField(
        max_length=5,
        choices=TimeUnit.choices,
        blank=True,
        help_text="Time-weighted sums only: what the quantity is multiplied by.",
    )
    value_property = models.CharField(
        max_length=60,
        blank=True,
        help_text="Unique counts only: the event property whose different values are counted.",
    )
    dimensions = ArrayField(
        models.CharField(max_length=60),
        default=list,
        blank=True,
        help_text="Event properties that prices may differ by: model, region, instance_type.",
    )
    filters = models.JSONField(
        default=dict,
        blank=True,
        help_text='Only these property values count, for example {"direction": ["egress"]}.',
    )
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(decimals__lte=9), name="meter_decimals"),
            models.CheckConstraint(condition=Q(base_per_unit__gte=1), name="meter_base_per_unit"),
        ]

    @property
    def is_additive(self) -> bool:
        """Whether totals of hours may be added up to the total of a period."""
        return self.aggregation in ADDITIVE

    def clean(self) -> None:
        """A time-weighted sum needs its time, a unique count its property."""
        if (self.aggregation == Aggregation.TIME_WEIGHTED) != bool(self.time_unit):
            raise ValidationError({"time_unit": "Time-weighted sums have one, other meters none."})
        if (self.aggregation == Aggregation.UNIQUE) != bool(self.value_property):
            raise ValidationError({"value_property": "Unique counts have one, other meters none."})

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """An API that is sold, reached at `/{slug}/...` on the gateway."""

    public_id = models.CharField(max_length=40, unique=True, default=product_public_id, editable=False)
    slug = models.CharField(max_length=60, unique=True, validators=[SLUG])
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    upstream_url = models.CharField(
        max_length=500,
        validators=[check_upstream_address],
        help_text="Base address of the API, for example http://geo.internal:8080. Several servers: below.",
    )
    credential_header = models.CharField(
        max_length=60,
        blank=True,
        help_text="Header that carries your credential to the upstream, for example Authorization.",
    )
    credential = EncryptedTextField(blank=True, help_text="Its value. Stored encrypted, never shown again.")
    connect_timeout_ms = models.PositiveIntegerField(default=2_000)
    retry_calls = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Several servers only: calls that did not reach one, and GET, HEAD and OPTIONS that failed there, go to another.",
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.slug in RESERVED_SLUGS:
            raise ValidationError({"slug": "The gateway has addresses of its own below this name."})
        if self.connect_timeout_ms == 0:
            raise ValidationError(
                {"connect_timeout_ms": "At least 1: with 0 no connection would come about."}
            )


class Route(models.Model):
    """A path of a product and what a call to it counts as. The first active route that fits, by position, is taken.

    `path`: literal segments, `{name}` for one segment, a last `*` for the rest.
    """

    public_id = models.CharField(max_length=40, unique=True, default=route_public_id, editable=False)
    product = models.ForeignKey(Product, models.PROTECT, related_name="routes")
    name = models.CharField(max_length=120)
    methods = ArrayField(
        models.CharField(max_length=7),
        help_text="Methods in capitals; HEAD comes with GET.",
    )
    path = models.CharField(max_length=300, validators=[RegexValidator(r"^/", "Starts with a slash.")])
    position = models.PositiveIntegerField(default=0)
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="routes")
    units = models.DecimalField(
        max_digits=24,
        decimal_places=9,
        default=1,
        validators=[MinValueValidator(0)],
        help_text="Counted per billed call.",
    )
    bill_client_errors = models.BooleanField(default=False, help_text="Also bill answers of 400 to 499.")
    required_feature = models.CharField(
        max_length=60,
        blank=True,
        validators=[FEATURE],
        help_text="Only plans with this feature may call, for example all_endpoints.",
    )
    dialect = models.CharField(
        max_length=16,
        blank=True,
        choices=Dialect.choices,
        help_text="Language models only: how bodies are read. Empty: they are passed on unread.",
    )
    measure = models.CharField(
        max_length=13,
        default=Measure.CALLS,
        choices=Measure.choices,
        help_text="What a call counts as on the meter.",
    )
    on_leaving = models.CharField(
        max_length=9,
        default=OnLeaving.DRAIN,
        choices=OnLeaving.choices,
        help_text="Language models only: what is billed when a client leaves in the middle of an answer.",
    )
    websocket = models.CharField(
        max_length=15,
        blank=True,
        choices=WebSocketBilling.choices,
        default="",
        db_default="",
        verbose_name="WebSocket",
        help_text="The route takes WebSockets and nothing else; its units are counted for this. Empty: plain calls.",
    )
    timeout_ms = models.PositiveIntegerField(
        default=30_000, help_text="Longest wait for the upstream's next bytes."
    )
    body_limit_bytes = models.PositiveBigIntegerField(default=10 * 1024 * 1024)
    replay_seconds = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(LONGEST_REPLAY_SECONDS)],
        help_text="Answers to requests with an Idempotency-Key are kept so long for their retries, which are free. 0: not at all.",
    )
    is_active = models.BooleanField(default=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["product", "position", "pk"]
        constraints = [models.CheckConstraint(condition=Q(units__gte=0), name="route_units")]

    def __str__(self) -> str:
        return f"{self.product.slug}{self.path}"

    def clean(self) -> None:
        """Units have to be whole smallest units of the meter: Redis counts nothing else. A call is no reading."""
        self._clean_address()
        if self.meter_id and not self.meter.is_additive:
            raise ValidationError(
                {"meter": f"Calls cannot count on {self.meter}: its readings are reported."}
            )
        if self.meter_id and self.meter.aggregation == Aggregation.COUNT and self.units != 1:
            raise ValidationError({"units": f"{self.meter} counts calls: one each."})
        if self.websocket:
            self._clean_websocket()
        if not self.dialect and self.measure != Measure.CALLS:
            raise ValidationError({"measure": "Only routes with a dialect know tokens."})
        if self.meter_id and self.units is not None:
            scaled = self.units.scaleb(self.meter.decimals)
            if scaled != scaled.to_integral_value():
                raise ValidationError({"units": f"{self.meter} counts {self.meter.decimals} decimals."})

    def _clean_address(self) -> None:
        """What no call could ever fit, or wait for, is said before it is on sale."""
        if unknown := [method for method in self.methods or () if method not in METHODS]:
            raise ValidationError({"methods": f"{', '.join(unknown)}: use {', '.join(METHODS)}."})
        if any(segment in (".", "..") for segment in (self.path or "").split("/")):
            raise ValidationError({"path": "Calls with dot segments are refused."})
        if self.timeout_ms == 0:
            raise ValidationError({"timeout_ms": "At least 1: with 0 every call would be too slow."})

    def _clean_websocket(self) -> None:
        """A handshake is a GET; a row of a connection counts many messages, which a meter of calls would take for one."""
        if "GET" not in self.methods:
            raise ValidationError({"methods": "A WebSocket is opened with GET."})
        if self.dialect:
            raise ValidationError({"websocket": "A route of language models takes plain calls."})
        is_by_message = self.websocket != WebSocketBilling.CONNECTION
        if is_by_message and self.meter_id and self.meter.aggregation == Aggregation.COUNT:
            raise ValidationError({"meter": "Messages are added up: they need a meter of sums."})
