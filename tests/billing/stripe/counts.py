"""How often a proof runs: once in the test suite, as often as `python -m tests.billing.stripe.figures` asks for otherwise.

Cases run in parts: one empty account of Stripe's and one empty database for many cases, which is what makes thousands affordable.
"""

import os
from collections.abc import Callable

Record = Callable[[str, object], None]  # pytest's record_property; the command adds up what tests say


def parts(name: str, *, usual: int, size: int) -> list[range]:
    """The numbers of the cases of FAREBOX_FIGURE_<name>, or the usual few, cut into parts."""
    asked = int(os.environ.get(f"FAREBOX_FIGURE_{name}", usual))
    return [range(first, min(first + size, asked)) for first in range(0, asked, size)]


def words(part: range) -> str:
    """As pytest names the part."""
    return f"{part.start}-{part.stop - 1}"
