"""The page "Alerts and caps": what is spent, the caps of both sides, and the largest bill that is possible."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from core.clock import now
from core.errors import NotFound, PortalError
from core.money import format_money, to_major
from dashboard.access import MemberRequest, member_page
from dashboard.alert_page import alerts_context
from dashboard.forms.caps import CapForm
from dashboard.largest_bill import largest_bill_rows
from metering.spending import SpendPosition, set_spend_cap, spend_position, spent_so_far_minor
from plans.caps import CAP_SETTERS, CapInForce, newest_caps
from plans.models import CapSide, SpendCap


@require_safe
@member_page()
def alerts(request: MemberRequest) -> HttpResponse:
    return render(request, "dashboard/alerts.html", caps_context(request))


@require_POST
@member_page(*CAP_SETTERS)
def cap_set(request: MemberRequest) -> HttpResponse:
    position = _position(request)
    spent = spent_so_far_minor(request.organization, position.period)
    form = CapForm(request.POST, currency=position.currency, spent_minor=spent)
    if form.is_valid():
        try:
            cap = set_spend_cap(
                organization=request.organization, side=CapSide.CUSTOMER, amount_minor=form.cleaned_data["amount"],
                by=request.user, at=now(),
            )  # fmt: skip
        except PortalError as refused:
            form.add_error("amount", refused.detail)
        else:
            amount = format_money(cap.amount_minor or 0, cap.currency)
            messages.success(request, f"Usage costs at most {amount} a period now, from the next call on.")
            return redirect("dashboard:alerts")
    return render(request, "dashboard/alerts.html", caps_context(request, form=form), status=422)


@require_POST
@member_page(*CAP_SETTERS)
def cap_remove(request: MemberRequest) -> HttpResponse:
    _position(request)  # without a plan there is nothing to remove
    set_spend_cap(
        organization=request.organization, side=CapSide.CUSTOMER, amount_minor=None, by=request.user, at=now()
    )
    messages.success(request, "Your spend cap is removed.")
    return redirect("dashboard:alerts")


def caps_context(request: MemberRequest, *, form: CapForm | None = None) -> dict[str, object]:
    """What the page shows, alerts included."""
    at = now()
    position = spend_position(request.organization, at=at)
    context: dict[str, object] = {"nav": "alerts", "position": position} | alerts_context(request, at=at)
    if position is None:
        return context
    caps = newest_caps(request.organization, at=at)
    mine = _amount(caps.get(CapSide.CUSTOMER), position.currency)
    providers = _amount(caps.get(CapSide.OWNER), position.currency)
    initial = {"amount": to_major(mine, position.currency) if mine is not None else None}
    spent = position.usage_minor
    return context | {
        "cap": position.cap,
        "my_cap": mine,
        "providers_cap": providers,
        "who": _who(position.cap),
        "form": form or CapForm(initial=initial, currency=position.currency, spent_minor=spent),
        "largest_rows": largest_bill_rows(position),
        "can_set": request.membership.role in CAP_SETTERS,
    }


def _position(request: MemberRequest) -> SpendPosition:
    position = spend_position(request.organization, at=now())
    if position is None:
        raise NotFound
    return position


def _amount(cap: SpendCap | None, currency: str) -> int | None:
    return cap.amount_minor if cap is not None and cap.currency == currency else None


def _who(cap: CapInForce | None) -> str:
    """Whose cap holds, in words; customers do not read the names of the provider's staff."""
    if cap is None:
        return ""
    if cap.side == CapSide.OWNER:
        return "set by the provider"
    return f"set by {cap.by.name or cap.by.email}" if cap.by else "set for you"
