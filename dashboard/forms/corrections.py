"""Shapes of the forms that correct usage; the rules are in metering/usage_corrections.py."""

from typing import Any

from django import forms

from metering.models import QUANTITY
from metering.usage_corrections import REASON_LENGTH


class FindForm(forms.Form):
    """Which event: its own id, or the id of the request that made it."""

    find = forms.CharField(
        max_length=80,
        label="Event or request",
        help_text="The event's id, or the request id (req_...) that the customer quotes.",
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )


class CorrectForm(forms.Form):
    """What the event should have been. A void has no quantity."""

    what = forms.ChoiceField(
        choices=(("quantity", "Another quantity"), ("void", "Nothing: it should not have been counted")),
        widget=forms.RadioSelect,
        initial="quantity",
        label="It should have been",
    )
    quantity = forms.DecimalField(
        **QUANTITY, min_value=0, required=False, help_text="In the meter's unit.", widget=forms.TextInput
    )
    reason = forms.CharField(max_length=REASON_LENGTH, help_text="Kept in the customer's audit log.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("what") == "quantity" and data.get("quantity") is None and "quantity" not in self.errors:
            self.add_error("quantity", "Say how much it should have been.")
        return data
