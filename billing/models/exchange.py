"""What one currency was worth in another on a day. For showing sums only: nothing is ever charged by these."""

from decimal import Decimal

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

_CODE = RegexValidator(r"^[A-Z]{3}\Z", "Three capital letters, as in USD.")


class ExchangeRate(models.Model):
    """`rate` units of `into` for one of `currency`, from the day `valid_from` on; rows are added, never edited.

    A rate that was wrong is put right by another row of the same day: the one added last holds.
    """

    currency = models.CharField(max_length=3, validators=[_CODE], help_text="Three letters: EUR.")
    into = models.CharField(
        max_length=3, validators=[_CODE], help_text="The currency that it is shown in: USD."
    )
    valid_from = models.DateField()
    rate = models.DecimalField(
        max_digits=20, decimal_places=10, validators=[MinValueValidator(Decimal("0.0000000001"))],
        help_text="What one of the first is worth in the second.",
    )  # fmt: skip
    source = models.CharField(
        max_length=120, help_text="Who says so: European Central Bank, reference rates."
    )

    class Meta:
        ordering = ["-valid_from", "-pk"]
        constraints = [
            models.CheckConstraint(condition=Q(rate__gt=0), name="exchange_rate_positive"),
            models.CheckConstraint(
                condition=~Q(currency=models.F("into")), name="exchange_rate_two_currencies"
            ),
        ]
        indexes = [models.Index(fields=["into", "currency", "-valid_from"], name="exchange_rate_day")]

    def __str__(self) -> str:
        return f"1 {self.currency} = {self.rate.normalize():f} {self.into} from {self.valid_from:%Y-%m-%d}"
