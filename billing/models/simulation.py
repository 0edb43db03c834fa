from django.db import models

from accounts.models import User
from core.ids import public_id
from plans.models import Plan, PlanVersion


def simulation_public_id() -> str:
    return public_id("sim")


class SimulationState(models.TextChoices):
    QUEUED = "queued", "Waiting"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


class SimulationRun(models.Model):
    """A question to the simulator and its answer: what customers of `plan` (empty: of all) would have paid on `version`.

    `outcomes` holds a row per customer: organization id, public id, name, months, now, then, cost (minor units; null: not
    known) and months in which something would have been refused; older runs end with `then`. `left_out` says who could not
    be compared; null: nobody counted them. `progress_at` is the last sign of life of the worker.
    """

    public_id = models.CharField(max_length=40, unique=True, default=simulation_public_id, editable=False)
    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="simulations")
    plan = models.ForeignKey(Plan, models.CASCADE, null=True, blank=True, related_name="+")
    months = models.PositiveSmallIntegerField(default=3)
    percent = models.PositiveSmallIntegerField(
        default=20, help_text="Who would pay more than so much above today."
    )
    state = models.CharField(max_length=7, choices=SimulationState.choices, default=SimulationState.QUEUED)
    periods_done = models.PositiveIntegerField(default=0)
    periods_in_all = models.PositiveIntegerField(default=0)
    outcomes = models.JSONField(default=list)
    left_out = models.JSONField(null=True, blank=True)
    requested_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    requested_at = models.DateTimeField()
    progress_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-requested_at"]

    def __str__(self) -> str:
        return f"{self.version} over {self.months} months"
