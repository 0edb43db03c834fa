"""What apps above have to say about plan versions on the pages of staff: billing, whether Stripe has their prices."""

from collections.abc import Callable, Iterable

from plans.models import PlanVersion

Marks = dict[int, list[str]]  # by version, in words

MORE_MARKS: list[Callable[[list[PlanVersion]], Marks]] = []


def marks_of(versions: Iterable[PlanVersion]) -> Marks:
    """All marks of these versions; a few queries, however many versions."""
    found: Marks = {}
    listed = list(versions)
    for more in MORE_MARKS:
        for pk, words in more(listed).items():
            found.setdefault(pk, []).extend(words)
    return found
