"""Shapes of the team's forms; the rules are in accounts/services.py."""

from typing import Any, cast

from django import forms

from accounts.models import Role


class RoleForm(forms.Form):
    """A role. Only owners are offered, and may send, the role of an owner."""

    role = forms.ChoiceField(choices=Role.choices, initial=Role.DEVELOPER)

    def __init__(self, *args: Any, may_own: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_own:
            role = cast(forms.ChoiceField, self.fields["role"])
            role.choices = [choice for choice in Role.choices if choice[0] != Role.OWNER]


class InvitationForm(RoleForm):
    """Whom to invite, and as what."""

    email = forms.EmailField(
        max_length=254, label="Email", widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    field_order = ("email", "role")
