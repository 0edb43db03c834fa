"""Shape of a further organization; the act is keys.onboarding.open_organization."""

from typing import Any, cast

from django import forms

from plans.queries import public_versions


class OrganizationForm(forms.Form):
    """Name and plan."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "organization"}))
    plan = forms.ChoiceField(widget=forms.RadioSelect)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plan = cast(forms.ChoiceField, self.fields["plan"])
        plan.choices = [(version.plan.slug, version.plan.name) for version in public_versions()]
        plan.initial = next((slug for slug, _ in plan.choices), None)

    def clean_name(self) -> str:
        name = " ".join(self.cleaned_data["name"].split())
        if not name:
            raise forms.ValidationError("Give your organization a name.")
        return name
