"""Text for CSV files that people open in a spreadsheet."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: str) -> str:
    """No text becomes a formula; numbers stay numbers."""
    is_number = cell[1:].replace(".", "").isdigit()
    return f"'{cell}" if cell.startswith(_FORMULA) and not is_number else cell
