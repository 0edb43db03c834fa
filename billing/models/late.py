from django.db import models

from plans.models import Period


class LateLook(models.Model):
    """Late usage that changed no line: what the ledger stored of a period after `covered_to`, the cut up to which it is
    billed, and up to `looked_to` was rated and is owed nothing for. It is not rated again; holds for that `covered_to`
    only."""

    period = models.OneToOneField(Period, models.PROTECT, primary_key=True, related_name="+")
    covered_to = models.DateTimeField()
    looked_to = models.DateTimeField()

    def __str__(self) -> str:
        return f"Period {self.period_id}, looked at to {self.looked_to:%Y-%m-%d %H:%M:%S}"
