"""Charts as SVG made on the server: bars by day or hour, bars by minute, sparklines. Pure: no clock, no database.

A chart answers one question. Colours come from classes, so the tokens theme them and no style attribute is needed (CSP).
Positions across are per cent and heights are pixels: a chart fits any width while its letters keep their size, which a
viewBox would shrink on a phone. All arithmetic is in integers and fractions; bars start at zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

Quantity = int | Decimal

_TOP, _BOTTOM = 10, 26  # pixels above the highest gridline and below the base line
_BAR_SHARE = Fraction(77, 100)  # of a bar's slot; the rest is the gap
_WIDEST_BAR = Fraction(9)  # per cent of the plot, so that three bars are not three walls
_EMPTY = mark_safe("")


@dataclass(frozen=True, slots=True)
class Series:
    """One part of every bar. `tone`: empty = the colour of its place, else `other` or `bad`."""

    label: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One day, hour or minute: a value per series, what is still expected on top, and the tick below (mostly none)."""

    label: str
    values: tuple[Quantity, ...]
    expected: Quantity = 0
    tick: str = ""

    @property
    def total(self) -> Quantity:
        return sum(self.values, start=0)


@dataclass(frozen=True, slots=True)
class LegendEntry:
    label: str
    swatch: SafeString


@dataclass(frozen=True, slots=True)
class TableRow:
    """The same numbers as text, for the table behind the chart."""

    label: str
    values: tuple[str, ...]
    expected: str
    total: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars with all that a page shows of them: `components/chart.html` wants one of these.

    `ident` is unique on the page; `description` says in a sentence what the picture shows; `height` is in pixels.
    """

    ident: str
    title: str
    description: str
    series: tuple[Series, ...]
    bars: tuple[Bar, ...]
    unit: str = "calls"
    bar_heading: str = "Day"
    height: int = 176

    @property
    def svg(self) -> SafeString:
        return stacked_bars(self)

    @property
    def has_expected(self) -> bool:
        return any(bar.expected for bar in self.bars)

    @property
    def legend(self) -> tuple[LegendEntry, ...]:
        entries = [
            LegendEntry(one.label, swatch_of(_tone(self.series, at))) for at, one in enumerate(self.series)
        ]
        if self.has_expected:
            entries.append(LegendEntry("expected", _HATCHED_SWATCH))
        return tuple(entries)

    @property
    def rows(self) -> tuple[TableRow, ...]:
        return tuple(
            TableRow(
                label=bar.label,
                values=tuple(grouped(value) for value in bar.values),
                expected=grouped(bar.expected) if bar.expected else "",
                total=grouped(bar.total),
            )
            for bar in self.bars
        )


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of the live view: calls that passed and calls that were refused."""

    label: str
    passed: int
    refused: int = 0


def stacked_bars(chart: Chart) -> SafeString:
    """The chart as two SVG pictures side by side, the plot and its axis; expected amounts are hatched."""
    highest = max((bar.total + bar.expected for bar in chart.bars), default=0)
    step, top = axis_scale(highest)
    lines = [step * count for count in range(int(top / step) + 1)]
    plot = format_html(
        '<svg class="chart" width="100%" height="{height}" role="img" aria-labelledby="{ident}-title {ident}-desc">'
        '<title id="{ident}-title">{title}</title><desc id="{ident}-desc">{description}</desc>{pattern}{grid}{bars}{ticks}{none}</svg>',
        ident=chart.ident,
        height=chart.height + _TOP + _BOTTOM,
        title=chart.title,
        description=chart.description,
        pattern=_hatch(chart),
        grid=joined(_gridline(chart, line, top) for line in lines),
        bars=joined(_bar(chart, at, top) for at in range(len(chart.bars))),
        ticks=_ticks(chart),
        none=_EMPTY if highest else _nothing(chart),
    )
    axis = format_html(
        '<svg class="chart" width="36" height="{}" aria-hidden="true" focusable="false">{}</svg>',
        chart.height + _TOP + _BOTTOM,
        joined(_axis_label(chart, line, top) for line in lines),
    )
    return format_html('<div class="chart-frame">{}{}</div>', plot, axis)


def minute_chart(*, ident: str, title: str, description: str, minutes: Sequence[Minute]) -> Chart:
    """The live view: a low chart of the last minutes, oldest first, refused calls on top in their own colour."""
    count, middle = len(minutes), len(minutes) // 2
    named = {0: f"{count} min ago", middle: f"{count - middle} min", count - 1: "now"} if count > 1 else {}
    bars = tuple(
        Bar(label=one.label, values=(one.passed, one.refused), tick=named.get(at, ""))
        for at, one in enumerate(minutes)
    )
    series = (Series("passed"), Series("refused", tone="bad"))
    return Chart(ident, title, description, series, bars, bar_heading="Minute", height=72)


def minute_bars(*, ident: str, title: str, description: str, minutes: Sequence[Minute]) -> SafeString:
    """The picture of `minute_chart` alone."""
    return minute_chart(ident=ident, title=title, description=description, minutes=minutes).svg


def sparkline(values: Sequence[Quantity], *, title: str) -> SafeString:
    """A small line without axes, for a table's cell; `title` says in words what it shows."""
    width, height = 84, 20
    highest = max(values, default=0)
    count = max(len(values) - 1, 1)
    points = " ".join(
        f"{plain_number(Fraction(at * width, count))},{plain_number(_level(value, highest, height - 3) + 2)}"
        for at, value in enumerate(values)
    )
    return format_html(
        '<svg class="sparkline" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none"><title>{}</title>'
        '<line class="base" x1="0" x2="{}" y1="{}" y2="{}"/><polyline points="{}"/></svg>',
        width, height, title, width, height - 1, height - 1, points,
    )  # fmt: skip


def keep_largest(
    totals: Mapping[str, Sequence[Quantity]], *, keep: int = 3, rest: str = "other"
) -> tuple[tuple[Series, ...], tuple[tuple[Quantity, ...], ...]]:
    """The `keep` largest of many named rows and the sum of the others: the series, and a column of values per bar."""
    ordered = sorted(totals.items(), key=lambda item: (-sum(item[1]), item[0]))
    rows = [list(values) for _, values in ordered[:keep]]
    series = [Series(name) for name, _ in ordered[:keep]]
    if others := [values for _, values in ordered[keep:]]:
        rows.append([sum(column, start=0) for column in zip(*others, strict=True)])
        series.append(Series(rest, tone="other"))
    return tuple(series), tuple(zip(*rows, strict=True))


def grouped(value: Quantity) -> str:
    """`38,412`, `1,024.5`: thousands apart, no zeros behind the last digit that counts."""
    text = f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(value: Quantity) -> str:
    """`0`, `950`, `1.5k`, `12k`, `3.2M`: for axes, where the exact number stands elsewhere. Cut, never rounded up."""
    amount = Fraction(value)
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if amount >= size:
            whole, tenth = divmod(int(amount * 10 / size), 10)
            return f"{whole}.{tenth}{letter}" if tenth and whole < 100 else f"{whole}{letter}"
    return plain_number(amount)


def axis_scale(highest: Quantity) -> tuple[Fraction, Fraction]:
    """Distance of gridlines and top of the axis: 1, 2 or 5 times a power of ten, at most three lines above zero."""
    if highest <= 0:
        return Fraction(5), Fraction(10)
    goal = Fraction(highest)
    power = Fraction(1)
    while power * 10 <= goal:
        power *= 10
    while power > goal:
        power /= 10
    steps = (power * factor / 10 for factor in (2, 5, 10, 20, 50))
    step = next(step for step in steps if step * 3 >= goal)
    return step, step * -(-goal // step)


def _level(value: Quantity | Fraction, top: Quantity | Fraction, height: int) -> Fraction:
    """Distance from the upper edge in pixels."""
    return height - Fraction(value) * height / Fraction(top) if top else Fraction(height)


def _bar(chart: Chart, at: int, top: Fraction) -> SafeString:
    bar = chart.bars[at]
    left, width = bar_place(at, len(chart.bars))
    parts, base = [], Fraction(0)
    amounts = [(value, _tone(chart.series, place)) for place, value in enumerate(bar.values)]
    for value, tone in amounts:
        if value > 0:
            parts.append(
                _part(chart, base, Fraction(value), top, left, width, format_html('class="{}"', tone))
            )
            base += Fraction(value)
    if bar.expected > 0:
        fill = format_html('fill="url(#{}-hatch)"', chart.ident)
        parts.append(_part(chart, base, Fraction(bar.expected), top, left, width, fill))
    slot = Fraction(100, len(chart.bars))
    return format_html(
        '<g class="bar"><title>{}</title><rect class="hit" x="{}%" width="{}%" y="{}" height="{}"/>{}</g>',
        _in_words(chart, bar), plain_number(slot * at), plain_number(slot), _TOP, chart.height, joined(parts),
    )  # fmt: skip


def _part(
    chart: Chart,
    base: Fraction,
    value: Fraction,
    top: Fraction,
    left: Fraction,
    width: Fraction,
    paint: SafeString,
) -> SafeString:
    """One stacked piece; a pixel of air parts it from the piece above, and what is not zero can be seen."""
    upper, lower = _level(base + value, top, chart.height), _level(base, top, chart.height)
    height = max(lower - upper - 1, Fraction(1))
    return format_html(
        '<rect {} x="{}%" width="{}%" y="{}" height="{}" rx="{}"/>',
        paint, plain_number(left), plain_number(width), plain_number(lower - height + _TOP), plain_number(height), 2 if height > 4 else 0,
    )  # fmt: skip


def bar_place(at: int, count: int) -> tuple[Fraction, Fraction]:
    """Left edge and width of a bar, per cent of the plot."""
    slot = Fraction(100, count)
    width = min(slot * _BAR_SHARE, _WIDEST_BAR)
    return slot * at + (slot - width) / 2, width


def _in_words(chart: Chart, bar: Bar) -> str:
    parts = ", ".join(
        f"{one.label} {grouped(value)}" for one, value in zip(chart.series, bar.values, strict=True) if value
    )
    words = [
        f"{grouped(bar.total)} {chart.unit}" + (f" ({parts})" if parts and len(chart.series) > 1 else "")
    ]
    if bar.expected:
        expected = f"about {grouped(bar.expected)} {chart.unit} expected"
        words = [*words, expected] if bar.total else [expected]
    return f"{bar.label}: {', '.join(words)}"


def _gridline(chart: Chart, line: Fraction, top: Fraction) -> SafeString:
    y = plain_number(_level(line, top, chart.height) + _TOP)
    return format_html('<line class="grid" x1="0" x2="100%" y1="{}" y2="{}"/>', y, y)


def _axis_label(chart: Chart, line: Fraction, top: Fraction) -> SafeString:
    y = plain_number(_level(line, top, chart.height) + _TOP + 4)
    value = Decimal(line.numerator) / Decimal(line.denominator)
    return format_html('<text x="8" y="{}">{}</text>', y, short(value))


def _ticks(chart: Chart) -> SafeString:
    """Labels below; small screens show every second one and the last, and the outer ones stay inside the plot."""
    named = [at for at, bar in enumerate(chart.bars) if bar.tick]
    last, places = len(chart.bars) - 1, len(named)
    # With an even number the one before the last would touch it.
    crowded = {
        at for at in range(places - 1) if at % 2 == 1 or (places % 2 == 0 and at == places - 2 and at > 0)
    }
    return joined(_tick(chart, at, last=last, is_minor=place in crowded) for place, at in enumerate(named))


def _tick(chart: Chart, at: int, *, last: int, is_minor: bool) -> SafeString:
    left, width = bar_place(at, len(chart.bars))
    x, anchor = left + width / 2, "middle"
    if at == 0 and last > 6:
        x, anchor = left, "start"
    elif at == last and last > 6:
        x, anchor = left + width, "end"
    return format_html(
        '<text class="{}" x="{}%" y="{}" text-anchor="{}">{}</text>',
        "tick minor" if is_minor else "tick", plain_number(x), chart.height + _TOP + 17, anchor, chart.bars[at].tick,
    )  # fmt: skip


def _nothing(chart: Chart) -> SafeString:
    """An empty plot says so: without words it looks like one that failed to load."""
    return format_html(
        '<text class="none" x="50%" y="{}" text-anchor="middle">No {} in this time</text>',
        _TOP + chart.height // 2 + 4,
        chart.unit,
    )


def _hatch(chart: Chart) -> SafeString:
    if not chart.has_expected:
        return _EMPTY
    return format_html(
        '<defs><pattern id="{}-hatch" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<path class="hatch" d="M-1 1L1 -1M0 6L6 0M5 7L7 5"/></pattern></defs>',
        chart.ident,
    )


def _tone(series: Sequence[Series], at: int) -> str:
    tone = series[at].tone
    if tone == "bad":
        return "bad"
    return "s-other" if tone == "other" or at > 2 else f"s{at + 1}"


def swatch_of(tone: str) -> SafeString:
    return format_html(
        '<svg viewBox="0 0 9 9" aria-hidden="true" focusable="false"><rect class="{}" width="9" height="9" rx="2"/></svg>',
        tone,
    )


_HATCHED_SWATCH = mark_safe(
    '<svg viewBox="0 0 9 9" aria-hidden="true" focusable="false">'
    '<path class="hatch" d="M0 3L3 0M0 6L6 0M0 9L9 0M3 9L9 3M6 9L9 6"/></svg>'
)


def plain_number(value: Fraction) -> str:
    """Up to three decimals without trailing zeros."""
    thousandths = round(value * 1000)
    whole, rest = divmod(abs(thousandths), 1000)
    sign = "-" if thousandths < 0 else ""
    return f"{sign}{whole}.{rest:03d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


def joined(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))
