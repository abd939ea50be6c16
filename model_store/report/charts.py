"""The charts of a report as inline SVG: readable on a phone, colored by CSS classes for light mode, dark mode and print.

The two colors (blue and vermilion of Okabe and Ito's palette) are distinguishable with any color vision, and no chart relies on color
alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from model_store.report.html import Markup, element, join

WIDTH = 400
LEFT, RIGHT, TOP = 46, 380, 14
FRAME_TOP, FRAME_BOTTOM = 34, 316
"""Frame of charts with two axes, with space for the name of the vertical axis above."""

ROW = 40
OFF_SCALE = 8.0
"""A row that reaches this many times further than the nearest one is drawn as an arrow, so that the others do not shrink to dots."""

SMALLEST_REACH = 0.0005
"""Minimum reach of an axis: numbers are printed with five digits, and smaller values are rounding."""


Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A number with its interval, one line of a chart."""

    name: str
    value: float
    low: float | None
    high: float | None
    words: str
    """The number as text."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve through points, with its name beside it."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    label_at: int
    """Index of the point beside which the name is shown."""
    below: bool = False


def interval_chart(rows: Sequence[Row], *, alt: str, unit: Callable[[float], str], left: str, right: str) -> Markup:
    """Draws numbers with their intervals around a line at 0; ``left`` and ``right`` describe the two sides."""
    reach = _reach(rows)
    scale = scale_between(-reach, reach, 12, RIGHT)
    bottom = TOP + ROW * len(rows) + 6
    parts = [element("line", class_="zero", x1=scale(0), x2=scale(0), y1=TOP + 4, y2=bottom)]
    for place, row in enumerate(rows):
        y = TOP + ROW * place + 8
        parts += [
            element("text", row.name, class_="label", x=12, y=y + 4),
            element("text", row.words, class_="number", x=RIGHT, y=y + 4, text_anchor="end"),
            _interval(row, scale, reach, y + 18),
        ]
    parts += [_axis_below(scale, ticks(-reach, reach, 4), unit, bottom)]
    parts += [
        element("text", f"← {left}", class_="axis", x=12, y=bottom + 32),
        element("text", f"{right} →", class_="axis", x=RIGHT, y=bottom + 32, text_anchor="end"),
    ]
    return svg(bottom + 38, alt, *parts)


def calibration_chart(points: Sequence[Row], predicted: Sequence[float], *, alt: str, unit: Callable[[float], str]) -> Markup:
    """Draws true rates (with intervals) over predicted rates; both are equal on the diagonal."""
    reach = 1.08 * max([SMALLEST_REACH, *predicted, *(row.high or row.value for row in points)])
    x, y = scale_between(0, reach, LEFT, RIGHT), scale_between(0, reach, FRAME_BOTTOM, FRAME_TOP)
    parts = [*_frame(x, y, ticks(0, reach, 5), unit)]
    parts += [
        element("line", class_="diagonal", x1=x(0), y1=y(0), x2=x(reach), y2=y(reach)),
        element("text", "below the line: predicted too high", class_="axis", x=RIGHT - 8, y=FRAME_BOTTOM - 10, text_anchor="end"),
    ]
    for row, at in zip(points, predicted, strict=True):
        if row.low is not None and row.high is not None:
            parts.append(element("line", class_="own whisker", x1=x(at), x2=x(at), y1=y(row.low), y2=y(row.high)))
        parts.append(element("circle", element("title", row.words), class_="own dot", cx=x(at), cy=y(row.value), r=4.5))
    parts += _axis_names("predicted conversions per click", "true conversions per click")
    return svg(FRAME_BOTTOM + 44, alt, *parts)


def curve_chart(lines: Sequence[Line], *, alt: str, unit: Callable[[float], str], below: str, upward: str) -> Markup:
    """Draws curves from 0 to 1 on both axes."""
    x, y = scale_between(0, 1, LEFT, RIGHT), scale_between(0, 1, FRAME_BOTTOM, FRAME_TOP)
    parts = [*_frame(x, y, [0, 0.25, 0.5, 0.75, 1], unit)]
    for line in lines:
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
        parts.append(element("polyline", class_=f"{line.style} curve", points=path))
    for line in lines:
        a, b = line.points[line.label_at]
        label_x, label_y, anchor = (x(a) + 8, y(b) + 16, "start") if line.below else (x(a) - 6, y(b) - 8, "end")
        parts.append(element("text", line.name, class_=f"{line.style} name", x=label_x, y=label_y, text_anchor=anchor))
    parts += _axis_names(below, upward)
    return svg(FRAME_BOTTOM + 44, alt, *parts)


def bar_chart(numbers: Sequence[tuple[str, float]], *, alt: str, unit: Callable[[float], str]) -> Markup:
    """Draws a bar for each number, to the left of 0 for negative ones; name and number are shown above the bar."""
    low, high = min([0.0, *(number for _, number in numbers)]), max([0.0, *(number for _, number in numbers)])
    scale = scale_between(low, high if high > low else low + 1, 12, RIGHT)
    row = 32
    parts = []
    for place, (name, number) in enumerate(numbers):
        y = TOP + row * place
        start, end = sorted((scale(0), scale(number)))
        parts += [
            element("text", name, class_="label", x=12, y=y + 4),
            element("text", unit(number), class_="number", x=RIGHT, y=y + 4, text_anchor="end"),
            element("rect", class_="track", x=12, y=y + 10, width=RIGHT - 12, height=8, rx=2),
            element(
                "rect", class_="own bar" if number >= 0 else "other bar", x=start, y=y + 10, width=max(end - start, 1.0), height=8, rx=2
            ),
        ]
    if low < 0 < high:
        parts.append(element("line", class_="zero", x1=scale(0), x2=scale(0), y1=TOP + 6, y2=TOP + row * len(numbers)))
    return svg(TOP + row * len(numbers), alt, *parts)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Returns about ``count`` round numbers between the two ends."""
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def scale_between(low: float, high: float, start: float, end: float) -> Scale:
    """Returns the linear scale that maps ``low`` to ``start`` and ``high`` to ``end``."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _reach(rows: Sequence[Row]) -> float:
    """Returns the reach of the axis on each side of 0: that of the widest row that is not off scale."""
    reaches = sorted(max(abs(row.value), abs(row.low or 0), abs(row.high or 0)) for row in rows)
    nearest = next((reach for reach in reaches if reach > SMALLEST_REACH), SMALLEST_REACH)
    return 1.08 * max(reach for reach in [nearest, *reaches] if reach <= OFF_SCALE * nearest)


def _interval(row: Row, scale: Scale, reach: float, y: float) -> Markup:
    if abs(row.value) > reach:
        side = -1 if row.value < 0 else 1
        tip = scale(side * reach)
        back = tip - side * 9
        arrow = f"{tip:.1f},{y:.1f} {back:.1f},{y - 5:.1f} {back:.1f},{y + 5:.1f}"
        shaft = element("line", class_="own whisker", x1=back, x2=back - side * 26, y1=y, y2=y, stroke_dasharray="4 3")
        return join(shaft, element("polygon", class_="own dot", points=arrow))
    parts = []
    if row.low is not None and row.high is not None:
        parts.append(element("line", class_="own whisker", x1=scale(max(row.low, -reach)), x2=scale(min(row.high, reach)), y1=y, y2=y))
    return join(*parts, element("circle", class_="own dot", cx=scale(row.value), cy=y, r=4.5))


def _frame(x: Scale, y: Scale, values: Sequence[float], unit: Callable[[float], str]) -> Iterator[Markup]:
    """Draws a grid with the same values on both axes."""
    for value in values:
        yield element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y(value), y2=y(value))
        yield element("line", class_="grid", x1=x(value), x2=x(value), y1=FRAME_TOP, y2=FRAME_BOTTOM)
        yield element("text", unit(value), class_="axis", x=LEFT - 6, y=y(value) + 4, text_anchor="end")
    yield _axis_below(x, values, unit, FRAME_BOTTOM, start=LEFT)


def _axis_below(scale: Scale, values: Sequence[float], unit: Callable[[float], str], bottom: float, start: float = 12) -> Markup:
    labels = [element("text", unit(value), class_="axis", x=scale(value), y=bottom + 16, text_anchor="middle") for value in values]
    return join(element("line", class_="base", x1=start, x2=RIGHT, y1=bottom, y2=bottom), *labels)


def _axis_names(below: str, upward: str) -> list[Markup]:
    return [
        element("text", f"{below} →", class_="axis", x=RIGHT, y=FRAME_BOTTOM + 36, text_anchor="end"),
        element("text", f"↑ {upward}", class_="axis", x=4, y=16),
    ]


def svg(height: float, alt: str, *parts: Markup) -> Markup:
    """Draws a chart of the width ``WIDTH``; ``alt`` describes it for those who do not see it."""
    return element("svg", element("title", alt), *parts, viewBox=f"0 0 {WIDTH} {height:.0f}", role="img")
