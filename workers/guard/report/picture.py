"""What the picture of a verdict shows: the rates of both results in one pass over their indexes, and the columns that changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.manifests import ResultManifest
from shared.catalog.result_index import open_result_index
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import UnreadableIndexError
from shared.guard.checks import CheckName, Weight
from shared.guard.groups import Groups, groups_of
from shared.guard.verdict import BaseResult, GuardVerdict
from shared.prediction_index import PredictionIndex
from workers.guard.measures.measuring import Measures, Unchanged, measure
from workers.guard.report.changed_columns import ChangedColumn, changed_columns


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A verdict with the numbers that explain it."""

    manifest: ResultManifest
    verdict: GuardVerdict
    held_because: tuple[str, ...]
    """Why the result is held; empty if it is published."""
    base: ResultManifest | None
    """None for the first result of a channel, and if the base is gone or cannot be compared."""
    groups: Groups
    measures: Measures
    columns: list[ChangedColumn]
    """The columns whose values changed most, the most first."""

    def is_weighted(self, code: int) -> bool:
        """Returns True if the mean rates of a device are weighted by clicks, as in the check of mean rates."""
        name, rates = self.groups.names[code], self.measures.rates
        for check in self.verdict.checks:
            if check.check == CheckName.MEAN_CR and check.group == name and check.weight is not None:
                return check.weight == Weight.CLICKS
        return min(rates.old.clicks([code]), rates.new.clicks([code])) > 0 if rates.old.rows([code]) else rates.new.clicks([code]) > 0


def read_picture(bucket: Bucket, manifest: ResultManifest, verdict: GuardVerdict, held_because: Sequence[str]) -> Picture:
    """Reads the indexes of a result and of the base that it was judged against; memory does not grow with their rows.

    Raises:
        UnreadableIndexError: the index of the result is damaged, and so are its predictions.
    """
    new = open_result_index(bucket, manifest)
    base, old = _read_base(bucket, verdict.base, new)
    groups = groups_of(new) if old is None else groups_of(new, old)
    return Picture(
        manifest=manifest,
        verdict=verdict,
        held_because=tuple(held_because),
        base=base,
        groups=groups,
        measures=measure(old, new, groups, 0.0, Unchanged()),
        columns=[] if old is None else changed_columns(old, new),
    )


def _read_base(bucket: Bucket, base: BaseResult | None, new: PredictionIndex) -> tuple[ResultManifest, PredictionIndex] | tuple[None, None]:
    found = None if base is None else inspect_result(bucket, base.revision)
    if not isinstance(found, FoundResult):
        return None, None
    try:
        index = open_result_index(bucket, found.manifest)
    except UnreadableIndexError:
        return None, None
    return (found.manifest, index) if index.has_whole_keys == new.has_whole_keys else (None, None)
