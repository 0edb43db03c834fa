"""Text for CSV files that people open in a spreadsheet."""

from collections.abc import Iterable, Iterator, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: str) -> str:
    """No text becomes a formula; numbers stay numbers."""
    is_number = cell[1:].replace(".", "").isdigit()
    return f"'{cell}" if cell.startswith(_FORMULA) and not is_number else cell


def harmless_rows(rows: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Rows of texts as `harmless` writes each cell."""
    return ([harmless(cell) for cell in row] for row in rows)
