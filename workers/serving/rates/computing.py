"""Computes the rates of rows: the checks and the prediction of a score job, for rows of a request."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from model_store.foreign_code import DefinitionError
from shared.errors import TableError
from workers.scoring.chunks.rates import predict_valid
from workers.serving.rates.serving import LoadedRelease
from workers.tables.json_rows import JsonRow
from workers.tables.rows import Reject

log = structlog.get_logger()

FAILED = "the definition fails on this row"


@dataclass(frozen=True, kw_only=True)
class Computed:
    """The rate of a row, or why it has none."""

    cr: float = 0.0
    reject: Reject | None = None


def compute(loaded: LoadedRelease, rows: Sequence[JsonRow]) -> list[Computed]:
    """Returns the rate or the reject of each row, in their order."""
    if len(rows) == 1:
        rate = None if loaded.single_rows is None else loaded.single_rows.rate(rows[0])
        if rate is not None:
            return [Computed(cr=rate)]
        return _compute_alike(loaded, rows, loaded.json_rows.layout(rows[0]) is loaded.json_rows.with_flags)
    found: dict[int, Computed] = {}
    for has_flags in (False, True):
        layout = loaded.json_rows.with_flags if has_flags else loaded.json_rows.with_device
        places = [place for place, row in enumerate(rows) if loaded.json_rows.layout(row) is layout]
        if places:
            found |= zip(places, _compute_alike(loaded, [rows[place] for place in places], has_flags), strict=True)
    return [found[place] for place in range(len(rows))]


def _compute_alike(loaded: LoadedRelease, rows: Sequence[JsonRow], has_flags: bool) -> list[Computed]:
    """Returns the same for rows of one layout."""
    layout = loaded.json_rows.with_flags if has_flags else loaded.json_rows.with_device
    try:
        predicted = predict_valid(loaded.release, layout.rows(rows), path="the request")
    except (DefinitionError, TableError) as error:
        if len(rows) > 1:
            # with few bad rows, some dozens of predictions instead of one for each row
            middle = len(rows) // 2
            return [*_compute_alike(loaded, rows[:middle], has_flags), *_compute_alike(loaded, rows[middle:], has_flags)]
        log.warning("row not predicted", release=loaded.name, error=str(error))
        return [Computed(reject=Reject(line=1, column="", value="", reason=FAILED))]
    rejects = predicted.rows.rejects
    if not rejects:
        return [Computed(cr=rate) for rate in predicted.cr.tolist()]
    found = {reject.line: Computed(reject=reject) for reject in rejects}
    found |= {line: Computed(cr=rate) for line, rate in zip(predicted.rows.lines.all().tolist(), predicted.cr.tolist(), strict=True)}
    return [found[line] for line in range(1, len(rows) + 1)]
