"""The question to the simulator; how it is answered is in billing/simulator.py."""

from typing import Any

from django import forms

from dashboard.simulator_page import version_fee
from plans.models import Plan, PlanVersion, VersionState

MOST_MONTHS = 24
ALL = "all"
_SIMULATED = ((VersionState.DRAFT, "Drafts"), (VersionState.PUBLISHED, "Published"))


class SimulatorForm(forms.Form):
    """Which version, for whom, over how long. Private plans are one customer's own and not offered."""

    version = forms.ChoiceField(label="Simulate", help_text="Drafts first. A draft is taken as it is now.")
    plan = forms.ChoiceField(label="Customers", initial=ALL)
    months = forms.IntegerField(
        min_value=1,
        max_value=MOST_MONTHS,
        initial=3,
        help_text=f"The last closed months whose true usage is replayed, 1 to {MOST_MONTHS}.",
    )
    percent = forms.IntegerField(
        min_value=0,
        max_value=1_000,
        initial=20,
        label="Point out who pays over so many % more",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._versions = {str(version.pk): version for version in _versions()}
        self._plans = {str(plan.pk): plan for plan in Plan.objects.filter(organization=None)}
        choices = [
            (
                label,
                [
                    (pk, f"{one} · {version_fee(one)}")
                    for pk, one in self._versions.items()
                    if one.state == state
                ],
            )
            for state, label in _SIMULATED
        ]
        self.fields["version"].choices = [group for group in choices if group[1]]  # type: ignore[attr-defined]
        self.fields["plan"].choices = [  # type: ignore[attr-defined]
            (ALL, "All, whatever their plan"),
            *((pk, f"On {plan.name} now") for pk, plan in self._plans.items()),
        ]

    def clean_version(self) -> PlanVersion:
        return self._versions[self.cleaned_data["version"]]

    def clean_plan(self) -> Plan | None:
        return self._plans.get(self.cleaned_data["plan"])


def _versions() -> list[PlanVersion]:
    """Newest first within each plan."""
    versions = PlanVersion.objects.filter(
        state__in=[state for state, _ in _SIMULATED], plan__organization=None, plan__archived_at=None
    )
    return list(versions.select_related("plan").order_by("plan__position", "plan_id", "-number"))
