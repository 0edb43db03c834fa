"""Charts: what the picture holds, in which heights, and that nothing foreign gets into it."""

import xml.etree.ElementTree as ET
from decimal import Decimal
from fractions import Fraction

import pytest

from dashboard.charts import (
    Bar,
    Chart,
    Minute,
    Series,
    grouped,
    keep_largest,
    minute_bars,
    minute_chart,
    short,
    sparkline,
    stacked_bars,
)

DAYS = (
    Bar("1 Nov", (800, 400), tick="1 Nov"),
    Bar("2 Nov", (0, 0)),
    Bar("3 Nov", (600, 0), expected=1_000, tick="3 Nov"),
)


def make_chart(
    bars: tuple[Bar, ...] = DAYS,
    series: tuple[Series, ...] = (Series("production"), Series("staging")),
    title: str = "Calls per day",
    height: int = 200,
) -> Chart:
    return Chart(
        ident="calls", title=title, description="Calls by key.", series=series, bars=bars, height=height
    )


def parse(svg: str) -> ET.Element:
    """The picture as a tree; a broken one fails here."""
    return ET.fromstring(f"<root>{svg}</root>")


def rects(tree: ET.Element, *, tone: str) -> list[ET.Element]:
    return [one for one in tree.iter("rect") if one.get("class") == tone]


def test_bar_heights_are_in_proportion_from_zero() -> None:
    tree = parse(stacked_bars(make_chart()))
    first, third = rects(tree, tone="s1")
    # The axis ends at 2,000; a pixel is left between the pieces.
    assert Fraction(first.get("height", "")) == Fraction(200 * 800, 2_000) - 1
    assert Fraction(third.get("height", "")) == Fraction(200 * 600, 2_000) - 1


def test_pieces_of_a_bar_stand_on_each_other() -> None:
    tree = parse(stacked_bars(make_chart()))
    lower, upper = rects(tree, tone="s1")[0], rects(tree, tone="s2")[0]
    upper_end = Fraction(upper.get("y", "")) + Fraction(upper.get("height", ""))
    assert upper_end < Fraction(lower.get("y", ""))
    assert upper.get("x") == lower.get("x")


def test_axis_has_few_round_labels_and_starts_at_zero() -> None:
    texts = [one.text for one in parse(stacked_bars(make_chart())).iter("text")]
    assert texts == ["1 Nov", "3 Nov", "0", "1k", "2k"]


def test_expected_part_is_hatched_and_named() -> None:
    tree = parse(stacked_bars(make_chart()))
    hatched = [one for one in tree.iter("rect") if one.get("fill") == "url(#calls-hatch)"]
    assert len(hatched) == 1
    assert [one.get("id") for one in tree.iter("pattern")] == ["calls-hatch"]
    titles = [one.text for one in tree.iter("title")]
    assert "3 Nov: 600 calls (production 600), about 1,000 calls expected" in titles


def test_screen_reader_gets_title_and_description() -> None:
    picture = parse(stacked_bars(make_chart())).find(".//svg[@role='img']")
    assert picture is not None
    assert picture.get("aria-labelledby") == "calls-title calls-desc"
    assert [picture.findtext("title"), picture.findtext("desc")] == ["Calls per day", "Calls by key."]


def test_foreign_text_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    svg = stacked_bars(make_chart(bars=(Bar(evil, (1,), tick=evil),), series=(Series(evil),), title=evil))
    assert "<script" not in svg
    assert [one.text for one in parse(svg).iter("title")][0] == evil


def test_no_style_attribute_and_no_colour_stands_in_the_picture() -> None:
    svg = stacked_bars(make_chart()) + sparkline([1, 2], title="x")
    assert "style=" not in svg
    assert "#0" not in svg


@pytest.mark.parametrize("bars", [(), (Bar("1 Nov", (0, 0)),)])
def test_nothing_to_show_is_an_empty_plot(bars: tuple[Bar, ...]) -> None:
    tree = parse(stacked_bars(make_chart(bars=bars)))
    assert rects(tree, tone="s1") == []
    assert [one.text for one in tree.iter("text")] == ["No calls in this time", "0", "5", "10"]


def test_tiny_value_can_still_be_seen() -> None:
    tree = parse(stacked_bars(make_chart(bars=(Bar("a", (1, 0)), Bar("b", (1_000_000, 0))))))
    assert Fraction(rects(tree, tone="s1")[0].get("height", "")) == 1


def test_fractions_of_units_are_drawn_without_floats() -> None:
    chart = make_chart(bars=(Bar("a", (Decimal("0.3"), Decimal("0.15"))),))
    tree = parse(stacked_bars(chart))
    assert [one.text for one in tree.iter("text")] == ["0", "0.2", "0.4", "0.6"]
    assert Fraction(rects(tree, tone="s1")[0].get("height", "")) == 99


def test_fourth_series_and_the_rest_share_the_quiet_colour() -> None:
    names = tuple(Series(name) for name in "abcd")
    svg = stacked_bars(make_chart(bars=(Bar("1 Nov", (1, 1, 1, 1)),), series=names))
    assert [len(rects(parse(svg), tone=tone)) for tone in ("s1", "s2", "s3", "s-other")] == [1, 1, 1, 1]


def test_table_and_legend_hold_the_same_numbers() -> None:
    chart = make_chart()
    assert [entry.label for entry in chart.legend] == ["production", "staging", "expected"]
    assert [(row.label, row.values, row.expected, row.total) for row in chart.rows] == [
        ("1 Nov", ("800", "400"), "", "1,200"),
        ("2 Nov", ("0", "0"), "", "0"),
        ("3 Nov", ("600", "0"), "1,000", "600"),
    ]


def test_small_screens_leave_out_ticks_that_would_touch() -> None:
    bars = tuple(Bar(str(day), (1, 1), tick=str(day)) for day in range(8))
    classes = [
        one.get("class")
        for one in parse(stacked_bars(make_chart(bars=bars))).iter("text")
        if one.get("class")
    ]
    assert classes == ["tick", "tick minor"] * 3 + ["tick minor", "tick"]


def test_minutes_show_refused_calls_apart() -> None:
    minutes = [Minute(f"14:{at:02}", passed=5, refused=at % 2) for at in range(60)]
    svg = minute_bars(ident="live", title="Last 60 minutes", description="By minute.", minutes=minutes)
    tree = parse(svg)
    assert len(rects(tree, tone="s1")) == 60
    assert len(rects(tree, tone="bad")) == 30
    ticks = [one.text for one in tree.iter("text") if one.get("class")]
    assert ticks[:3] == ["60 min ago", "30 min", "now"]


def test_no_minutes_is_an_empty_plot() -> None:
    chart = minute_chart(ident="live", title="Live", description="By minute.", minutes=[])
    assert chart.bars == ()
    assert parse(chart.svg).find(".//rect") is None


def test_sparkline_runs_from_edge_to_edge() -> None:
    line = parse(sparkline([0, 5, 10], title="Last 3 days")).find(".//polyline")
    assert line is not None
    assert line.get("points") == "0,19 42,10.5 84,2"


@pytest.mark.parametrize("values", [[], [0], [0, 0]])
def test_sparkline_of_nothing_is_flat(values: list[int]) -> None:
    line = parse(sparkline(values, title="Nothing")).find(".//polyline")
    assert line is not None
    assert {point.partition(",")[2] for point in line.get("points", "").split()} <= {"19"}


def test_largest_series_are_kept_and_the_rest_is_summed() -> None:
    totals = {"a": [1, 1], "b": [5, 5], "c": [3, 0], "d": [2, 2], "e": [0, 1]}
    series, columns = keep_largest(totals, keep=2)
    assert [(one.label, one.tone) for one in series] == [("b", ""), ("d", ""), ("other", "other")]
    assert columns == ((5, 2, 4), (5, 2, 2))


def test_few_series_have_no_rest() -> None:
    series, columns = keep_largest({"a": [1, 2]}, keep=3)
    assert [one.label for one in series] == ["a"]
    assert columns == ((1,), (2,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (38_412, "38,412"),
        (-1_200, "-1,200"),
        (Decimal("1024.500"), "1,024.5"),
        (Decimal("1E+3"), "1,000"),
        (Decimal("10.00"), "10"),
    ],
)
def test_grouped(value: int | Decimal, text: str) -> None:
    assert grouped(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1_000, "1k"), (1_500, "1.5k"), (1_999, "1.9k"), (150_500, "150k"), (3_200_000, "3.2M"), (10**9, "1G"), (Decimal("0.25"), "0.25")],
)  # fmt: skip
def test_short(value: int | Decimal, text: str) -> None:
    assert short(value) == text
