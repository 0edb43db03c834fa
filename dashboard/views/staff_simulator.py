"""The simulator, for the owner's staff: what customers would have paid on another version. It changes nothing."""

import csv
from typing import cast

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HttpResponseClientRefresh

from accounts.models import User
from billing.models import SimulationRun, SimulationState
from billing.simulator import read_simulation, request_again, request_simulation
from billing.tasks import queue_simulation
from core.clock import now
from core.spreadsheets import harmless_rows
from dashboard.access import staff_page
from dashboard.forms.simulator import SimulatorForm
from dashboard.simulator_page import csv_rows, customer_row, result_of, run_status, version_fee, version_title

RUNS_SHOWN = 20
CUSTOMERS_SHOWN = 50
FRAME = {"nav": "staff-simulator", "staff_page": True}


@require_http_methods(["GET", "POST"])
@staff_page
def simulator(request: HttpRequest) -> HttpResponse:
    """The form, and earlier runs, newest first."""
    at = now()
    form = SimulatorForm(request.POST) if request.method == "POST" else SimulatorForm()
    if form.is_bound and form.is_valid():
        run = request_simulation(**form.cleaned_data, by=cast(User, request.user), at=at)
        queue_simulation(run)
        return redirect("dashboard:staff-simulation", run.public_id)
    rows = SimulationRun.objects.defer("outcomes").select_related("version__plan", "plan", "requested_by")
    page = Paginator(rows.order_by("-requested_at", "-pk"), RUNS_SHOWN).get_page(request.GET.get("page"))
    context = FRAME | {
        "form": form,
        "runs": [
            (run, version_title(run.version), version_fee(run.version), run_status(run, at=at))
            for run in page
        ],
        "page": page,
    }
    return render(request, "dashboard/staff_simulator.html", context, status=422 if form.errors else 200)


@require_safe
@staff_page
def simulation(request: HttpRequest, public_id: str) -> HttpResponse:
    """One run: how far it is, then its result. HTMX asks again while it runs, and then for the page anew."""
    at, run = now(), _run(public_id)
    status = run_status(run, at=at)
    context = FRAME | {"run": run, "title": version_title(run.version), "fee": version_fee(run.version)}
    context["status"] = status
    if request.htmx:  # type: ignore[attr-defined]
        if not status.is_open:
            return HttpResponseClientRefresh()
        return render(request, "dashboard/staff_simulation.html#progress", context)
    if run.state == SimulationState.DONE:
        context |= _result(run, request.GET.get("show", ""), request.GET.get("page", ""))
    return render(request, "dashboard/staff_simulation.html", context)


def _result(run: SimulationRun, show: str, number: str) -> dict[str, object]:
    found = read_simulation(run)
    result = result_of(found, percent_more=run.percent, show=show)
    page = Paginator(result.chosen.outcomes, CUSTOMERS_SHOWN).get_page(number)
    menu = [
        (f"{group.label} ({len(group.outcomes):,})", f"?show={group.slug}", group is result.chosen)
        for group in result.groups
    ]
    return {
        "result": result,
        "menu": menu,
        "page": page,
        "rows": [customer_row(one, found.currency) for one in page],
        "csv_url": reverse("dashboard:staff-simulation-csv", args=[run.public_id]),
    }


@require_safe
@staff_page
def simulation_csv(request: HttpRequest, public_id: str) -> HttpResponse:
    """All customers of a result; with `show` one group of them."""
    run = _run(public_id)
    if run.state != SimulationState.DONE:
        raise Http404
    found = read_simulation(run)
    outcomes = list(found.outcomes)
    if show := request.GET.get("show", ""):
        outcomes = result_of(found, percent_more=run.percent, show=show).chosen.outcomes
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="simulation-{run.public_id}.csv"'
    csv.writer(response).writerows(harmless_rows(csv_rows(found, outcomes)))
    return response


@require_http_methods(["GET", "POST"])
@staff_page
def simulation_again(request: HttpRequest, public_id: str) -> HttpResponse:
    """The same question once more: a run that stopped takes its own place again, one that is done gets a sibling."""
    if request.method != "POST":
        return redirect("dashboard:staff-simulation", public_id)
    run = request_again(run=_run(public_id), by=cast(User, request.user), at=now())
    if run.state == SimulationState.QUEUED:
        queue_simulation(run)
    return redirect("dashboard:staff-simulation", run.public_id)


def _run(public_id: str) -> SimulationRun:
    runs = SimulationRun.objects.select_related("version__plan", "plan", "requested_by")
    return get_object_or_404(runs, public_id=public_id)
