from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from plans.language_catalogue import FEATURE, install_language_models


class Command(BaseCommand):
    help = (
        "Create the product, routes and meters of language models (/v1/chat/completions, /v1/messages, ...) where they are "
        "missing. Models and their prices come from `manage.py model_prices apply --model ...`."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--upstream",
            default=settings.UPSTREAM_OPENAI_BASE_URL or "https://api.openai.com/v1",
            help="base address for models without a server of their own",
        )

    def handle(self, *_: Any, upstream: str, **__: Any) -> None:
        product = install_language_models(upstream_url=upstream, required_feature=FEATURE)
        for route in product.routes.order_by("position"):
            self.stdout.write(f"{', '.join(route.methods)} /{product.slug}{route.path}: {route.name}")
        if product.routes.filter(required_feature=FEATURE).exists():
            self.stdout.write(
                f"Plans with the feature {FEATURE} may call them. Give such a plan prices for the meters, too."
            )
