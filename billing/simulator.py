"""What would customers have paid on another version? Their true usage of the last closed months, rated again.

A simulation changes nothing and charges nobody. Fees are compared as monthly ones, usage by months as it was; what a new
price would have made customers do differently, nobody knows, and the page says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from accounts.models import User
from billing.models import SimulationRun, SimulationState
from metering.costs import rate_on
from metering.queries import quantities_by_period
from plans.models import Period, Plan, PlanVersion

PROGRESS_EVERY = 25  # customers


@dataclass(frozen=True, slots=True)
class Outcome:
    """One customer over the months that were replayed: minor units of one currency."""

    organization_id: int
    public_id: str
    name: str
    months: int
    now_minor: int
    then_minor: int

    @property
    def difference_minor(self) -> int:
        return self.then_minor - self.now_minor

    def pays_more_than(self, percent: int) -> bool:
        """Whether the new version costs more than so many percent above the present one."""
        return self.then_minor * 100 > self.now_minor * (100 + percent)


@dataclass(frozen=True, slots=True)
class Simulation:
    """All customers of a simulation together."""

    currency: str
    months: int
    outcomes: tuple[Outcome, ...]

    @property
    def now_minor(self) -> int:
        return sum(one.now_minor for one in self.outcomes)

    @property
    def then_minor(self) -> int:
        return sum(one.then_minor for one in self.outcomes)

    @property
    def winners(self) -> list[Outcome]:
        """Who pays less, largest gain first."""
        return sorted((o for o in self.outcomes if o.difference_minor < 0), key=lambda o: o.difference_minor)

    @property
    def losers(self) -> list[Outcome]:
        """Who pays more, largest loss first."""
        return sorted((o for o in self.outcomes if o.difference_minor > 0), key=lambda o: -o.difference_minor)

    def hit_hard(self, percent: int) -> list[Outcome]:
        """Who would pay more than so many percent above today."""
        return [one for one in self.losers if one.pays_more_than(percent)]


def replayed_periods(
    version: PlanVersion, *, plan: Plan | None, months: int, at: datetime
) -> QuerySet[Period]:
    """The closed months to replay: of customers who are now on `plan` (None: on any) and pay in the version's currency."""
    periods = Period.objects.filter(
        ends_at__lte=at,
        is_trial=False,
        subscription__ended_at=None,
        version__currency=version.currency,
    )
    if plan is not None:
        periods = periods.filter(subscription__version__plan=plan)
    return (
        periods.select_related("organization", "version__plan")
        .prefetch_related("version__components__meter", "version__components__tiers")
        .order_by("organization_id", "-starts_at")
    )


def simulate(
    version: PlanVersion, *, plan: Plan | None, months: int, at: datetime
) -> Iterator[tuple[int, Outcome]]:
    """The outcome of each customer as it is known, with how many months of the whole have been looked at."""
    part: list[Period] = []
    seen = 0
    for period in replayed_periods(version, plan=plan, months=months, at=at).iterator(chunk_size=1_000):
        if part and period.organization_id != part[0].organization_id:
            seen += len(part)
            yield seen, _outcome(version, part[:months])
            part = []
        part.append(period)
    if part:
        yield seen + len(part), _outcome(version, part[:months])


def _outcome(version: PlanVersion, periods: Sequence[Period]) -> Outcome:
    used = quantities_by_period([period.pk for period in periods])
    quantities = [used.get(period.pk, {}) for period in periods]
    customer = periods[0].organization
    return Outcome(
        organization_id=customer.pk,
        public_id=customer.public_id,
        name=customer.name,
        months=len(periods),
        now_minor=sum(rate_on(p.version, q).total_minor for p, q in zip(periods, quantities, strict=True)),
        then_minor=sum(rate_on(version, q).total_minor for q in quantities),
    )


def request_simulation(
    *, version: PlanVersion, plan: Plan | None, months: int, percent: int, by: User | None, at: datetime
) -> SimulationRun:
    """Ask for a simulation; whoever asks queues `run_simulation` for it."""
    return SimulationRun.objects.create(
        version=version, plan=plan, months=months, percent=percent, requested_by=by, requested_at=at
    )


def run_simulation(*, run: SimulationRun, at: datetime) -> SimulationRun:
    """Replay and store the outcomes, telling how far it is. Repeatable: a run that was cut short starts over."""
    run.state, run.outcomes = SimulationState.RUNNING, []
    run.periods_in_all = replayed_periods(run.version, plan=run.plan, months=run.months, at=at).count()
    run.save(update_fields=["state", "outcomes", "periods_in_all"])
    outcomes: list[Outcome] = []
    try:
        for done, outcome in simulate(run.version, plan=run.plan, months=run.months, at=at):
            outcomes.append(outcome)
            if len(outcomes) % PROGRESS_EVERY == 0:
                SimulationRun.objects.filter(pk=run.pk).update(periods_done=done)
    except Exception:
        SimulationRun.objects.filter(pk=run.pk).update(state=SimulationState.FAILED, finished_at=at)
        raise
    with transaction.atomic():
        run.outcomes = [
            [o.organization_id, o.public_id, o.name, o.months, o.now_minor, o.then_minor] for o in outcomes
        ]
        run.state, run.finished_at, run.periods_done = SimulationState.DONE, at, run.periods_in_all
        run.save(update_fields=["outcomes", "state", "finished_at", "periods_done"])
    return run


def read_simulation(run: SimulationRun) -> Simulation:
    """The outcomes of a run that is done."""
    return Simulation(run.version.currency, run.months, tuple(Outcome(*row) for row in run.outcomes))
