"""The differences between two results, in one pass over their sorted indexes with bounded memory."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from producers.channels.changed_rows import ChangedRow, ChangedRows, TopRows
from shared.guard.checks import Weight
from shared.guard.groups import Groups, groups_of
from shared.guard.key_forms import with_keys_of_one_form
from shared.guard.verdict import RowProblem
from shared.guard.weights import ClicksOfRows, Tally, has_clicks
from shared.guard.windows import RunReader, Window, windows
from shared.prediction_index import PredictionIndex

Write = Callable[[ChangedRow], None]


@dataclass(frozen=True, kw_only=True)
class DeviceDifference:
    """The rates of a device in both results; a repeated key counts once."""

    device: str
    rows_before: int
    rows_now: int
    mean_before: float | None
    """None without rows."""
    mean_now: float | None
    weight: Weight
    """What the means are weighted by; clicks only if both results have some."""


@dataclass(kw_only=True)
class RowCounts:
    """Rows and their clicks by what happened to them; a repeated key counts once, and as doubled."""

    lost: Tally = field(default_factory=Tally)
    new: Tally = field(default_factory=Tally)
    unchanged: Tally = field(default_factory=Tally)
    """Rows with the same rate."""
    moved: Tally = field(default_factory=Tally)
    far: Tally = field(default_factory=Tally)
    """Those of the moved rows whose rate changed by more than a share of the rate before."""
    moved_alone: Tally = field(default_factory=Tally)
    """Those of the moved rows whose features are the same: the release moved them."""
    doubled: int = 0
    doubled_before: int = 0


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What differs between two results."""

    counts: RowCounts
    by_more_than: float
    has_clicks: bool
    """False if neither table has clicks."""
    knows_features: bool
    """False if it is unknown which rows have the same features."""
    devices: list[DeviceDifference]
    top: dict[RowProblem, list[ChangedRow]]
    """The rows whose change costs most, by kind; of doubled rows the first ones."""


def compare(old: PredictionIndex, new: PredictionIndex, *, top: int, by_more_than: float, write: Write | None = None) -> Differences:
    """Compares two results with the same key columns.

    Args:
        old: the index of the result before.
        new: the index of the result.
        top: the number of rows of each kind to return.
        by_more_than: the share of the rate before by which a row moves far.
        write: is called with every moved, lost and new row, in the order of their keys.
    """
    old, new = with_keys_of_one_form(old, new)
    groups, clicks = groups_of(old, new), ClicksOfRows(in_old=has_clicks(old), in_new=has_clicks(new))
    knows_features = old.has_digests and new.has_digests and old.columns == new.columns
    counts, means = RowCounts(), (_Means(groups), _Means(groups))
    best = {kind: TopRows(top, groups) for kind in (RowProblem.MOVED, RowProblem.LOST, RowProblem.NEW)}
    olds, news = RunReader(old), RunReader(new)
    for window in windows(olds, news):
        of_old, of_new = clicks.both(window)
        means[0].add(window.old.key, window.old.cr, of_old)
        means[1].add(window.new.key, window.new.cr, of_new)
        moved = _moved(window, of_new, new.files, knows_features=knows_features)
        _count(counts, window, moved, of_new, by_more_than)
        kinds = [moved, _lost(window, old.files), _new(window, new.files)]
        for changed in kinds:
            best[changed.what].add(changed)
        if write is not None:
            _write_all(write, kinds, groups)
    counts.doubled, counts.doubled_before = news.doubled, olds.doubled
    first = {RowProblem.DOUBLED: [*_doubled(news, new.files, groups)][:top]}
    return Differences(
        counts=counts,
        by_more_than=by_more_than,
        has_clicks=clicks.in_old or clicks.in_new,
        knows_features=knows_features,
        devices=_devices(groups, *means),
        top={kind: found.rows for kind, found in best.items()} | first,
    )


def _write_all(write: Write, kinds: list[ChangedRows], groups: Groups) -> None:
    for _, row in heapq.merge(*(changed.rows(groups) for changed in kinds), key=lambda pair: pair[0]):
        write(row)


def _moved(window: Window, clicks: np.ndarray | None, files: list[str], *, knows_features: bool) -> ChangedRows:
    """The keys of both tables whose rate is another one."""
    before, now = window.of_old(window.old.cr), window.of_new(window.new.cr)
    places = np.flatnonzero(before != now)
    is_same = None
    if knows_features and window.old.digest is not None and window.new.digest is not None:
        is_same = (window.of_old(window.old.digest) == window.of_new(window.new.digest))[places]
    return ChangedRows(
        what=RowProblem.MOVED,
        key=window.of_new(window.new.key)[places],
        before=before[places],
        now=now[places],
        clicks=None if clicks is None else window.of_new(clicks)[places],
        file=window.of_new(window.new.file)[places],
        line=window.of_new(window.new.line)[places],
        files=files,
        is_same=is_same,
    )


def _lost(window: Window, files: list[str]) -> ChangedRows:
    run = window.old[window.lost]
    return ChangedRows(
        what=RowProblem.LOST, key=run.key, before=run.cr, now=None, clicks=run.clicks, file=run.file, line=run.line, files=files
    )


def _new(window: Window, files: list[str]) -> ChangedRows:
    run = window.new[window.appeared]
    return ChangedRows(
        what=RowProblem.NEW, key=run.key, before=None, now=run.cr, clicks=run.clicks, file=run.file, line=run.line, files=files
    )


def _doubled(reader: RunReader, files: list[str], groups: Groups) -> Iterator[ChangedRow]:
    for run in reader.first_doubled:
        changed = ChangedRows(
            what=RowProblem.DOUBLED, key=run.key, before=None, now=run.cr, clicks=run.clicks, file=run.file, line=run.line, files=files
        )
        yield from (row for _, row in changed.rows(groups))


def _count(counts: RowCounts, window: Window, moved: ChangedRows, clicks: np.ndarray | None, by_more_than: float) -> None:
    shared = len(window.old) - len(window.lost)
    of_shared = None if clicks is None else window.of_new(clicks)
    counts.moved.add(len(moved), moved.clicks)
    counts.unchanged.rows += shared - len(moved)
    if of_shared is not None and moved.clicks is not None:
        counts.unchanged.clicks += float(of_shared.sum() - moved.clicks.sum())
    if moved.before is not None and moved.now is not None:
        _add(counts.far, np.abs(moved.now - moved.before) > by_more_than * moved.before, moved.clicks)
    if moved.is_same is not None:
        _add(counts.moved_alone, moved.is_same, moved.clicks)
    for tally, run, places in ((counts.lost, window.old, window.lost), (counts.new, window.new, window.appeared)):
        tally.add(len(places), None if run.clicks is None else run.clicks[places])


def _add(tally: Tally, is_counted: np.ndarray, clicks: np.ndarray | None) -> None:
    tally.add(int(np.count_nonzero(is_counted)), None if clicks is None else clicks[is_counted])


class _Means:
    """Sums over the rates of a result, by device."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self.rows = np.zeros(len(groups.names), dtype=np.int64)
        self.clicks, self._sums, self._weighted = (np.zeros(len(groups.names)) for _ in range(3))

    def add(self, keys: np.ndarray, rates: np.ndarray, clicks: np.ndarray | None) -> None:
        """Adds rows."""
        codes, count = self._groups.codes(keys), len(self.rows)
        self.rows += np.bincount(codes, minlength=count)
        self._sums += np.bincount(codes, weights=rates, minlength=count)
        if clicks is not None:
            self.clicks += np.bincount(codes, weights=clicks, minlength=count)
            self._weighted += np.bincount(codes, weights=clicks * rates, minlength=count)

    def mean(self, code: int, weight: Weight) -> float | None:
        """The mean rate of a device; None without rows."""
        if not self.rows[code]:
            return None
        parts = (self._weighted, self.clicks) if weight == Weight.CLICKS else (self._sums, self.rows)
        return float(parts[0][code] / parts[1][code])


def _devices(groups: Groups, old: _Means, new: _Means) -> list[DeviceDifference]:
    found = []
    for code, name in enumerate(groups.names):
        if old.rows[code] or new.rows[code]:
            weight = Weight.CLICKS if min(old.clicks[code], new.clicks[code]) > 0 else Weight.ROWS
            found.append(
                DeviceDifference(
                    device=name,
                    rows_before=int(old.rows[code]),
                    rows_now=int(new.rows[code]),
                    mean_before=old.mean(code, weight),
                    mean_now=new.mean(code, weight),
                    weight=weight,
                )
            )
    return found
