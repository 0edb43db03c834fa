"""The provider's side of spend caps, on the admin's page of an organization."""

from typing import cast

from django.contrib import admin, messages
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from accounts.models import Organization, User
from core.clock import now
from core.errors import PortalError
from core.money import to_major
from dashboard.forms.caps import CapForm
from metering.spending import SpendPosition, set_spend_cap, spend_position, spent_so_far_minor
from plans.caps import cap_in_force, newest_caps
from plans.models import CapSide, Period


def cap_words(organization: Organization) -> str:
    """The cap that holds, and the link to the provider's own."""
    try:
        cap = cap_in_force(organization, at=now())
    except Period.DoesNotExist:
        return "no plan, no cap"
    words = f"{cap}, {cap.side.label.lower()}" if cap else "none"
    url = reverse("admin:accounts_organization_cap", args=[organization.pk])
    return format_html('{} · <a href="{}">provider’s cap</a>', words, url)


def cap_view(request: HttpRequest, organization_id: int) -> HttpResponse:
    """Set, change or remove the provider's cap of one customer."""
    organization = Organization.objects.filter(pk=organization_id).first()
    position = spend_position(organization, at=now()) if organization else None
    if organization is None or position is None:
        raise Http404
    spent = spent_so_far_minor(organization, position.period)
    is_removal = "remove" in request.POST and "sure" in request.POST
    if request.method == "POST":
        form = CapForm(request.POST, currency=position.currency, spent_minor=spent)
        if (is_removal or form.is_valid()) and _apply(request, organization, form, is_removal=is_removal):
            return HttpResponseRedirect(reverse("admin:accounts_organization_change", args=[organization.pk]))
    else:
        form = CapForm(
            initial={"amount": _own(organization, position)}, currency=position.currency, spent_minor=spent
        )
    context = {
        **admin.site.each_context(request),
        "title": f"Spend cap of {organization}",
        "organization": organization,
        "opts": Organization._meta,
        "position": position,
        "form": form,
        "media": Media(css={"all": ["admin/css/forms.css"]}),
        "has_own": _own(organization, position) is not None,
    }
    return TemplateResponse(
        request, "admin/organization_cap.html", context, status=422 if form.errors else 200
    )


def _apply(request: HttpRequest, organization: Organization, form: CapForm, *, is_removal: bool) -> bool:
    amount = None if is_removal else form.cleaned_data["amount"]
    try:
        set_spend_cap(
            organization=organization, side=CapSide.OWNER, amount_minor=amount, by=cast(User, request.user), at=now()
        )  # fmt: skip
    except PortalError as refused:
        form.add_error("amount", refused.detail)
        return False
    messages.success(request, "The cap is removed." if is_removal else "The cap holds from the next call on.")
    return True


def _own(organization: Organization, position: SpendPosition) -> object:
    cap = newest_caps(organization, at=now()).get(CapSide.OWNER)
    if cap is None or cap.amount_minor is None or cap.currency != position.currency:
        return None
    return to_major(cap.amount_minor, cap.currency)
