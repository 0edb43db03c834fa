"""Shape of the sign-up form; the act is keys.onboarding.sign_up."""

from typing import Any

from allauth.account.forms import SignupForm as AllauthSignupForm
from django import forms
from django.contrib.auth import password_validation
from django.http import HttpRequest

from accounts.models import Invitation, User
from accounts.services import join_as_new_person
from core.clock import now
from dashboard.onboarding_page import keep_opened
from keys.onboarding import sign_up
from plans.queries import find_offer


class SignupForm(AllauthSignupForm):
    """E-mail, password, organization and the plan of the pricing page; by invitation only a password."""

    organization_name = forms.CharField(
        max_length=120, label="Organization", widget=forms.TextInput(attrs={"autocomplete": "organization"}),
        help_text="Your company or project. You can invite others later.",
    )  # fmt: skip
    plan = forms.CharField(widget=forms.HiddenInput, max_length=80)
    field_order = ("email", "password1", "organization_name", "plan")

    def __init__(self, *args: Any, invitation: Invitation | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.invitation = invitation
        hints = password_validation.password_validators_help_texts()
        self.fields["password1"].help_text = " ".join(hints[1:2])
        if invitation is not None:
            del self.fields["organization_name"], self.fields["plan"]
            self.fields["invitation"] = forms.CharField(
                widget=forms.HiddenInput, initial=invitation.public_id
            )
            # Django takes a disabled field from here and not from what was sent: the address stays the invited one.
            self.fields["email"].disabled, self.initial["email"] = True, invitation.email

    def clean_organization_name(self) -> str:
        name: str = " ".join(self.cleaned_data["organization_name"].split())
        if not name:
            raise forms.ValidationError("Give your organization a name.")
        return name

    def clean_plan(self) -> str:
        key: str = self.cleaned_data["plan"]
        if find_offer(key) is None:
            raise forms.ValidationError("This plan is not available. Choose one on the pricing page.")
        return key

    def try_save(self, request: HttpRequest) -> tuple[User | None, Any]:
        """One act makes everything; rules that say no are answered by the view."""
        data = self.cleaned_data
        if self.invitation is not None:
            return join_as_new_person(invitation=self.invitation, password=data["password1"], at=now()), None
        opened = sign_up(
            email=data["email"],
            password=data["password1"],
            organization_name=data["organization_name"],
            plan=data["plan"],
            at=now(),
        )
        keep_opened(request, opened)
        return opened.user, None
