"""What would customers have paid on another version? Their true usage of the last closed months, rated again.

A simulation changes nothing and charges nobody. Fees are compared as monthly ones, usage by months as it was; what a new
price would have made customers do differently, nobody knows, and the page says so. Spend caps and credit are left out of
both sides: they are the customer's, not the price list's.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts.models import Organization, User
from billing.adviser import fits_quotas
from billing.models import SimulationRun, SimulationState
from core.any_of import any_of
from core.money import to_minor
from metering.costs import after_unpaid_trials, monthly_terms
from metering.queries import quantities_by_period
from plans.cost_baselines import find_cost_prices, unit_costs
from plans.models import Meter, Period, Plan, PlanVersion, RouteCost, Subscription
from plans.periods import month_start
from plans.pricing import Terms, Usage, rate_period
from plans.proration import shortened_minimum
from plans.tiers import EXACT, ZERO

BATCH = 200  # customers that are read together; after each the run tells how far it is
SILENT = timedelta(minutes=10)  # without progress, nobody works on a run any more
LONGEST_MONTH = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One customer over the months that were replayed: minor units of one currency. `cost_minor` is what serving these
    calls costs the owner, None where no cost prices are known; `months_refused` how many of the months pass a hard quota of
    the version, or use what it does not sell: there part of the usage would have been refused, not charged."""

    organization_id: int
    public_id: str
    name: str
    months: int
    now_minor: int
    then_minor: int
    cost_minor: int | None = None
    months_refused: int = 0

    @property
    def difference_minor(self) -> int:
        return self.then_minor - self.now_minor

    def pays_more_than(self, percent: int) -> bool:
        """Whether the new version costs more than so many percent above the present one."""
        return self.then_minor * 100 > self.now_minor * (100 + percent)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Customers that were asked about and could not be compared."""

    by_currency: Mapping[str, int] = field(default_factory=dict)
    without_months: int = 0


@dataclass(frozen=True, slots=True)
class Simulation:
    """All customers of a simulation together."""

    currency: str
    months: int
    outcomes: tuple[Outcome, ...]
    left_out: LeftOut = LeftOut()

    @property
    def now_minor(self) -> int:
        return sum(one.now_minor for one in self.outcomes)

    @property
    def then_minor(self) -> int:
        return sum(one.then_minor for one in self.outcomes)

    @property
    def cost_minor(self) -> int | None:
        """None where no cost prices were known."""
        known = [one.cost_minor for one in self.outcomes if one.cost_minor is not None]
        return sum(known) if known else None

    @property
    def winners(self) -> list[Outcome]:
        """Who pays less, largest gain first."""
        return sorted((o for o in self.outcomes if o.difference_minor < 0), key=lambda o: o.difference_minor)

    @property
    def losers(self) -> list[Outcome]:
        """Who pays more, largest loss first."""
        return sorted((o for o in self.outcomes if o.difference_minor > 0), key=lambda o: -o.difference_minor)

    @property
    def unchanged(self) -> list[Outcome]:
        return [one for one in self.outcomes if not one.difference_minor]

    def hit_hard(self, percent: int) -> list[Outcome]:
        """Who would pay more than so many percent above today."""
        return [one for one in self.losers if one.pays_more_than(percent)]


def _customers(plan: Plan | None) -> QuerySet[Subscription]:
    """Who is asked about: customers who are now on `plan` (None: on any)."""
    open_now = Subscription.objects.filter(ended_at=None)
    return open_now if plan is None else open_now.filter(version__plan=plan)


def replayed_periods(
    version: PlanVersion, *, plan: Plan | None, months: int, at: datetime
) -> QuerySet[Period]:
    """The closed paid periods that may be replayed: of customers who are now on `plan` and pay in the version's currency.
    A month more than asked for, because the last one of a customer closed up to a month ago."""
    return Period.objects.filter(
        ends_at__lte=at,
        starts_at__gt=at - (months + 1) * LONGEST_MONTH,
        is_trial=False,
        version__currency=version.currency,
        subscription__in=_customers(plan).filter(version__currency=version.currency),
    )


def simulate(
    version: PlanVersion, *, plan: Plan | None, months: int, at: datetime
) -> Iterator[tuple[int, list[Outcome]]]:
    """The outcomes of customers by the batch as they are known, with how many periods have been looked at. Ten queries or
    so for each batch, however many months."""
    periods = replayed_periods(version, plan=plan, months=months, at=at)
    customers = list(periods.order_by("organization_id").values_list("organization_id", flat=True).distinct())
    replay, seen = _Replay(version, months, at), 0
    for first in range(0, len(customers), BATCH):
        batch = periods.filter(organization_id__in=any_of(customers[first : first + BATCH]))
        rows = list(batch.order_by("organization_id", "-starts_at"))
        seen += len(rows)
        yield seen, replay.outcomes(rows)


class _Replay:
    """What stays the same over all batches: terms of versions, and what a unit of each meter costs the owner."""

    def __init__(self, version: PlanVersion, months: int, at: datetime) -> None:
        self.version, self.months = version, months
        self.unit_costs = meter_costs(version.currency, at=at)
        self.terms: dict[int, Terms] = {version.pk: monthly_terms(version)}

    def outcomes(self, rows: Sequence[Period]) -> list[Outcome]:
        """Of customers whose periods lie side by side, newest first."""
        unpaid = after_unpaid_trials(rows)  # the door was closed: neither version would have charged
        grouped = groupby((row for row in rows if row.pk not in unpaid), lambda row: row.organization_id)
        replayed = [_last_months(list(periods), self.months) for _, periods in grouped]
        self._read_terms({period.version_id for periods in replayed for period in periods})
        used = quantities_by_period([period.pk for periods in replayed for period in periods])
        named = Organization.objects.in_bulk([periods[0].organization_id for periods in replayed])
        return [self._outcome(named[periods[0].organization_id], periods, used) for periods in replayed]

    def _outcome(
        self, customer: Organization, periods: Sequence[Period], used: Mapping[int, Usage]
    ) -> Outcome:
        months = [(period, used.get(period.pk, {})) for period in periods]
        return Outcome(
            organization_id=customer.pk,
            public_id=customer.public_id,
            name=customer.name,
            months=len(months),
            now_minor=sum(_price(self.terms[period.version_id], period, usage) for period, usage in months),
            then_minor=sum(_price(self.terms[self.version.pk], period, usage) for period, usage in months),
            cost_minor=self._cost([usage for _, usage in months]),
            months_refused=sum(not fits_quotas(self.version, usage) for _, usage in months),
        )

    def _cost(self, months: Sequence[Usage]) -> int | None:
        """Average cost of a unit times the units; meters whose routes have no cost add nothing."""
        if self.unit_costs is None:
            return None
        spent = ZERO
        for usage in months:
            for (meter, _), quantity in usage.items():
                spent = EXACT.add(spent, EXACT.multiply(self.unit_costs.get(meter, ZERO), quantity))
        return to_minor(spent, self.version.currency)

    def _read_terms(self, version_ids: set[int]) -> None:
        missing = version_ids - self.terms.keys()
        versions = PlanVersion.objects.filter(pk__in=missing).select_related("plan")
        versions = versions.prefetch_related("components__meter", "components__tiers")
        self.terms.update({version.pk: monthly_terms(version) for version in versions})


def _last_months(periods: list[Period], months: int) -> list[Period]:
    """Those of so many months up to the newest one's end; a change of plan within a month makes two periods of it."""
    since = month_start(periods[0].ends_at, -months)
    return [period for period in periods if period.starts_at >= since]


def _price(terms: Terms, period: Period, usage: Usage) -> int:
    """A period on these monthly terms; one that was cut short bears its share of fee and minimum."""

    def share(minor: int) -> int:
        return shortened_minimum(
            minor, anchor=period.anchor, starts_at=period.starts_at, ends_at=period.ends_at
        )

    fee, minimum = share(terms.fee_minor), share(terms.minimum_minor)
    if (fee, minimum) != (terms.fee_minor, terms.minimum_minor):
        terms = replace(terms, fee_minor=fee, minimum_minor=minimum)
    return rate_period(terms, usage).total_minor


def meter_costs(currency: str, *, at: datetime) -> dict[str, Decimal] | None:
    """What a unit costs the owner on average, in major units, by meter slug; None where no cost prices are known in this
    currency, or no route's cost. Only of meters that add up: a maximum has no cost for each unit."""
    prices = find_cost_prices(currency, at=at)
    if prices is None:
        return None
    takes = RouteCost.objects.filter(route__is_active=True).select_related("route__product")
    costs = unit_costs(takes, prices)
    meters = Meter.objects.in_bulk(list(costs))
    return {meters[pk].slug: cost.average for pk, cost in costs.items() if meters[pk].is_additive} or None


def request_simulation(
    *, version: PlanVersion, plan: Plan | None, months: int, percent: int, by: User | None, at: datetime
) -> SimulationRun:
    """Ask for a simulation; whoever asks queues `run_simulation` for it."""
    return SimulationRun.objects.create(
        version=version, plan=plan, months=months, percent=percent, requested_by=by, requested_at=at
    )


def is_interrupted(run: SimulationRun, *, at: datetime) -> bool:
    """Whether a run that is not over has shown no sign of life for ten minutes: its worker is gone, or none took it."""
    is_open = run.state in (SimulationState.QUEUED, SimulationState.RUNNING)
    return is_open and (run.progress_at or run.requested_at) <= at - SILENT


def request_again(*, run: SimulationRun, by: User | None, at: datetime) -> SimulationRun:
    """The run to queue for the same question: an interrupted or failed run itself, put back; beside one that is done, a
    new one. A run that somebody works on is left alone and handed back."""
    if run.state == SimulationState.DONE:
        return request_simulation(
            version=run.version, plan=run.plan, months=run.months, percent=run.percent, by=by, at=at
        )
    with transaction.atomic():
        run = SimulationRun.objects.select_for_update().get(pk=run.pk)
        if run.state == SimulationState.FAILED or is_interrupted(run, at=at):
            run.state, run.progress_at, run.finished_at, run.periods_done = (
                SimulationState.QUEUED, at, None, 0,
            )  # fmt: skip
            run.save(update_fields=["state", "progress_at", "finished_at", "periods_done"])
    return run


def run_simulation(*, run: SimulationRun, at: datetime, clock: Callable[[], datetime] | None = None) -> bool:
    """Replay and store the outcomes, telling how far it is by `clock` (standing still at `at` without one). Whether it did:
    a run that is done, or that another worker is at, is left alone; one that was cut short starts over."""
    tell = clock or (lambda: at)
    if not _take(run, at):
        return False
    rows = SimulationRun.objects.filter(pk=run.pk)
    outcomes: list[Outcome] = []
    try:
        periods = replayed_periods(run.version, plan=run.plan, months=run.months, at=at)
        rows.update(periods_in_all=periods.count())
        for done, batch in simulate(run.version, plan=run.plan, months=run.months, at=at):
            outcomes += batch
            rows.update(periods_done=done, progress_at=tell())
        left_out = _left_out(run, outcomes)
    except Exception:
        rows.update(state=SimulationState.FAILED, finished_at=tell())
        raise
    rows.update(
        outcomes=[_row(one) for one in outcomes], left_out=left_out, state=SimulationState.DONE, finished_at=tell()
    )  # fmt: skip
    run.refresh_from_db()
    return True


def _take(run: SimulationRun, at: datetime) -> bool:
    """One worker at a time: tasks are delivered twice when a worker dies, and sometimes when it does not."""
    free = Q(state__in=(SimulationState.QUEUED, SimulationState.FAILED)) | Q(
        state=SimulationState.RUNNING, progress_at__lte=at - SILENT
    )
    taken = SimulationRun.objects.filter(free, pk=run.pk).update(
        state=SimulationState.RUNNING, progress_at=at, periods_done=0, outcomes=[], left_out=None
    )
    return bool(taken)


def _left_out(run: SimulationRun, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """By currency who pays in another one, and how many in the version's own have no closed month."""
    asked = Counter(_customers(run.plan).values_list("version__currency", flat=True))
    own = asked.pop(run.version.currency, 0)
    return {"by_currency": dict(sorted(asked.items())), "without_months": max(own - len(outcomes), 0)}


def _row(one: Outcome) -> list[object]:
    return [
        one.organization_id, one.public_id, one.name, one.months, one.now_minor, one.then_minor, one.cost_minor,
        one.months_refused,
    ]  # fmt: skip


def read_simulation(run: SimulationRun) -> Simulation:
    """The outcomes of a run that is done. Runs of before costs and those left out were kept read as without them."""
    left_out = LeftOut(**run.left_out) if run.left_out else LeftOut()
    return Simulation(
        run.version.currency, run.months, tuple(Outcome(*row) for row in run.outcomes), left_out
    )
