"""Sign-up, and the page that leads to the first call."""

from typing import Any, cast

from allauth.account.views import SignupView as AllauthSignupView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import cached_property
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.models import Invitation
from core.clock import now
from core.errors import Forbidden, PortalError
from dashboard.access import MemberRequest, member_page
from dashboard.form_limits import limit_posts
from dashboard.onboarding_page import MAKERS, onboarding_page
from dashboard.opened_invitations import find_opened_invitation
from dashboard.plan_cards import PlanCard, plan_card
from keys.models import Mode
from keys.onboarding import FirstKeyIssued, issue_first_key
from plans.queries import find_offer, public_versions


class UnknownMode(PortalError):
    code, status, title = "unknown_mode", 400, "A key is for test or for live"


class SignupView(AllauthSignupView):
    """allauth's view with the plan of the pricing page, or an invitation."""

    @cached_property
    def invitation(self) -> Invitation | None:
        return find_opened_invitation(self.request)

    @cached_property
    def plan(self) -> PlanCard | None:
        """The plan that was picked, else the first of the pricing page."""
        picked = self.request.POST.get("plan") or self.request.GET.get("plan") or ""
        version = find_offer(picked) or next(iter(public_versions()), None)
        return plan_card(version) if version is not None else None

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"invitation": self.invitation}

    def get_initial(self) -> dict[str, Any]:
        return super().get_initial() | {"plan": self.plan.key if self.plan else ""}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        more = {"invitation": self.invitation, "chosen_plan": None if self.invitation else self.plan}
        return super().get_context_data(**kwargs) | more

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            response: HttpResponse = super().form_valid(form)
        except PortalError as refused:
            form.add_error(refused.field if refused.field in form.fields else None, refused.detail)
            return self.form_invalid(form)
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)


_signup = never_cache(SignupView.as_view())


@limit_posts("SIGN_UP_RATE")
def signup(request: HttpRequest) -> HttpResponse:
    """/accounts/signup/: the form; its POST is answered by the page with the first key."""
    return cast(HttpResponse, _signup(request))


@never_cache
@require_http_methods(["GET", "POST"])
@limit_posts("30/h")
@member_page()
def onboarding(request: MemberRequest) -> HttpResponse:
    """What comes next; its POST issues the first test or live key and shows it, this once."""
    if request.method == "GET":
        return onboarding_page(request)
    if request.membership.role not in MAKERS:
        raise Forbidden("Owners, admins and developers make keys. Ask one of them.")
    mode = request.POST.get("mode", "")
    if mode not in Mode.values:
        raise UnknownMode(field="mode")
    try:
        issued = issue_first_key(
            organization=request.organization, mode=Mode(mode), by=request.user,
            at=now(),
        )  # fmt: skip
    except FirstKeyIssued:
        return redirect("dashboard:key-list")
    return onboarding_page(request, issued=issued)
