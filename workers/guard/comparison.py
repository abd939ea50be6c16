"""The comparison of a new result with the base of its channel: what every check may ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from shared.catalog.manifests import ReleaseManifest, ResultManifest
from shared.guard.checks import Grouping
from shared.guard.config import GUARD, ChannelGuard, OnNewRelease
from shared.guard.groups import Groups, groups_of
from shared.guard.key_forms import with_keys_of_one_form
from shared.guard.verdict import ALL
from shared.prediction_index import PredictionIndex
from workers.guard.measures.measuring import Measures, Rates, Unchanged, measure
from workers.guard.measures.release_difference import Translation, measure_unchanged


@dataclass(frozen=True, kw_only=True)
class IndexAndManifest:
    """A result: its index, its manifest, and since when the channel has had results on the same table in a row."""

    index: PredictionIndex
    manifest: ResultManifest
    table_since: datetime | None = None
    """From the verdict of the result; None without one: then the end of the result counts."""


@dataclass(frozen=True, kw_only=True)
class ReleaseChange:
    """The rates of the unchanged rows under both releases, and whether they may excuse a difference."""

    own: Rates | None
    """None when no row can be compared."""
    unchanged_rows: int = 0
    is_excused: bool = False
    reason: str = ""
    """Why nothing is excused."""


@dataclass(frozen=True)
class _Measured:
    measures: Measures
    release_change: ReleaseChange | None
    translation: Translation | None


@dataclass(frozen=True)
class Comparison:
    """A new result beside the base of its channel. Measuring is deferred until a check asks for it, and happens once."""

    channel: str
    config: ChannelGuard
    new: IndexAndManifest
    base: IndexAndManifest | None
    now: datetime
    important_columns: Sequence[str] = ()
    """The columns of the release, the most important first; empty when the release has no importance."""

    @property
    def known_base(self) -> IndexAndManifest:
        """The base, for checks that need one."""
        if self.base is None:
            raise ValueError(f"{self.channel} has no result to compare with")
        return self.base

    @property
    def theirs(self) -> str:
        """The base in words: ``live's result``."""
        return f"{self.channel}'s result"

    @property
    def release_changed(self) -> bool:
        """True when the release is not that of the base."""
        return self.base is not None and self.base.manifest.release != self.new.manifest.release

    @cached_property
    def groups(self) -> Groups:
        """The devices, or one group where keys have none."""
        return groups_of(*(result.index for result in (self.new, self.base) if result is not None))

    def groups_by(self, grouping: Grouping) -> list[tuple[str, list[int]]]:
        """The groups that a check judges: their names and codes."""
        if grouping == Grouping.ALL:
            return [(ALL, list(range(len(self.groups.names))))]
        return [(name, [code]) for code, name in enumerate(self.groups.names)]

    @cached_property
    def fewest_unchanged(self) -> int:
        """The rows that must be unchanged before anything is excused: the largest ``min_rows`` of the checks of rates."""
        checks = self.config.checks
        return max(check.min_rows for check in (checks.mean_cr, checks.p99_cr, checks.moved, checks.psi_cr))

    @property
    def measures(self) -> Measures:
        """What one pass over both indexes gives."""
        return self._measured.measures

    @property
    def release_change(self) -> ReleaseChange | None:
        """The difference between the two releases; None when it is not asked for, or there is none."""
        return self._measured.release_change

    @property
    def translation(self) -> Translation | None:
        """How the rates of the base were translated before they were compared; None when they were compared as they are."""
        return self._measured.translation

    @property
    def can_be_measured(self) -> bool:
        """False when measuring raises."""
        return self._outcome[1] is None

    @property
    def _measured(self) -> "_Measured":
        """Raises what measuring raised, for each check that asks."""
        measured, failure = self._outcome
        if measured is None:
            raise failure or ValueError("nothing was measured")
        return measured

    @cached_property
    def _outcome(self) -> "tuple[_Measured | None, Exception | None]":
        try:
            return self._measure(), None
        except Exception as error:  # noqa: BLE001 - each check that needs the measures reports it
            return None, error

    def _measure(self) -> "_Measured":
        change, by_more_than = self._find_release_change(), self.config.checks.moved.by_more_than
        translation = Translation.of(change.own, self.fewest_unchanged) if change and change.own else None
        measures = measure(*self._indexes, self.groups, by_more_than, translation or Unchanged())
        return _Measured(measures, change, translation)

    def _find_release_change(self) -> ReleaseChange | None:
        if self.base is None or not self.release_changed or self.config.on_new_release != OnNewRelease.EXPECTED:
            return None
        if list(self.base.index.columns) != list(self.new.index.columns):
            return ReleaseChange(own=None, reason=_other_columns(self.base.index.columns, self.new.index.columns))
        if not (self.base.index.has_digests and self.new.index.has_digests):
            return ReleaseChange(own=None, reason="the index of one of the two results has no digests of features")
        old, new = self._indexes
        assert old is not None  # noqa: S101 - there is a base
        own = measure_unchanged(old, new, self.groups, self.config.checks.moved.by_more_than)
        rows, of_groups = own.moved.all.rows, [own.old.rows([code]) for code in range(len(self.groups.names))]
        if max(of_groups) < self.fewest_unchanged:
            return ReleaseChange(own=None, unchanged_rows=rows, reason=f"no device has {self.fewest_unchanged:,} of them")
        return ReleaseChange(own=own, unchanged_rows=rows, is_excused=True)

    @cached_property
    def _indexes(self) -> tuple[PredictionIndex | None, PredictionIndex]:
        """The indexes of the base and of the new result, with keys of the same form."""
        return (None, self.new.index) if self.base is None else with_keys_of_one_form(self.base.index, self.new.index)


def _other_columns(before: Sequence[str], now: Sequence[str]) -> str:
    more, fewer = len({*now} - {*before}), len({*before} - {*now})
    which = f"{more:,} only the new one, {fewer:,} only the one before" if more or fewer else "in another order"
    return (
        f"the two releases read different columns ({which}), so no row is known to be unchanged; "
        f"{GUARD} can widen the limits of rates for such a change: on_new_release: wider"
    )


def important_columns(manifest: ReleaseManifest) -> list[str]:
    """The columns of a release, the most important first; empty when its manifest has no importance."""
    found = manifest.evaluation.importance if manifest.evaluation else None
    return [] if found is None else sorted(found.columns, key=lambda name: -abs(found.columns[name]))
