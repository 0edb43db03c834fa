"""Servers that calls go to: several of a product or of a language model share its calls and stand in for each other."""

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from plans.models.catalogue import Product
from plans.upstream_address import check_upstream_address


class ServerOfPool(models.Model):
    """What any server of several has: its share of the calls, and how it is asked whether it is well (docs/upstreams.md)."""

    position = models.PositiveIntegerField(
        default=0,
        help_text="Servers of the lowest position share the calls; the next position is asked where too few of them are well.",
    )
    weight = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Its share among servers of the same position: 3 gets three times the calls of 1.",
    )
    check_path = models.CharField(
        max_length=200,
        blank=True,
        default="",
        db_default="",
        help_text="Asked with GET all the time, for example /healthz. Empty: never.",
    )
    check_seconds = models.PositiveSmallIntegerField(
        default=10,
        db_default=10,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
        help_text="How often each worker asks.",
    )
    check_status = models.PositiveSmallIntegerField(
        default=200,
        db_default=200,
        validators=[MinValueValidator(100), MaxValueValidator(599)],
        help_text="The answer of a server that is well.",
    )
    check_with_credential = models.BooleanField(
        default=False, db_default=False, help_text="Send your credential with it."
    )
    is_active = models.BooleanField(default=True)

    class Meta:
        abstract = True

    def clean(self) -> None:
        """The path is one of the server itself."""
        if self.check_path and (not self.check_path.startswith("/") or not _is_plain(self.check_path)):
            raise ValidationError(
                {"check_path": "Starts with a slash, in plain characters, without spaces or #."}
            )


class UpstreamServer(ServerOfPool):
    """A server of a product. While it has any, they are asked in the place of the product's own address."""

    product = models.ForeignKey(Product, models.CASCADE, related_name="servers")
    base_url = models.CharField(
        max_length=500,
        validators=[check_upstream_address],
        help_text="As the product's own: http://geo-2.internal:8080. It gets the product's credential.",
    )

    class Meta:
        ordering = ["position", "pk"]
        constraints = [models.UniqueConstraint("product", "base_url", name="upstream_server_address")]

    def __str__(self) -> str:
        return f"{self.product.slug} at {self.base_url}"


def _is_plain(path: str) -> bool:
    return path.isascii() and path.isprintable() and not any(c in path for c in " #\\")
