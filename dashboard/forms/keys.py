"""Shapes of the key forms; the rules are in keys/services.py."""

from datetime import UTC, datetime, time, timedelta
from typing import Any, cast

from django import forms

from keys.models import Mode
from keys.queries import scope_choices

GRACE = (("0", "At once"), ("1", "1 hour"), ("24", "24 hours"), ("168", "7 days"))


class KeyForm(forms.Form):
    """A new key: what it is for, where it works, and until when."""

    name = forms.CharField(
        max_length=80, help_text="What uses this key, for example production or batch-jobs."
    )
    mode = forms.ChoiceField(
        choices=Mode.choices, widget=forms.RadioSelect, initial=Mode.TEST, label="Environment",
        help_text="Test keys reach the same endpoints at the Free plan's limits and are never billed.",
    )  # fmt: skip
    scopes = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Nothing chosen: everything your plan allows.",
    )
    expires_on = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The key ends when this day begins, UTC.",
    )
    calls_per_minute = forms.IntegerField(
        required=False, min_value=1, max_value=1_000_000, label="Own rate limit",
        help_text="Calls a minute for this key, below the limit of your plan.",
    )  # fmt: skip

    def __init__(self, *args: Any, live_allowed: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scopes = cast(forms.MultipleChoiceField, self.fields["scopes"])
        scopes.choices = [(choice.value, choice.label) for choice in scope_choices()]
        if not live_allowed:
            mode = cast(forms.ChoiceField, self.fields["mode"])
            mode.choices = [(Mode.TEST.value, Mode.TEST.label)]

    def clean_expires_on(self) -> datetime | None:
        day = self.cleaned_data.get("expires_on")
        return datetime.combine(day, time.min, UTC) if day else None


class RotateForm(forms.Form):
    """How long the old key goes on working beside the new one."""

    grace = forms.ChoiceField(choices=GRACE, initial="24", label="The old key works for another")

    def clean_grace(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["grace"]))
