"""Pages and buttons of one plan version: preview, publish, draft, retire, private plan, moving its customers."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.forms import BaseForm
from django.forms.formsets import all_valid
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from core.clock import now
from core.errors import PortalError
from plans.admin.forms import CustomerForm, MoveForm, ScheduleForm
from plans.admin.staff import staff
from plans.models import PlanVersion, VersionState
from plans.moves import move_customers, preview_move
from plans.preview import Asked, asked_quantities, preview_bill, version_notes
from plans.publishing import (
    clone_for_customer,
    new_draft,
    publish_version,
    retire_version,
    schedule_publishing,
)
from plans.staff_marks import marks_of
from plans.version_checks import version_faults

Page = Callable[[HttpRequest, PlanVersion], HttpResponse]


class VersionPages(admin.ModelAdmin[PlanVersion]):
    """Mixed into the admin of plan versions."""

    def page_urls(self) -> list[URLPattern]:
        pages: dict[str, Page] = {
            "preview": self.preview_page,
            "publish": self.publish_page,
            "draft": self.draft_page,
            "retire": self.retire_page,
            "private": self.private_page,
            "move": self.move_page,
        }
        return [
            path(
                f"<int:pk>/{name}/",
                self.admin_site.admin_view(self._page(page)),
                name=f"plans_planversion_{name}",
            )
            for name, page in pages.items()
        ]

    def _page(self, page: Page) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, pk: int) -> HttpResponse:
            if not request.user.has_perm("plans.change_planversion"):
                raise PermissionDenied
            return page(request, get_object_or_404(self.get_queryset(request).select_related("plan"), pk=pk))

        return view

    def render_change_form(
        self, request: HttpRequest, context: Any, add: Any = False, change: Any = False,
        form_url: Any = "", obj: PlanVersion | None = None,
    ) -> HttpResponse:  # fmt: skip
        if obj is not None:
            notes = [*version_notes(obj, at=now()), *marks_of([obj]).get(obj.pk, [])]
            context |= preview_context(request, obj) | {"version": obj, "notes": notes}
        return super().render_change_form(
            request, context, add=add, change=change, form_url=form_url, obj=obj
        )

    # --- preview -------------------------------------------------------------------------------------------------

    def preview_page(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """The bill of an example customer. POST takes the draft's form as it stands, unsaved: saved, rated, rolled back."""
        problems: list[str] = []
        if request.method != "POST" or version.state != VersionState.DRAFT:
            context = preview_context(request, version)
        else:
            with transaction.atomic():
                problems = self._take_unsaved(request, version)
                edited = self.get_queryset(request).select_related("plan").get(pk=version.pk)
                context = preview_context(request, edited)
                transaction.set_rollback(True)
        if problems:
            context |= {"problems": problems, "bill": None}
        template = "preview_card" if request.headers.get("HX-Request") else "preview"
        return TemplateResponse(
            request,
            f"admin/plans/planversion/{template}.html",
            self._context(request, version, "Preview") | context,
        )

    def _take_unsaved(self, request: HttpRequest, version: PlanVersion) -> list[str]:
        """Write what the form says; what is wrong with it instead, where it can't be."""
        form = self.get_form(request, version, change=True)(request.POST, instance=version)
        formsets, _ = self._create_formsets(request, version, change=True)  # type: ignore[attr-defined]
        if not (form.is_valid() & all_valid(formsets)):
            return [
                "Correct the fields first: "
                + "; ".join(_errors([form, *(f for s in formsets for f in s.forms)]))
            ]
        form.save()
        for formset in formsets:
            formset.save()
        return []

    # --- acts ----------------------------------------------------------------------------------------------------

    def publish_page(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """Now, or at a moment; what keeps it from being sold is named."""
        at = now()
        form = ScheduleForm(request.POST if request.POST.get("act") == "schedule" else None)
        if request.method == "POST":
            act = request.POST.get("act")
            if act == "publish":
                return self._act(
                    request, version, lambda: publish_version(version=version, by=staff(request), at=at),
                    f"{version} is on sale.",
                )  # fmt: skip
            if act == "forget":
                return self._schedule(request, version, None)
            if form.is_valid():
                return self._schedule(request, version, form.cleaned_data["publish_at"])
        context = {
            "form": form,
            "faults": version_faults(version),
            "notes": version_notes(version, at=at),
            "replaced": self._replaced(version),
        }
        return self._render(request, version, "publish", f"Publish {version}", context)

    def _schedule(
        self, request: HttpRequest, version: PlanVersion, publish_at: datetime | None
    ) -> HttpResponse:
        return self._act(
            request, version,
            lambda: schedule_publishing(version=version, publish_at=publish_at, by=staff(request), at=now()),
            f"{version} goes on sale at {publish_at:%-d %b %Y %H:%M %Z}." if publish_at else f"{version} stays a draft.",
        )  # fmt: skip

    def draft_page(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        if request.method != "POST":
            return self._back(version)
        draft = new_draft(version=version, by=staff(request), at=now())
        self.log_addition(request, draft, f"Draft from {version}.")
        messages.success(request, f"{draft} is a draft with everything that {version} says.")
        return self._back(draft)

    def retire_page(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        if request.method == "POST":
            return self._act(
                request, version, lambda: retire_version(version=version, by=staff(request), at=now()),
                f"{version} is off sale; who is on it stays on it.",
            )  # fmt: skip
        return self._render(request, version, "retire", f"Take {version} off sale", {})

    def private_page(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """A copy that only one customer may have."""
        form = CustomerForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            organization = form.cleaned_data["organization"]
            draft = clone_for_customer(
                version=version, organization=organization, by=staff(request), at=now()
            )
            self.log_addition(request, draft, f"Private plan from {version}.")
            messages.success(
                request, f"{draft} is a draft. Price it, publish it, then change the subscription to it."
            )
            return self._back(draft)
        return self._render(request, version, "private", f"Private plan from {version}", {"form": form})

    def move_page(self, request: HttpRequest, version: PlanVersion) -> HttpResponse:
        """First whom it takes, then the move."""
        form = MoveForm(request.POST or None, version=version)
        context: dict[str, Any] = {"form": form}
        if request.method == "POST" and form.is_valid():
            target = form.cleaned_data["to_version"]
            try:
                if request.POST.get("act") == "move":
                    moved = move_customers(
                        from_version=version, to_version=target, by=staff(request), at=now()
                    )
                    words = f"{moved} customers move from {version} to {target} at the end of their periods."
                    self.log_change(request, version, words)
                    messages.success(request, words)
                    return self._back(version)
                context["move"] = preview_move(from_version=version, to_version=target, at=now())
                context["target"] = target
            except PortalError as refused:
                form.add_error("to_version", refused.detail)
        return self._render(request, version, "move", f"Move the customers of {version}", context)

    # --- parts ---------------------------------------------------------------------------------------------------

    def _act(
        self, request: HttpRequest, version: PlanVersion, act: Callable[[], PlanVersion], words: str
    ) -> HttpResponse:
        try:
            act()
        except PortalError as refused:
            messages.error(request, refused.detail)
        else:
            self.log_change(request, version, words)
            messages.success(request, words)
        return self._back(version)

    def _back(self, version: PlanVersion) -> HttpResponseRedirect:
        return redirect(reverse("admin:plans_planversion_change", args=[quote(version.pk)]))

    def _render(
        self, request: HttpRequest, version: PlanVersion, template: str, title: str, context: dict[str, Any]
    ) -> HttpResponse:
        return TemplateResponse(
            request,
            f"admin/plans/planversion/{template}.html",
            self._context(request, version, title) | context,
        )

    def _context(self, request: HttpRequest, version: PlanVersion, title: str) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "version": version,
            "opts": self.opts,
            "original": version,
            "customers": version.subscriptions.filter(ended_at=None).count(),
        }

    def _replaced(self, version: PlanVersion) -> PlanVersion | None:
        return PlanVersion.objects.filter(
            plan=version.plan,
            currency=version.currency,
            interval=version.interval,
            state=VersionState.PUBLISHED,
        ).first()


def preview_context(request: HttpRequest, version: PlanVersion) -> dict[str, Any]:
    """The quantities asked for (`q0`, `q1`, ... in the order of the prices) and the bill; or why there is none."""
    components = sorted(version.components.all(), key=lambda c: (c.position, c.pk))
    given, problems = _given(request, len(components))
    faults = version_faults(version)
    asked: list[Asked] = asked_quantities(components, given)
    return {
        "version": version,
        "asked": asked,
        "faults": faults,
        "problems": problems,
        "bill": None if faults or problems else preview_bill(version, asked),
    }


def _given(request: HttpRequest, number_of_prices: int) -> tuple[dict[int, Decimal], list[str]]:
    sent = request.POST if request.method == "POST" else request.GET
    given: dict[int, Decimal] = {}
    for number in range(number_of_prices):
        text = sent.get(f"q{number}", "").replace(",", "").replace(" ", "")
        if not text:
            continue
        try:
            quantity = Decimal(text)
        except InvalidOperation:
            return given, [f"{text!r} is not a quantity."]
        if not quantity.is_finite() or not 0 <= quantity < Decimal(10) ** 15:
            return given, ["A quantity is 0 or more, and below 1,000,000,000,000,000."]
        given[number] = quantity
    return given, []


def _errors(forms: list[BaseForm]) -> list[str]:
    said = [
        (name, one) for form in forms for name, ones in form.errors.get_json_data().items() for one in ones
    ]
    return [f"{name}: {one['message']}" for name, one in said]
