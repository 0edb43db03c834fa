"""Shapes of the forms about documents and money; the rules are in billing."""

from datetime import datetime, time
from decimal import Decimal
from typing import Any, cast
from uuid import uuid4
from zoneinfo import ZoneInfo

from django import forms

from billing.models import CreditSource
from core.money import exponent, to_minor

REASON = {"max_length": 200, "help_text": "The customer reads it."}


class AccountForm(forms.Form):
    """To whom documents are made out."""

    legal_name = forms.CharField(
        max_length=200, required=False, label="Name", help_text="Empty: the organization's name."
    )
    address = forms.CharField(max_length=1000, required=False, widget=forms.Textarea(attrs={"rows": 4}))
    tax_id = forms.CharField(
        max_length=60, required=False, label="Tax number", help_text="VAT or similar, printed on invoices."
    )
    email = forms.EmailField(
        max_length=254,
        required=False,
        label="Send invoices to",
        help_text="Empty: owners and billing members.",
    )


class ConfirmedForm(forms.Form):
    """An act that cannot be undone: the document's number (the customer's name) is typed to confirm it."""

    confirm = forms.CharField(
        max_length=120, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )
    field_order = ("amount", "source", "reference", "reason", "expires_on", "confirm")

    def __init__(self, *args: Any, confirm: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = confirm
        self.fields["confirm"].label = f"Type {confirm} to confirm"

    def clean_confirm(self) -> str:
        text: str = self.cleaned_data["confirm"].strip()
        if text != self.expected:
            raise forms.ValidationError(f"That is not {self.expected}.")
        return text


class AmountForm(ConfirmedForm):
    """An amount in the currency's major unit, cleaned to minor units."""

    amount = forms.DecimalField(min_value=Decimal(0), max_digits=14)
    # Money that is given twice is gone: a form that is sent again by hand carries the number it was sent with before.
    once = forms.CharField(max_length=32, widget=forms.HiddenInput)

    def __init__(self, *args: Any, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.currency = currency
        self.initial.setdefault("once", uuid4().hex)
        field = cast(forms.DecimalField, self.fields["amount"])
        field.decimal_places, field.label = exponent(currency), f"Amount ({currency})"

    def clean_amount(self) -> int:
        """Minor units."""
        amount: Decimal = self.cleaned_data["amount"]
        if amount.as_tuple().exponent < -exponent(self.currency):  # type: ignore[operator]
            raise forms.ValidationError(f"{self.currency} has {exponent(self.currency)} decimals.")
        return to_minor(amount, self.currency)


class CreditNoteForm(AmountForm):
    """Part of a document's total that is given back."""

    reason = forms.CharField(**REASON)  # type: ignore[arg-type]


class GrantForm(AmountForm):
    """Prepaid credit for a customer."""

    source = forms.ChoiceField(choices=CreditSource.choices, label="It was")
    reason = forms.CharField(**REASON)  # type: ignore[arg-type]
    expires_on = forms.DateField(
        required=False,
        label="Holds until",
        help_text="The end of this day, UTC. Empty: for ever.",
        widget=forms.DateInput(attrs={"type": "date"}),
    )

    def clean_expires_on(self) -> datetime | None:
        """The end of that day."""
        day = self.cleaned_data["expires_on"]
        return datetime.combine(day, time.max, ZoneInfo("UTC")) if day else None


class PaidForm(ConfirmedForm):
    """A payment that arrived."""

    reference = forms.CharField(
        max_length=120, required=False, help_text="Of the bank, for example. The customer reads it."
    )


class ReasonForm(ConfirmedForm):
    """Why a document is taken back or an invoice given up."""

    reason = forms.CharField(**REASON)  # type: ignore[arg-type]
