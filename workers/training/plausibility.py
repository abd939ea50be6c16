"""Plausibility checks of training tables and of the rates of a trained model.

A table without conversions, with few clicks or with its columns exchanged trains without an error, and its release would become the latest.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.catalog.manifests import MOST_SEEN, TableAudit
from shared.errors import TableError
from workers.tables.training.table import TrainingTable

FEWEST_CLICKS, FEW_CLICKS = 100, 1000
"""A training on a table with fewer clicks fails, or gets a warning. In a table without clicks, each row counts as one."""

MOST_ABOVE = 0.01
"""The share of the clicks that may be in rows with more conversions than clicks: 0.1 % in two real weeks."""

MOST_UNCLICKED = 0.01
"""The share of the conversions that may be in rows without clicks: 0 in two real weeks."""

MOST_APART = 2.0
"""By which factor the mean rate may differ from the actual rate."""

MOST_AT_END = 0.2
"""The share of the clicks that may have a rate of exactly 0 or 1: a linear model clips some of its rates to 0."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem of a training or evaluation table, and what to do about it."""

    sentence: str
    next_step: str


def check_training_table(table: TrainingTable, *, force: bool = False) -> list[str]:
    """Returns the problems of a training table that ``force`` overrides; without ``force`` the first one is raised.

    Raises:
        TableError: nothing can be learned from the table, or its columns do not match their names.
    """
    return _check([*_misread(table), *_junk(table)], force=force)


def check_evaluation_table(table: TrainingTable, *, force: bool = False) -> list[str]:
    """Does the same for an evaluation table; too few clicks or no conversions only cause a warning."""
    return _check([*_misread(table)], force=force)


def _check(problems: list[Problem], *, force: bool) -> list[str]:
    if problems and not force:
        first = problems[0]
        raise TableError(first.sentence, next_step=f"{first.next_step} To train all the same, add --force.")
    return [problem.sentence for problem in problems]


def _misread(table: TrainingTable) -> Iterator[Problem]:
    """Yields problems of tables that were misread or mislabeled."""
    audit, path = table.audit, table.fingerprint.path
    if audit.above_share > MOST_ABOVE:
        yield Problem(
            sentence=f"{audit.above_rows:,} rows of {path} with {audit.above_share:.1%} of its clicks have more conversions than clicks "
            f"(allowed are {MOST_ABOVE:.0%}); the first: {audit.first_above}",
            next_step=_EXCHANGED,
        )
    if audit.unclicked_share > MOST_UNCLICKED:
        yield Problem(
            sentence=f"{audit.unclicked_rows:,} rows of {path} with {audit.unclicked_share:.1%} of its conversions have no clicks "
            f"(allowed are {MOST_UNCLICKED:.0%}); the first: {audit.first_unclicked}",
            next_step=_EXCHANGED,
        )
    if audit.total_row:
        yield Problem(
            sentence=f"{path} {audit.total_row} and its conversions are the sum of other rows, as in a row of totals",
            next_step="Take the rows of totals out of the table and train again.",
        )
    if audit.is_thousands_dot:
        yield Problem(
            sentence=f"{path} {audit.fractional}, where most rows have whole clicks: the dot seems to separate thousands",
            next_step="Write all numbers as digits without separators, like 1801, and train again.",
        )


_EXCHANGED = (
    "Check whether the columns Clicks and Conversions are exchanged, or whether the conversions include those without a click "
    "(view-through); count only conversions that follow a click."
)


def _junk(table: TrainingTable) -> Iterator[Problem]:
    """Yields problems of tables with too little to learn from."""
    audit, path, count = table.audit, table.fingerprint.path, _count(table.audit)
    rate = table.frame["cr"].to_numpy()
    if audit.clicks < FEWEST_CLICKS:
        yield Problem(sentence=f"{path} has {count}, fewer than the {FEWEST_CLICKS} that a training needs", next_step=_LARGER)
    if not audit.conversions:
        yield Problem(sentence=f"{path} has no conversion in {count}: the release would say 0 for every row", next_step=_LARGER)
    elif audit.conversions == audit.clicks:
        yield Problem(
            sentence=f"every one of the {count} of {path} is a conversion: the release would say 1 for every row", next_step=_LARGER
        )
    elif len(rate) > 1 and (rate == rate[0]).all():
        yield Problem(sentence=f"every row of {path} has the same rate, {rate[0]:g}: there is nothing to learn", next_step=_LARGER)


_LARGER = "Train on a table with rows that convert and rows that do not, such as all keywords of a week."


def _count(audit: TableAudit) -> str:
    text, unit = f"{audit.clicks:,.0f}", "click" if audit.has_clicks else "row"
    return f"{text} {unit}{'' if text == '1' else 's'}"


def warn_of_tables(train: TrainingTable, held_out: TrainingTable | None) -> Iterator[str]:
    """Yields warnings on tables whose metrics are unreliable."""
    if train.audit.clicks < FEW_CLICKS:
        yield f"trained on {_count(train.audit)} alone: below {FEW_CLICKS:,} the rates are mostly chance"
    for table in filter(None, (train, held_out)):
        if table.audit.fractional and not table.audit.is_thousands_dot:
            yield f"{table.fingerprint.path} {table.audit.fractional}, where most rows have whole clicks"
    if held_out is None:
        return
    if not held_out.audit.conversions:
        yield f"{held_out.fingerprint.path} has no conversion in {_count(held_out.audit)}: no honest judgement is possible on it"
    elif held_out.audit.clicks < FEW_CLICKS:
        yield f"judged on {_count(held_out.audit)} alone: below {FEW_CLICKS:,} the figures are mostly chance"


def warn_of_seen_rows(table: TrainingTable, seen_share: float) -> Iterator[str]:
    """Yields a warning if the evaluation table contains rows of the training table."""
    if seen_share > MOST_SEEN:
        yield f"{seen_share:.0%} of the rows with conversions of {table.fingerprint.path} were trained on too: the figures flatter it"


def warn_of_rates(table: TrainingTable, rates: np.ndarray) -> Iterator[str]:
    """Yields warnings on rates that leave a plausible band around the actual rate of the table."""
    clicks, happened = table.observations.clicks, table.audit.conversions / table.audit.clicks
    predicted = float(rates @ clicks / clicks.sum())
    path = table.fingerprint.path
    if happened and not happened / MOST_APART <= predicted <= happened * MOST_APART:
        yield f"its mean rate on {path} is {predicted:.5f}, and {happened:.5f} happened: more than {MOST_APART:g} times apart"
    for end in (0, 1):
        share = float(clicks[rates == end].sum() / clicks.sum())
        if share > MOST_AT_END:
            yield f"its rate is exactly {end} for {share:.0%} of the clicks of {path}"
