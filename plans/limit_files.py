"""Rate limits in a plan file: by names where the database has rows."""

from decimal import Decimal
from typing import TypeVar

from plans.models import Counted, LanguageModel, Meter, PlanVersion, RateLimit, Route
from plans.plan_file import LimitEntry, PlanFileWrong, plain

Row = TypeVar("Row", LanguageModel, Meter)


def limit_entry(limit: RateLimit) -> LimitEntry:
    """A row as a file says it."""
    is_of_units = limit.measure == Counted.UNITS
    return LimitEntry(
        window_seconds=limit.window_seconds,
        calls=0 if is_of_units else int(limit.calls),
        measure=limit.measure,
        scope=limit.scope,
        route=str(limit.route) if limit.route is not None else "",
        model=limit.model.name if limit.model is not None else "",
        meter=limit.meter.slug if limit.meter is not None else "",
        units=Decimal(plain(limit.calls)) if is_of_units else None,
    )


def limit_row(version: PlanVersion, entry: LimitEntry, where: str) -> RateLimit:
    """The row that an entry asks for, not saved. Raises PlanFileWrong for names of nothing."""
    return RateLimit(
        version=version,
        scope=entry.scope,
        route=_find_route(entry.route, where) if entry.route else None,
        model=_find(LanguageModel.objects.filter(name=entry.model).first(), entry.model, where),
        calls=entry.units if entry.units is not None else Decimal(entry.calls),
        measure=entry.measure,
        meter=_find(Meter.objects.filter(slug=entry.meter).first(), entry.meter, where),
        window_seconds=entry.window_seconds,
    )


def entry_words(entry: LimitEntry) -> str:
    """An entry in one line of a difference."""
    many = plain(entry.units) if entry.units is not None else entry.calls
    of = entry.meter or entry.measure
    window = f"per {entry.window_seconds} s" if entry.window_seconds else "at a time"
    place = {"organization": "", "key": " of each key"}.get(entry.scope, f" of {entry.route or entry.model}")
    return f"{many} {of} {window}{place}"


def _find(row: Row | None, name: str, where: str) -> Row | None:
    if name and row is None:
        raise PlanFileWrong(f"{where}: there is no {name}.")
    return row


def _find_route(name: str, where: str) -> Route:
    """By product and path; where several methods share a path, the first by position would be a guess."""
    slug, slash, path = name.partition("/")
    found = list(Route.objects.filter(product__slug=slug, path=slash + path, archived_at=None)[:2])
    if len(found) != 1:
        problem = "there is no route" if not found else "there are several routes"
        raise PlanFileWrong(f"{where}: {problem} {name}.")
    return found[0]
