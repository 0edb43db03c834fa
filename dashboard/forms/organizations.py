"""Shape of a further organization; the act is keys.onboarding.open_organization."""

from typing import Any, cast

from django import forms

from dashboard.plan_cards import PlanCard, plan_card
from plans.queries import public_versions


class OrganizationForm(forms.Form):
    """Name and plan."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "organization"}))
    plan = forms.ChoiceField(widget=forms.RadioSelect)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plan = cast(forms.ChoiceField, self.fields["plan"])
        plan.choices = [(card.key, _label(card)) for card in map(plan_card, public_versions())]
        plan.initial = next((key for key, _ in plan.choices), None)

    def clean_name(self) -> str:
        name = " ".join(self.cleaned_data["name"].split())
        if not name:
            raise forms.ValidationError("Give your organization a name.")
        return name


def _label(card: PlanCard) -> str:
    trial = f", {card.trial_days} days free" if card.trial_days else ""
    return f"{card.name}: {card.fee} a {card.interval}{trial}"
