"""Organizations of a person: make one, look at another."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.current import choose_organization, current_membership
from accounts.models import User
from core.clock import now
from core.errors import PortalError
from dashboard.form_limits import limit_posts
from dashboard.forms.organizations import OrganizationForm
from dashboard.onboarding_page import as_member, first_page
from keys.onboarding import open_organization


@never_cache
@require_http_methods(["GET", "POST"])
@limit_posts("5/h")
@login_required
def organization_create(request: HttpRequest) -> HttpResponse:
    """A further organization; the POST is answered by the page with its first key."""
    assert isinstance(request.user, User)  # noqa: S101 - login_required
    form = OrganizationForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            opened = open_organization(owner=request.user, name=data["name"], plan=data["plan"], at=now())
        except PortalError as refused:
            form.add_error(refused.field if refused.field in form.fields else None, refused.detail)
        else:
            return first_page(request, opened)
    membership = current_membership(request)
    if membership is not None:
        as_member(request, membership)
    context = {"form": form, "is_first": membership is None}
    return render(request, "dashboard/organization_create.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def organization_switch(request: HttpRequest) -> HttpResponse:
    choose_organization(request, public_id=request.POST.get("organization", ""))
    return redirect("dashboard:usage")
