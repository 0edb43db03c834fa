import pytest

from core.spreadsheets import harmless


@pytest.mark.parametrize(
    ("cell", "safe"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("\tx", "'\tx"), ("-12.50", "-12.50"), ("-", "'-"), ("acme", "acme"), ("", "")],
)  # fmt: skip
def test_no_text_becomes_a_formula_and_numbers_stay_numbers(cell: str, safe: str) -> None:
    assert harmless(cell) == safe
