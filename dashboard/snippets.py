"""The first call in curl, Python and JavaScript, holding the reader's own key and a real route."""

from typing import NamedTuple
from urllib.parse import urlencode

from django.conf import settings

from plans.models import Product, Route

PLACEHOLDER = "YOUR_KEY"
# Examples for the sample product; other products show the route's own path.
SAMPLE_QUERIES = {"/v1/search": {"q": "Lisbon"}, "/v1/reverse": {"lat": "48.8566", "lon": "2.3522"}}


class Snippet(NamedTuple):
    """One language of a quick start."""

    slug: str
    name: str
    code: str


def first_call_url() -> str:
    """The address of the first route that every plan may call, or of the gateway while nothing is sold yet."""
    route = (
        Route.objects.filter(
            is_active=True,
            archived_at=None,
            product__is_active=True,
            product__archived_at=None,
            methods__contains=["GET"],
            websocket="",
        )
        .exclude(path__contains="{")
        .select_related("product")
        .order_by("required_feature", "product__created_at", "position")
        .first()
    )
    return _address(route) if route else settings.GATEWAY_URL + "/"


def first_call_snippets(key: str = PLACEHOLDER) -> list[Snippet]:
    """The same call in three languages."""
    url = first_call_url()
    return [
        Snippet("curl", "curl", f'curl -H "Authorization: Bearer {key}" \\\n  "{url}"'),
        Snippet("python", "Python", _python(url, key)),
        Snippet("javascript", "JavaScript", _javascript(url, key)),
    ]


def has_products() -> bool:
    return Product.objects.filter(is_active=True, archived_at=None).exists()


def _address(route: Route) -> str:
    query = SAMPLE_QUERIES.get(route.path, {})
    path = route.path.rstrip("*")
    return f"{settings.GATEWAY_URL}/{route.product.slug}{path}" + (f"?{urlencode(query)}" if query else "")


def _python(url: str, key: str) -> str:
    return (
        "import json\nimport urllib.request\n\n"
        f'request = urllib.request.Request(\n    "{url}",\n    headers={{"Authorization": "Bearer {key}"}},\n)\n'
        "with urllib.request.urlopen(request) as response:\n    print(json.load(response))"
    )


def _javascript(url: str, key: str) -> str:
    return (
        f'const response = await fetch("{url}", {{\n  headers: {{ Authorization: "Bearer {key}" }},\n}});\n'
        "console.log(response.status, await response.json());"
    )
