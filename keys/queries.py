"""Reads about keys."""

from dataclasses import dataclass

from accounts.models import Organization
from keys.models import ApiKey
from plans.models import Product


@dataclass(frozen=True, slots=True)
class ScopeChoice:
    """A scope that a key can be given: its stored form and what people read."""

    value: str
    label: str


def list_keys(organization: Organization, *, mode: str | None = None) -> list[ApiKey]:
    """The organization's keys, newest first, with who made them: one query."""
    keys = ApiKey.objects.for_organization(organization).select_related("created_by", "rotated_to")
    return list(keys.filter(mode=mode) if mode else keys)


def key_names(organization: Organization) -> dict[int, str]:
    """Names by id, for tables of usage."""
    return dict(ApiKey.objects.for_organization(organization).values_list("pk", "name"))


def scope_choices() -> list[ScopeChoice]:
    """Every product and route that a key can be narrowed to."""
    choices: list[ScopeChoice] = []
    for product in (
        Product.objects.filter(is_active=True, archived_at=None).prefetch_related("routes").order_by("name")
    ):
        choices.append(ScopeChoice(f"product:{product.slug}", f"All of {product.name}"))
        choices += [
            ScopeChoice(f"route:{route.public_id}", f"{product.name}: {route.name}")
            for route in product.routes.all()
            if route.is_active and route.archived_at is None
        ]
    return choices
