"""Gains above a line and losses below it, by month, as SVG made on the server. Pure; shown by `components/chart.html`.

Drawn as `dashboard/charts.py` draws: positions across in per cent, heights in pixels, colours from classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.money import format_money, to_major
from dashboard.charts import (
    LegendEntry,
    TableRow,
    axis_scale,
    bar_place,
    joined,
    plain_number,
    short,
    swatch_of,
)

_TOP, _BOTTOM = 10, 26  # pixels above the highest line and below the lowest


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of movement. `tone` is a colour class of charts.css; losses go down."""

    label: str
    tone: str
    is_loss: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """A month: an amount of at least nothing per flow, minor units, and the tick below."""

    label: str
    amounts: tuple[int, ...]
    tick: str = ""


@dataclass(frozen=True, slots=True)
class MovementChart:
    """What a page shows of the movements. `ident` is unique on the page; `height` in pixels, both halves together."""

    ident: str
    title: str
    description: str
    flows: tuple[Flow, ...]
    months: tuple[Moved, ...]
    currency: str
    height: int = 200
    bar_heading: str = "Month"
    has_expected: bool = False

    @property
    def series(self) -> tuple[Flow, ...]:
        return self.flows

    @property
    def legend(self) -> tuple[LegendEntry, ...]:
        return tuple(LegendEntry(flow.label, swatch_of(flow.tone)) for flow in self.flows)

    @property
    def rows(self) -> tuple[TableRow, ...]:
        return tuple(
            TableRow(
                label=month.label,
                values=tuple(format_money(self._signed(at, minor), self.currency) for at, minor in enumerate(month.amounts)),
                expected="",
                total=format_money(self.net(month), self.currency),
            )
            for month in self.months
        )  # fmt: skip

    @property
    def svg(self) -> SafeString:
        return movement_bars(self)

    def net(self, month: Moved) -> int:
        """What the month added, minor units."""
        return sum(self._signed(at, minor) for at, minor in enumerate(month.amounts))

    def halves(self, month: Moved) -> tuple[int, int]:
        """Gains and losses of a month, both of at least nothing."""
        gains = sum(minor for minor, flow in zip(month.amounts, self.flows, strict=True) if not flow.is_loss)
        return gains, sum(month.amounts) - gains

    def _signed(self, at: int, minor: int) -> int:
        return -minor if self.flows[at].is_loss else minor


@dataclass(frozen=True, slots=True)
class _Axis:
    """Major units between gridlines, and how many of them there are above and below the base line."""

    step: Fraction
    above: int
    below: int
    height: int

    def y(self, amount: Fraction) -> Fraction:
        """Pixels from the upper edge of an amount, losses negative."""
        return _TOP + (self.above * self.step - amount) * self.height / (
            (self.above + self.below) * self.step
        )


def movement_bars(chart: MovementChart) -> SafeString:
    """The picture: the plot and its axis side by side."""
    axis = _axis(chart)
    lines = [axis.step * count for count in range(-axis.below, axis.above + 1)]
    is_empty = not any(sum(month.amounts) for month in chart.months)
    plot = format_html(
        '<svg class="chart" width="100%" height="{height}" role="img" aria-labelledby="{ident}-title {ident}-desc">'
        '<title id="{ident}-title">{title}</title><desc id="{ident}-desc">{description}</desc>{grid}{bars}{ticks}{none}</svg>',
        ident=chart.ident,
        height=chart.height + _TOP + _BOTTOM,
        title=chart.title,
        description=chart.description,
        grid=joined(_gridline(axis, line) for line in lines),
        bars=joined(_bar(chart, axis, at) for at in range(len(chart.months))),
        ticks=joined(_tick(chart, at) for at in range(len(chart.months))),
        none=_nothing(chart) if is_empty else "",
    )
    labels = format_html(
        '<svg class="chart" width="36" height="{}" aria-hidden="true" focusable="false">{}</svg>',
        chart.height + _TOP + _BOTTOM,
        joined(_label(axis, line) for line in lines),
    )
    return format_html('<div class="chart-frame">{}{}</div>', plot, labels)


def _axis(chart: MovementChart) -> _Axis:
    """One distance of gridlines for both halves, made for the larger one."""
    gains, losses = (max(half) for half in zip((0, 0), *map(chart.halves, chart.months), strict=True))
    up, down = _major(chart, gains), _major(chart, losses)
    step, _ = axis_scale(ceil(max(up, down)))
    return _Axis(step, max(-(-up // step), 1), -(-down // step), chart.height)


def _major(chart: MovementChart, minor: int) -> Fraction:
    return Fraction(to_major(minor, chart.currency))


def _bar(chart: MovementChart, axis: _Axis, at: int) -> SafeString:
    month, slot = chart.months[at], Fraction(100, len(chart.months))
    parts = [*_stack(chart, axis, at, is_loss=False), *_stack(chart, axis, at, is_loss=True)]
    return format_html(
        '<g class="bar"><title>{}</title><rect class="hit" x="{}%" width="{}%" y="{}" height="{}"/>{}</g>',
        _in_words(chart, month), plain_number(slot * at), plain_number(slot), _TOP, chart.height, joined(parts),
    )  # fmt: skip


def _stack(chart: MovementChart, axis: _Axis, at: int, *, is_loss: bool) -> Iterable[SafeString]:
    """The pieces of one half, from the base line outwards; a pixel of air parts them, and what is not zero is seen."""
    left, width = bar_place(at, len(chart.months))
    base, sign = Fraction(0), -1 if is_loss else 1
    for flow, minor in zip(chart.flows, chart.months[at].amounts, strict=True):
        if flow.is_loss != is_loss or minor <= 0:
            continue
        end = base + sign * _major(chart, minor)
        near, far = axis.y(base), axis.y(end)
        height = max(abs(far - near) - 1, Fraction(1))
        upper = near + 1 if is_loss else near - height
        yield format_html(
            '<rect class="{}" x="{}%" width="{}%" y="{}" height="{}" rx="{}"/>',
            flow.tone, plain_number(left), plain_number(width), plain_number(upper), plain_number(height),
            2 if height > 4 else 0,
        )  # fmt: skip
        base = end


def _in_words(chart: MovementChart, month: Moved) -> str:
    parts = ", ".join(
        f"{flow.label} {format_money(minor, chart.currency)}"
        for flow, minor in zip(chart.flows, month.amounts, strict=True)
        if minor
    )
    net = format_money(chart.net(month), chart.currency)
    return f"{month.label}: {net} net ({parts})" if parts else f"{month.label}: nothing moved"


def _gridline(axis: _Axis, line: Fraction) -> SafeString:
    y = plain_number(axis.y(line))
    return format_html(
        '<line class="{}" x1="0" x2="100%" y1="{}" y2="{}"/>', "grid" if line else "grid base", y, y
    )


def _label(axis: _Axis, line: Fraction) -> SafeString:
    size = short(int(abs(line))) if line.denominator == 1 else plain_number(abs(line))
    return format_html(
        '<text x="8" y="{}">{}{}</text>', plain_number(axis.y(line) + 4), "−" if line < 0 else "", size
    )


def _tick(chart: MovementChart, at: int) -> SafeString:
    """A month's name; small screens show every second one, counted from the last."""
    left, width = bar_place(at, len(chart.months))
    is_minor = (len(chart.months) - 1 - at) % 2 == 1
    return format_html(
        '<text class="{}" x="{}%" y="{}" text-anchor="middle">{}</text>',
        "tick minor" if is_minor else "tick", plain_number(left + width / 2), chart.height + _TOP + 17,
        chart.months[at].tick,
    )  # fmt: skip


def _nothing(chart: MovementChart) -> SafeString:
    return format_html(
        '<text class="none" x="50%" y="{}" text-anchor="middle">Nothing moved in this time</text>',
        _TOP + chart.height // 2 + 4,
    )
