"""Numbers in words, as verdicts and notices print them."""

from shared.guard.checks import Unit


def percent(share: float) -> str:
    """A share as a percentage with one digit after the point: ``93.2 %``; small ones with more, so that they do not read as 0."""
    number = share * 100
    if number and abs(number) < 0.1:
        return f"{number:.2g} %"
    text = f"{number:,.1f}"
    return f"{text.removesuffix('.0')} %"


def change(before: float, now: float) -> str:
    """A change in words: ``25 % lower``."""
    share = relative_change(before, now)
    return f"{percent(abs(share))} {'lower' if share < 0 else 'higher'}"


HIGHEST_CHANGE = 1e6
"""The change from 0, which has no share."""
ROUNDING = 1e-12


def rows_in_words(count: int) -> str:
    """A number of rows: ``1 row``, ``2,000 rows``."""
    return "1 row" if count == 1 else f"{count:,} rows"


def relative_change(before: float, now: float) -> float:
    """The change as a share of the value before; what sums of the same numbers in another order differ by is no change."""
    if before == 0:
        return 0.0 if now == 0 else HIGHEST_CHANGE
    share = now / before - 1
    return 0.0 if abs(share) < ROUNDING else min(share, HIGHEST_CHANGE)


def rate(value: float) -> str:
    """A rate with four digits."""
    return f"{value:.4g}"


def in_unit(value: float, unit: Unit) -> str:
    """A value or limit with its unit."""
    return _UNITS[unit](value)


def hours(seconds: float) -> str:
    """A duration in hours: ``51 h``."""
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"


_UNITS = {
    Unit.SHARE: percent,
    Unit.ROWS: lambda value: f"{value:,.0f}",
    Unit.NUMBER: lambda value: f"{value:.3g}",
    Unit.SECONDS: hours,
    Unit.SWITCH: lambda value: "no" if value == 0 else "yes",
}
