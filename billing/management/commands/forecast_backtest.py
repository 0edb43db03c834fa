"""How wrong forecasts were on this installation's own periods: the median error of each model, and how often the range held."""

from statistics import median
from typing import Any

from django.core.management.base import BaseCommand

from billing.forecast import Model
from billing.forecast_queries import back_test
from core.clock import now


class Command(BaseCommand):
    help = __doc__

    def handle(self, **options: Any) -> None:
        for model in Model:
            misses = list(back_test(at=now(), model=model))
            if not misses:
                self.stdout.write("No period with usage is over yet: nothing to test forecasts on.")
                return
            error = 100 * median(miss.error for miss in misses)
            held = 100 * sum(miss.held for miss in misses) / len(misses)
            self.stdout.write(
                f"{model:18} median error {error:5.1f} %   range held {held:3.0f} %   {len(misses)} forecasts"
            )
