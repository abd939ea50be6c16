"""Generates the rows of a table in blocks: keywords, devices, clicks and conversions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.sample.hashing import Floats, Integers, hashed, hashed_normal, row_numbers
from producers.sample.keywords import attribute_columns, devices_of, levels_of
from producers.sample.truth import truth_of

MOST_CLICKS = 2_000

_SHARE_OF_ROWS_IN_A_WEEK = 0.75
_SHARE_OF_ROWS_WITH_TOO_MANY_CONVERSIONS = 1 / 5_000
_DEVICE_CLICKS = np.array([1.12, 0.85, 0.85])


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive rows of a table. ``keyword`` and ``device`` hold the indexes of each row; ``attributes`` belong to the keywords."""

    keywords: Integers
    attributes: NDArray[np.int8]
    keyword: Integers
    device: Integers
    week: int | None
    clicks: Integers | None
    conversions: Integers | None


def make_blocks(rows: int, seed: int, weeks: Sequence[int | None], keywords_in_a_block: int) -> Iterator[Block]:
    """Yields the rows of a table in order, in blocks; each week has an equal share."""
    for number, week in enumerate(weeks):
        share = rows * (number + 1) // len(weeks) - rows * number // len(weeks)
        yield from _blocks_of_week(share, seed, week, keywords_in_a_block)


def _blocks_of_week(rows: int, seed: int, week: int | None, keywords_in_a_block: int) -> Iterator[Block]:
    first = 1
    while rows > 0:
        keywords = np.arange(first, first + min(keywords_in_a_block, rows), dtype=np.int64)
        block = _block(keywords, rows, seed, week)
        yield block
        first += len(keywords)
        rows -= len(block.device)


def _block(keywords: Integers, most_rows: int, seed: int, week: int | None) -> Block:
    """The first ``most_rows`` rows of these keywords in a table."""
    shown = devices_of(keywords, seed)
    if week is not None:
        shown &= hashed(seed, f"shown in week {week}", row_numbers(keywords[:, None], np.arange(3))) < _SHARE_OF_ROWS_IN_A_WEEK
    keyword, device = (numbers[:most_rows] for numbers in np.nonzero(shown))
    levels = levels_of(keywords, seed)
    clicks = conversions = None
    if week is not None:
        of_row = keywords[keyword]
        clicks = _clicks(of_row, device, seed, week)
        cr = truth_of(seed).cr(of_row, levels[:, keyword], device)
        conversions = _conversions(row_numbers(of_row, device), clicks, cr, seed, week)
    attributes = attribute_columns(levels, keywords, seed)
    return Block(
        keywords=keywords, attributes=attributes, keyword=keyword, device=device, week=week, clicks=clicks, conversions=conversions
    )


def _clicks(keywords: Integers, devices: Integers, seed: int, week: int) -> Integers:
    """Clicks of rows, from 1 to ``MOST_CLICKS``; half of their variation belongs to the keyword and is the same in every week.

    P(clicks > x) = exp((-0.65 t - 0.074 t²) / f) with t = log x and f about 1, the device's factor: between a power law and a
    lognormal, as in real tables.
    """
    rows = row_numbers(keywords, devices)
    # the sum of two squared normals is exponential, so the parts of the keyword and the row can be added
    rarity = (hashed_normal(seed, "popularity", keywords) ** 2 + hashed_normal(seed, f"clicks in week {week}", rows) ** 2) / 2
    log_clicks = (np.sqrt(0.65**2 + 4 * 0.074 * rarity * _DEVICE_CLICKS[devices]) - 0.65) / (2 * 0.074)
    return np.minimum(np.exp(np.minimum(log_clicks, 20)), MOST_CLICKS).astype(np.int64)


def _conversions(rows: Integers, clicks: Integers, cr: Floats, seed: int, week: int) -> Integers:
    """Conversions of rows; as in real tables, a rare row has more conversions than clicks."""
    conversions = binomial_quantile(hashed(seed, f"conversions in week {week}", rows), clicks, cr)
    mistaken = hashed(seed, f"too many conversions in week {week}", rows)
    too_many = mistaken < _SHARE_OF_ROWS_WITH_TOO_MANY_CONVERSIONS
    conversions[too_many] = clicks[too_many] + 1 + (mistaken[too_many] * 3 / _SHARE_OF_ROWS_WITH_TOO_MANY_CONVERSIONS).astype(np.int64)
    return conversions


def binomial_quantile(quantile: Floats, trials: Integers, probability: Floats) -> Integers:
    """The smallest k with P(X <= k) > quantile, by summing the terms; exact while (1 - HIGHEST_CR) ** MOST_CLICKS is a normal double."""
    drawn = np.zeros(len(trials), dtype=np.int64)
    term = np.exp(trials * np.log1p(-probability))
    open_rows = np.flatnonzero(quantile >= term)
    term, left, trials = term[open_rows], (quantile - term)[open_rows], trials[open_rows]
    odds = probability[open_rows] / (1 - probability[open_rows])
    successes = 0
    while len(open_rows):
        successes += 1
        drawn[open_rows] = successes
        term = term * ((trials - successes + 1) / successes * odds)
        left = left - term
        still = (left >= 0) & (trials > successes)
        open_rows, trials = open_rows[still], trials[still]
        term, left, odds = term[still], left[still], odds[still]
    return drawn
