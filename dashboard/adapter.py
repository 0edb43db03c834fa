"""Where allauth meets Farebox: links, mails, and what follows sign-up and confirmation."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.mail import queue_message
from dashboard.onboarding_page import find_opened, first_page
from plans.queries import public_plans


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """There has to be a plan to choose, unless an invitation was opened."""
        return "invitation" in request.GET or "invitation" in request.POST or public_plans().exists()

    def post_login(self, request: HttpRequest, user: AbstractBaseUser, **kwargs: Any) -> HttpResponse:
        """Sign-up is answered by the page with the first key: its clear text exists in this request only."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        opened = find_opened(request)
        if opened is None:
            return response
        list(messages.get_messages(request))  # "we sent a link": the page says so itself
        return first_page(request, opened)

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """The owner's staff belong to no organization: their overview, not the question for a new one."""
        user = request.user
        if user.is_authenticated and user.is_staff and not user.memberships.exists():
            return reverse("dashboard:staff-overview")
        url: str = super().get_login_redirect_url(request)
        return url

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """allauth's mails by our road: after commit, by a worker."""
        words = {
            "request": self.request,
            "email": email,
            "brand_name": settings.BRAND_NAME,
            "portal_url": settings.PORTAL_URL,
        }
        message: EmailMessage = self.render_mail(template_prefix, email, words | context)
        queue_message(message)

    def send_confirmation_mail(self, request: HttpRequest, emailconfirmation: Any, signup: bool) -> None:
        """Whoever has confirmed this address is told that it was used again, instead of being asked to confirm it."""
        address: EmailAddress = emailconfirmation.email_address
        if address.can_set_verified():
            super().send_confirmation_mail(request, emailconfirmation, signup)
        else:
            self.send_account_already_exists_mail(address.email)

    def send_account_already_exists_mail(self, email: str) -> None:
        context = {
            "signup_url": _portal("account_signup"),
            "password_reset_url": _portal("account_reset_password"),
        }
        self.send_mail("account/email/account_already_exists", email, context)

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        """From PORTAL_URL: the Host header belongs to the client, and a mail must not send people elsewhere."""
        return _portal("account_confirm_email", emailconfirmation.key)

    def get_reset_password_from_key_url(self, key: str) -> str:
        portal: str = settings.PORTAL_URL
        address = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})
        return portal + address.replace("UID-KEY", key)

    def get_email_verification_redirect_url(self, email_address: EmailAddress) -> str:
        """Confirmed: on to the live key (signed in elsewhere: after signing in here)."""
        onboarding = reverse("dashboard:onboarding")
        if self.request.user.is_authenticated:
            return onboarding
        return f"{reverse('account_login')}?next={onboarding}"


def _portal(name: str, *args: str) -> str:
    portal: str = settings.PORTAL_URL
    return portal + reverse(name, args=args)
