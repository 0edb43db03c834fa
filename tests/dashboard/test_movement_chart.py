import xml.etree.ElementTree as ET

from dashboard.movement_chart import Flow, Moved, MovementChart

FLOWS = (Flow("new", "s1"), Flow("expansion", "s2"), Flow("churn", "bad", is_loss=True))


def chart(*months: Moved, title: str = "Movements") -> MovementChart:
    return MovementChart("m", title, "What moved.", FLOWS, months, "USD", height=200)


def pieces(made: MovementChart) -> dict[str, ET.Element]:
    tree = ET.fromstring(f"<root>{made.svg}</root>")
    return {one.get("class", ""): one for one in tree.iter("rect") if one.get("class") != "hit"}


def test_gains_stand_on_the_base_line_and_losses_hang_from_it() -> None:
    # 100 up and 100 down on an axis of 50: two steps each way, the base line in the middle of 200 pixels.
    found = pieces(chart(Moved("May", (6_000, 4_000, 10_000), "May")))
    new, expansion, churn = found["s1"], found["s2"], found["bad"]
    base = 10 + 100
    assert (float(new.get("y", "")) + float(new.get("height", "")), float(new.get("height", ""))) == (
        base,
        59,
    )
    assert float(expansion.get("y", "")) + float(expansion.get("height", "")) == base - 60
    assert (float(churn.get("y", "")), float(churn.get("height", ""))) == (base + 1, 99)


def test_without_losses_there_is_no_lower_half() -> None:
    new = pieces(chart(Moved("May", (10_000, 0, 0))))["s1"]
    assert (float(new.get("y", "")), float(new.get("height", ""))) == (11, 199)


def test_the_table_has_the_same_numbers_with_their_signs() -> None:
    (row,) = chart(Moved("May 2026", (6_000, 0, 10_000))).rows
    assert (row.label, row.values, row.total) == ("May 2026", ("$60.00", "$0.00", "-$100.00"), "-$40.00")


def test_a_chart_in_which_nothing_moved_says_so() -> None:
    assert "Nothing moved in this time" in chart(Moved("May", (0, 0, 0))).svg
    assert "Nothing moved" not in chart(Moved("May", (1, 0, 0))).svg


def test_foreign_text_is_escaped() -> None:
    assert "<script>" not in chart(Moved("<script>", (1, 0, 0)), title="<script>").svg
