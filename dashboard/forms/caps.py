"""Shape of the spend cap's form; the rules are in plans/caps.py."""

from decimal import Decimal
from typing import Any, cast

from django import forms

from core.money import exponent, to_minor
from plans.cap_table import LARGEST_CAP_MINOR


class CapForm(forms.Form):
    """An amount in the currency's major unit. `stops_now` is asked for where the cap is already spent."""

    amount = forms.DecimalField(
        min_value=Decimal(0), max_digits=14, label="Never more than",
        help_text="For usage in one period, before tax. The plan's fee comes on top.",
    )  # fmt: skip
    stops_now = forms.BooleanField(
        required=False,
        label="Refuse calls at once",
        help_text="So much has been spent in this period already.",
    )

    def __init__(self, *args: Any, currency: str, spent_minor: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.currency, self.spent_minor = currency, spent_minor
        amount = cast(forms.DecimalField, self.fields["amount"])
        amount.label = f"Never more than ({currency})"
        amount.decimal_places = exponent(currency)

    def clean_amount(self) -> int:
        """Minor units."""
        amount: Decimal = self.cleaned_data["amount"]
        if amount.as_tuple().exponent < -exponent(self.currency):  # type: ignore[operator]
            raise forms.ValidationError(f"{self.currency} has {exponent(self.currency)} decimals.")
        minor = to_minor(amount, self.currency)
        if minor > LARGEST_CAP_MINOR:
            raise forms.ValidationError("This is more than can be counted.")
        return minor

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.asks_to_stop and not data.get("stops_now"):
            self.add_error(
                "stops_now", "This cap is spent already. Say that calls are to be refused at once."
            )
        return data

    @property
    def asks_to_stop(self) -> bool:
        """Whether the amount given is no more than what is spent: nothing that costs passes then."""
        amount = getattr(self, "cleaned_data", {}).get("amount")
        return amount is not None and 0 < self.spent_minor >= amount
