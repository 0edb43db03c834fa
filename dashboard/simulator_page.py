"""What the staff page "Simulator" shows, in text: runs and how they stand, figures of a result, its customers, its CSV."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from billing.models import SimulationRun, SimulationState
from billing.simulator import LeftOut, Outcome, Simulation, is_interrupted
from core.money import format_money, to_major
from dashboard.revenue_page import NONE, percent
from plans.models import PlanVersion, VersionState


def version_title(version: PlanVersion) -> str:
    """`Starter v3, draft`."""
    return f"{version}, draft" if version.state == VersionState.DRAFT else str(version)


def version_fee(version: PlanVersion) -> str:
    """`$59.00 a month`, `1,200 CHF a year`: tells the price lists of one plan apart."""
    return f"{format_money(version.fee_minor, version.currency)} a {version.interval}"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands: a pill, and a sentence that says what to do where something is to be done."""

    label: str
    pill: str
    sentence: str = ""
    is_open: bool = False
    may_run_again: bool = False
    share: int = 0


def run_status(run: SimulationRun, *, at: datetime) -> RunStatus:
    if is_interrupted(run, at=at):
        return RunStatus("Interrupted", "warn", _INTERRUPTED, may_run_again=True)
    if run.state == SimulationState.FAILED:
        return RunStatus("Failed", "bad", _FAILED, may_run_again=True)
    if run.state == SimulationState.DONE:
        return RunStatus("Done", "good", may_run_again=True)
    if run.state == SimulationState.QUEUED:
        return RunStatus("Waiting", "plain", "Waiting for a worker.", is_open=True)
    share = run.periods_done * 100 // run.periods_in_all if run.periods_in_all else 0
    sentence = f"{run.periods_done:,} of {run.periods_in_all:,} months looked at."
    return RunStatus("Running", "plain", sentence, is_open=True, share=share)


_INTERRUPTED = (
    "No sign of life for ten minutes: the worker stopped, or none is running. Nothing was changed. Run it again; if it stays "
    "like this, see whether a Celery worker of the queue “default” runs."
)
_FAILED = (
    "It failed, and nothing was changed. Run it again; if it fails once more, the worker’s log has the reason under this "
    "run’s id. A run of very many customers may last 9 minutes: ask about fewer months, or about one plan."
)


@dataclass(frozen=True, slots=True)
class Side:
    """Revenue and margin of one side, in text."""

    revenue: str
    margin: str
    margin_share: str


@dataclass(frozen=True, slots=True)
class Group:
    """Customers that may be shown by themselves."""

    slug: str
    label: str
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """A customer of the result, in text."""

    outcome: Outcome
    now: str
    then: str
    difference: str
    share: str
    cost: str


@dataclass(frozen=True, slots=True)
class Result:
    """A run that is done, in text."""

    now: Side
    then: Side
    difference: str
    share: str
    cost: str
    groups: list[Group]
    chosen: Group
    customers: int
    notes: list[str]

    @property
    def has_costs(self) -> bool:
        return bool(self.cost)


def result_of(found: Simulation, *, percent_more: int, show: str) -> Result:
    """What is shown of a result; `show` is a group's slug, anything else the first group with somebody
    in it."""
    groups = [
        Group("more", "Pay more", found.losers),
        Group("hard", f"Pay over {percent_more} % more", found.hit_hard(percent_more)),
        Group("less", "Pay less", found.winners),
        Group("same", "Pay the same", found.unchanged),
    ]
    first = next((group for group in groups if group.outcomes), groups[0])
    cost = found.cost_minor
    difference = found.then_minor - found.now_minor
    return Result(
        now=_side(found.now_minor, cost, found.currency),
        then=_side(found.then_minor, cost, found.currency),
        difference=_signed(difference, found.currency),
        share=_signed_share(difference, found.now_minor),
        cost="" if cost is None else format_money(cost, found.currency),
        groups=groups,
        chosen=next((group for group in groups if group.slug == show), first),
        customers=len(found.outcomes),
        notes=[*_left_out(found.left_out), *_refused(found)],
    )


def customer_row(one: Outcome, currency: str) -> CustomerRow:
    return CustomerRow(
        outcome=one,
        now=format_money(one.now_minor, currency),
        then=format_money(one.then_minor, currency),
        difference=_signed(one.difference_minor, currency),
        share=_signed_share(one.difference_minor, one.now_minor),
        cost=NONE if one.cost_minor is None else format_money(one.cost_minor, currency),
    )


def csv_rows(found: Simulation, outcomes: list[Outcome]) -> Iterator[list[str]]:
    """A head and a row for each customer; amounts in major units with a point, empty = not known."""
    yield [
        "organization", "name", "months", "currency", "now", "then", "difference", "cost", "margin_now", "margin_then",
        "months_refused",
    ]  # fmt: skip
    for one in outcomes:
        cost = one.cost_minor
        amounts: list[int | None] = [one.now_minor, one.then_minor, one.difference_minor, cost]
        amounts += [None, None] if cost is None else [one.now_minor - cost, one.then_minor - cost]
        shown = ["" if minor is None else f"{to_major(minor, found.currency):f}" for minor in amounts]
        yield [
            one.public_id, one.name, str(one.months), found.currency, *shown, str(one.months_refused),
        ]  # fmt: skip


def _side(revenue: int, cost: int | None, currency: str) -> Side:
    if cost is None:
        return Side(format_money(revenue, currency), NONE, "no cost prices")
    margin = revenue - cost
    share = f"{percent(Decimal(margin) / revenue)} of revenue" if revenue else "no revenue"
    return Side(format_money(revenue, currency), format_money(margin, currency), share)


def _left_out(left_out: LeftOut) -> list[str]:
    notes = [
        f"{_customers(count)} left out: {'it pays' if count == 1 else 'they pay'} in {currency}."
        for currency, count in left_out.by_currency.items()
    ]
    if count := left_out.without_months:
        notes.append(f"{_customers(count)} left out: no paid month is over yet.")
    return notes


def _refused(found: Simulation) -> list[str]:
    count = sum(one.months_refused > 0 for one in found.outcomes)
    if not count:
        return []
    words = "used more in some month than this version’s hard quotas allow, or what it does not sell: there"
    return [f"{_customers(count)} {words} usage would have been refused, and is charged at nothing here."]


def _customers(count: int) -> str:
    return f"{count:,} customer{'' if count == 1 else 's'}"


def _signed(minor: int, currency: str) -> str:
    return f"{'+' if minor > 0 else ''}{format_money(minor, currency)}"


def _signed_share(difference: int, base: int) -> str:
    if not base:
        return NONE
    return f"{'+' if difference > 0 else ''}{percent(Decimal(difference) / base)}"
