"""Alerts of the page "Alerts and caps": make, change, remove, test, lift, and who is told how."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from core.clock import now
from core.errors import PortalError
from dashboard.access import MemberRequest, member_page
from dashboard.alert_page import alerts_context
from dashboard.form_limits import limit_posts
from dashboard.forms.alerts import AlertForm, WebhookForm, initial_of
from dashboard.views.caps import caps_context
from metering.alerts.delivery import deliver
from metering.alerts.queries import alert_history, test_history
from metering.alerts.services import (
    EDITORS,
    change_alert,
    choose_mail,
    create_alert,
    lift_restriction,
    remove_alert,
    send_test,
    set_webhook,
)
from metering.alerts.words import name_of
from metering.models import Alert, AlertAction, AlertDelivery, AlertFiring, AlertKind, Channel
from plans.models import Meter
from plans.queries import find_period

HISTORY = 100


@require_safe
@member_page()
def history(request: MemberRequest) -> HttpResponse:
    context = {
        "nav": "alerts",
        "history": alert_history(request.organization, limit=HISTORY),
        "tests": test_history(request.organization, limit=HISTORY),
    }
    return render(request, "dashboard/alert_history.html", context)


@require_http_methods(["GET", "POST"])
@limit_posts("60/h")
@member_page(*EDITORS)
def create(request: MemberRequest) -> HttpResponse:
    initial = {"kind": AlertKind.INCLUDED, "action": AlertAction.NOTIFY, "by_mail": True, "enabled": True}
    form = _form(request, initial)
    if form.is_valid():
        try:
            made = create_alert(
                organization=request.organization, terms=form.terms(), by=request.user, at=now()
            )
        except PortalError as refused:
            form.add_error(None, refused.detail)
        else:
            messages.success(request, f"The alert {name_of(made)} is on.")
            return redirect("dashboard:alerts")
    return _edit_page(request, form, None)


@require_http_methods(["GET", "POST"])
@limit_posts("60/h")
@member_page(*EDITORS)
def edit(request: MemberRequest, public_id: str) -> HttpResponse:
    alert = _alert(request, public_id)
    form = _form(request, initial_of(alert), alert)
    if form.is_valid():
        try:
            alert = change_alert(alert=alert, terms=form.terms(), by=request.user, at=now())
        except PortalError as refused:
            form.add_error(None, refused.detail)
        else:
            messages.success(request, f"The alert {name_of(alert)} is saved.")
            return redirect("dashboard:alerts")
    return _edit_page(request, form, alert)


@require_POST
@member_page(*EDITORS)
def remove(request: MemberRequest, public_id: str) -> HttpResponse:
    alert = _alert(request, public_id)
    remove_alert(alert=alert, by=request.user, at=now())
    messages.success(request, f"The alert {name_of(alert)} is removed; its history stays.")
    return redirect("dashboard:alerts")


@require_POST
@limit_posts("30/h")
@member_page(*EDITORS)
def test(request: MemberRequest, public_id: str) -> HttpResponse:
    alert, at = _alert(request, public_id), now()
    made = [_tried(row) for row in send_test(alert=alert, by=request.user, at=at)]
    if not made:
        messages.error(request, "Nobody would be told: choose e-mail or webhook.")
    for row in made:
        say = messages.success if row.outcome and row.state == "sent" else messages.error
        say(request, f"Test by {row.get_channel_display().lower()} to {row.recipient}: {row.outcome}.")
    return redirect("dashboard:alerts")


@require_POST
@member_page(*EDITORS)
def lift(request: MemberRequest, public_id: str) -> HttpResponse:
    alert = _alert(request, public_id)
    rows = AlertFiring.objects.for_organization(request.organization).filter(alert=alert, recovered_at=None)
    for firing in rows.select_related("organization", "alert__meter", "alert__organization"):
        lift_restriction(firing=firing, by=request.user, at=now())
    messages.success(request, "The restriction is lifted for the rest of this period, from the next call on.")
    return redirect("dashboard:alerts")


@require_POST
@member_page()
def mail_choice(request: MemberRequest, public_id: str) -> HttpResponse:
    """Every member, for the own mails."""
    wants = request.POST.get("by_mail") == "on"
    alert = _alert(request, public_id)
    choose_mail(alert=alert, membership=request.membership, by_mail=wants)
    messages.success(request, f"You {'get' if wants else 'do not get'} mails of the alert {name_of(alert)}.")
    return redirect("dashboard:alerts")


@require_POST
@limit_posts("30/h")
@member_page(*EDITORS)
def webhook(request: MemberRequest) -> HttpResponse:
    is_removed = "remove" in request.POST
    form = WebhookForm(request.POST)
    if is_removed or form.is_valid():
        try:
            url = "" if is_removed else form.cleaned_data["url"]
            set_webhook(organization=request.organization, url=url, by=request.user, at=now())
        except PortalError as refused:
            form.add_error("url", refused.detail)
        else:
            messages.success(
                request, "The webhook is removed." if is_removed else "The webhook is set. Send a test."
            )
            return redirect("dashboard:alerts")
    context = caps_context(request) | alerts_context(request, at=now(), webhook_form=form)
    return render(request, "dashboard/alerts.html", context, status=422)


def _alert(request: MemberRequest, public_id: str) -> Alert:
    rows = Alert.objects.for_organization(request.organization).filter(removed_at=None)
    return rows.select_related("organization", "meter").get_or_404(public_id=public_id)


def _form(request: MemberRequest, initial: dict[str, object], alert: Alert | None = None) -> AlertForm:
    """With the meters of the present plan, and the alert's own where the plan no longer has it."""
    period = find_period(request.organization, at=now())
    version = period.version if period else None
    meters = {c.meter.pk: c.meter for c in version.components.select_related("meter")} if version else {}
    if alert is not None and alert.meter is not None:
        meters.setdefault(alert.meter.pk, alert.meter)
    chosen: list[Meter] = list(meters.values())
    data = request.POST if request.method == "POST" else None
    return AlertForm(data, initial=initial, meters=chosen, currency=version.currency if version else "")


def _edit_page(request: MemberRequest, form: AlertForm, alert: Alert | None) -> HttpResponse:
    context = {"nav": "alerts", "form": form, "alert": alert, "name": name_of(alert) if alert else ""}
    return render(request, "dashboard/alert_edit.html", context, status=422 if form.is_bound else 200)


def _tried(row: AlertDelivery) -> AlertDelivery:
    """A test's webhook is tried while the reader waits; what fails is tried again like any other."""
    if row.channel == Channel.WEBHOOK and row.next_at is not None:
        return deliver(row.pk, at=row.next_at) or row
    return row
