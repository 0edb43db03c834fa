"""The addresses of OpenAI and Anthropic as a product of their own, with the meters that calls to language models count on."""

from django.db import transaction

from plans.models import Dialect, Measure, Meter, Product, Route, RouteCharge

FEATURE = "language_models"  # what plans have that may call them
SLUG = "v1"  # so that the addresses are those of the providers: /v1/chat/completions
TIMEOUT_MS = 600_000  # until the first byte, and between two of them; as the SDKs wait
REPLAY_SECONDS = (
    3_600  # SDKs retry within minutes; an answer is the customer's own and is not kept longer than it helps
)
BODY_LIMIT_BYTES = 32 * 1024 * 1024  # pictures stand in bodies
PATHS = {
    "/chat/completions": Dialect.CHAT_COMPLETIONS, "/completions": Dialect.COMPLETIONS, "/responses": Dialect.RESPONSES,
    "/embeddings": Dialect.EMBEDDINGS, "/images/generations": Dialect.IMAGES, "/messages": Dialect.MESSAGES,
    "/models": Dialect.MODELS, "/models/*": Dialect.MODELS,
}  # fmt: skip


@transaction.atomic
def install_language_models(
    *, upstream_url: str, credential: str = "", required_feature: str = ""
) -> Product:
    """Create what is missing of the product, its routes and its meters; what exists is left as it is. `upstream_url` (with its
    version) and `credential`, the value of `Authorization`, serve models without a server of their own. New routes that cost
    something need `required_feature`, so that no plan sells them before it has a price for their meters."""
    product, _ = Product.objects.get_or_create(
        slug=SLUG,
        defaults={
            "name": "Language models",
            "upstream_url": upstream_url,
            "credential_header": "Authorization" if credential else "",
            "credential": credential,
        },
    )
    cost = _meter("model_usage", "Model usage", unit="USD", decimals=9)
    tokens = _meter("tokens", "Tokens", unit="token", decimals=0)
    for position, (path, dialect) in enumerate(PATHS.items()):
        facts = {
            "name": dialect.label, "methods": ["GET"] if dialect == Dialect.MODELS else ["POST"], "position": position,
            "meter": cost, "dialect": dialect, "measure": Measure.COST, "timeout_ms": TIMEOUT_MS,
            "body_limit_bytes": BODY_LIMIT_BYTES, "replay_seconds": 0 if dialect == Dialect.MODELS else REPLAY_SECONDS,
            "required_feature": "" if dialect == Dialect.MODELS else required_feature,
        }  # fmt: skip
        route, is_new = Route.objects.get_or_create(product=product, path=path, defaults=facts)
        if is_new:
            RouteCharge.objects.create(route=route, meter=tokens, measure=Measure.TOKENS)
    return product


def _meter(slug: str, name: str, *, unit: str, decimals: int) -> Meter:
    meter, _ = Meter.objects.get_or_create(
        slug=slug, defaults={"name": name, "unit": unit, "decimals": decimals, "dimensions": ["model"]}
    )
    return meter
