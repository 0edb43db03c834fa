"""Staff find an event by its id or its request's, and correct it."""

from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from accounts.models import User
from core.clock import now
from core.errors import PortalError
from dashboard.access import staff_page
from dashboard.forms.corrections import CorrectForm, FindForm
from metering.models import UsageEvent
from metering.reconcile import plain
from metering.usage_corrections import (
    UnknownEvent,
    can_correct,
    check_can_correct,
    correct_usage,
    event_facts,
    events_of_request,
    find_event,
)


@require_http_methods(["GET", "POST"])
@staff_page
def correct(request: HttpRequest) -> HttpResponse:
    find = FindForm(request.GET if "find" in request.GET else None)
    found = _found(find)
    event = found[0] if len(found) == 1 else None
    form = CorrectForm(request.POST or None)
    if request.method == "POST" and event is not None and _correct(request, event, form):
        return redirect(f"{reverse('dashboard:staff-correct')}?find={event.id}")
    context: dict[str, Any] = {
        "nav": "staff-correct",
        "staff_page": True,
        "find": find,
        "found": found,
        "form": form,
    }
    if event is not None:
        context |= event_facts(event) | {"may_correct": can_correct(cast(User, request.user))}
    return render(request, "dashboard/staff_correct.html", context)


def _found(find: FindForm) -> list[UsageEvent]:
    """The events that are meant; none, with the form's error, when there are none."""
    if not find.is_bound or not find.is_valid():
        return []
    text = find.cleaned_data["find"].strip()
    try:
        found = [find_event(UUID(text))]
    except ValueError:
        found = events_of_request(text)
    except UnknownEvent:
        found = []
    if not found:
        find.add_error("find", "The ledger has no such event. What was just taken is there in a second.")
    return found


def _correct(request: HttpRequest, event: UsageEvent, form: CorrectForm) -> bool:
    """Whether it was done; if not, the form says why. Raises Forbidden."""
    user = cast(User, request.user)
    check_can_correct(user)
    if not form.is_valid():
        return False
    quantity: Decimal | None = None if form.cleaned_data["what"] == "void" else form.cleaned_data["quantity"]
    try:
        done = correct_usage(
            event.id, quantity=quantity, reason=form.cleaned_data["reason"], by=user, at=now()
        )  # fmt: skip
    except PortalError as error:
        form.add_error(None, error.detail)
        return False
    except RedisError:
        form.add_error(None, "The counters cannot be reached now; nothing was changed. Try again.")
        return False
    text = f"Corrected: {plain(done.before)} is now {plain(done.quantity)}."
    messages.success(request, text if done.rows else f"It comes to {plain(done.quantity)} already.")
    return True
