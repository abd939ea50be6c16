"""The chart of a device's rates: their distribution before and now, over a logarithmic axis."""

import math
from collections.abc import Iterator

import numpy as np

from model_store.report.charts import LEFT, RIGHT, Scale, scale_between, svg, ticks
from model_store.report.html import Markup, element, join
from workers.guard.checks.words import percent
from workers.guard.measures.rate_bins import LOWER_EDGES

TOP, BOTTOM = 44, 208
BINS_OF_DOUBLE = 8
"""Bins of the chart for each factor of two."""
OCTAVES = 20
"""The first bin also holds the rates below 2**-20, as that of ``rate_bins`` does."""
EDGES = 2.0 ** (np.arange(OCTAVES * BINS_OF_DOUBLE + 2) / BINS_OF_DOUBLE - OCTAVES)
"""The edges of the bins of the chart; the last bin holds the rate 1."""
EDGES[0] = 0.0
OUTSIDE = 0.0005
"""The share of rows at each end that is drawn in the last bin there, so that a few strays do not squeeze the rest."""
FEWEST_BINS, MOST_TICKS = 12, 7


def distribution_chart(before: np.ndarray, now: np.ndarray, *, alt: str) -> Markup:
    """Draws two histograms in fine bins (``rate_bins``) as shares of their rows; ``before`` may have no rows, ``now`` as well."""
    old, new = _shares(before), _shares(now)
    first, last = _range(old, new)
    old, new = _cut(old, first, last), _cut(new, first, last)
    peak = max(old.max(), new.max(), 1e-9) * 1.05
    x, y = scale_between(first, last + 1, LEFT, RIGHT), scale_between(0, peak, BOTTOM, TOP)
    parts = [*_frame(x, y, first, last, peak)]
    if new.any():
        parts.append(element("polygon", class_="own area", points=_points(_outline(new, first), x, y)))
        parts.append(element("text", "now: filled", class_="own name", x=RIGHT, y=34, text_anchor="end"))
    if old.any():
        parts.append(element("polyline", class_="other curve", points=_points(_outline(old, first), x, y)))
        parts.append(element("text", "before: dashed", class_="other name", x=LEFT, y=34))
    return svg(BOTTOM + 40, alt, *parts)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Returns the share of the rows in each bin of the chart; a fine bin on an edge is split as if its rows were evenly spread."""
    until = np.interp(EDGES, LOWER_EDGES, np.concatenate([[0], np.cumsum(counts)]))
    shares: np.ndarray = np.diff(until) / max(float(until[-1]), 1.0)
    return shares


def _range(old: np.ndarray, new: np.ndarray) -> tuple[int, int]:
    """Returns the first and the last bin that are drawn."""
    ends = []
    for shares in (old, new):
        until = np.cumsum(shares)
        if until[-1] > 0:
            ends.append([int(np.searchsorted(until, level, side="right")) for level in (OUTSIDE, 1 - OUTSIDE)])
    first, last = min((low for low, _ in ends), default=0), max((high for _, high in ends), default=0)
    missing = max(FEWEST_BINS - (last - first + 1), 2)
    first = max(first - missing // 2, 0)
    last = min(max(last + missing - missing // 2, first + FEWEST_BINS), len(old) - 1)
    return min(first, last - FEWEST_BINS), last


def _cut(shares: np.ndarray, first: int, last: int) -> np.ndarray:
    """Returns the shares of the drawn bins; what lies outside is added to the bins at the ends."""
    cut = shares[first : last + 1].copy()
    cut[0] += shares[:first].sum()
    cut[-1] += shares[last + 1 :].sum()
    return cut


def _outline(shares: np.ndarray, first: int) -> Iterator[tuple[float, float]]:
    """Yields the corners of the steps of a histogram, from the axis back to the axis."""
    yield first, 0.0
    for place, share in enumerate(shares.tolist()):
        yield first + place, share
        yield first + place + 1, share
    yield first + len(shares), 0.0


def _points(corners: Iterator[tuple[float, float]], x: Scale, y: Scale) -> str:
    return " ".join(f"{x(place):.1f},{y(share):.1f}" for place, share in corners)


def _frame(x: Scale, y: Scale, first: int, last: int, peak: float) -> Iterator[Markup]:
    for share in ticks(0, peak, 3):
        yield element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=y(share), y2=y(share))
        yield element("text", percent(share), class_="axis", x=LEFT - 6, y=y(share) + 4, text_anchor="end")
    for rate in _rates(first, last):
        at = x(_place(rate))
        yield element("line", class_="grid", x1=at, x2=at, y1=TOP, y2=BOTTOM)
        yield element("text", percent(rate), class_="axis", x=at, y=BOTTOM + 16, text_anchor="middle")
    yield join(
        element("line", class_="base", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM),
        element("text", "cr, on a logarithmic axis →", class_="axis", x=RIGHT, y=BOTTOM + 34, text_anchor="end"),
        element("text", "↑ share of the rows", class_="axis", x=4, y=14),
    )


def _place(rate: float) -> float:
    """Returns where a rate lies among the bins of the chart."""
    return (math.log2(rate) + OCTAVES) * BINS_OF_DOUBLE


def _rates(first: int, last: int) -> list[float]:
    """Returns round rates inside the drawn range, at most ``MOST_TICKS``."""
    inside: list[float] = []
    for digits in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        rates = [digit * 10.0**power for power in range(-6, 1) for digit in digits if digit * 10.0**power <= 1]
        inside = [rate for rate in rates if first + 0.2 <= _place(rate) <= last + 0.8]
        if len(inside) <= MOST_TICKS:
            break
    return inside
