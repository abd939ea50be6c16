"""Compares two releases on the rows of a table on which both were evaluated.

A training stores the losses by keyword of its release, the champion and the newest release of each definition on its evaluation table. So
two releases can be compared when both are in such files of the same table, even if one of them can no longer be loaded.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from producers.releases import finding
from producers.releases.files import read_file
from shared.bucket.interface import Bucket
from shared.catalog.aliases import resolve
from shared.catalog.keyword_losses import Difference, KeywordLosses, compare, read_losses, spoken_difference
from shared.catalog.manifests import LOSSES, MetricValues, ReleaseManifest, TableFingerprint
from shared.catalog.paths import release_folder
from shared.catalog.releases import FoundRelease, UnreadableRelease, list_releases, unreadable
from shared.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of two releases on the same rows."""

    one: str
    other: str
    table: TableFingerprint
    confidence: float
    difference: Difference
    metrics: tuple[MetricValues, MetricValues]
    slices: dict[str, dict[str, tuple[MetricValues, MetricValues]]]
    """Kind of slice -> slice -> metrics of both."""

    @property
    def verdict(self) -> str:
        """A sentence that says whether the difference is more than chance."""
        found = self.difference
        where = f"on {finding.spoken_table(self.table.path)}, {found.clicks:,.0f} clicks of {found.keywords:,} keywords"
        if self.one == self.other:
            return f"Both names mean the release {self.one}."
        better, worse, sign = (self.one, self.other, 1) if found.value < 0 else (self.other, self.one, -1)
        low, high = sorted((sign * found.low, sign * found.high))
        by = spoken_difference(sign * found.value)
        interval = f"{self.confidence * 100:g} % interval {spoken_difference(low)} to {spoken_difference(high)}"
        if not high < 0:  # also when too few keywords leave no interval
            ends = "no interval: too few keywords" if math.isnan(high) else interval
            return (
                f"The difference may be chance: the log-loss per click of {better} is {by} than that of {worse} (better; {ends}), {where}."
            )
        return (
            f"{better} is better than {worse}, and this is more than chance: its log-loss per click is {by} (better; {interval}), {where}."
        )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """An evaluation that includes a release: that of its own training, or of another release's."""

    release: str
    manifest: ReleaseManifest
    table: TableFingerprint

    def metrics(self, of_all: dict[str, MetricValues]) -> MetricValues:
        name = self.manifest.definition if self.release == self.manifest.release else self.release
        return of_all[name]


def compare_releases(bucket: Bucket, one: str, other: str, *, table: str | None, confidence: float) -> Comparison:
    """Compares two releases, named as for scoring, on ``table``, or else on the newest table on which both were evaluated.

    Raises:
        ModelError: a release does not exist, or both were evaluated on no common table.
    """
    first, second = resolve(bucket, one), resolve(bucket, other)
    found = list(list_releases(bucket))
    manifests = [release.manifest for release in found if isinstance(release, FoundRelease) and release.is_trusted]
    for mine in _sources(manifests, first, table):
        for theirs in _sources(manifests, second, table):
            if mine.table.contents == theirs.table.contents:
                return _compared(bucket, mine, theirs, confidence)
    for broken in found:
        if isinstance(broken, UnreadableRelease) and broken.release in (first, second):
            raise unreadable(broken)
    raise _not_comparable(bucket, manifests, first, second, table)


def _sources(manifests: Sequence[ReleaseManifest], release: str, table: str | None) -> Iterator[_Source]:
    """Yields the evaluations of a release on a later table, that of its own training first, then the newest."""
    for manifest in sorted(manifests, key=lambda manifest: manifest.release != release):
        found = manifest.evaluation
        if found is None or manifest.judged_on_seen or LOSSES not in manifest.files:
            continue
        fingerprint = manifest.tables["eval"]
        if table is not None and not _is_named(table, fingerprint.path):
            continue
        if release == manifest.release or release in found.differences:
            yield _Source(release=release, manifest=manifest, table=fingerprint)


def _compared(bucket: Bucket, mine: _Source, theirs: _Source, confidence: float) -> Comparison:
    losses = _losses(bucket, mine.manifest), _losses(bucket, theirs.manifest)
    slices = {}
    for kind, of_kind in (mine.manifest.evaluation.slices if mine.manifest.evaluation else {}).items():
        others = theirs.manifest.evaluation.slices.get(kind, {}) if theirs.manifest.evaluation else {}
        slices[kind] = {
            name: (mine.metrics(figures.metrics), theirs.metrics(others[name].metrics))
            for name, figures in of_kind.items()
            # which keywords are cold depends on the training table of each release
            if name in others and others[name].rows == figures.rows
        }
    return Comparison(
        one=mine.release,
        other=theirs.release,
        table=mine.table,
        confidence=confidence,
        difference=compare(losses[0], mine.release, losses[1], theirs.release, confidence),
        metrics=(mine.metrics(mine.manifest.metrics["eval"]), theirs.metrics(theirs.manifest.metrics["eval"])),
        slices={kind: of_kind for kind, of_kind in slices.items() if of_kind},
    )


def _losses(bucket: Bucket, manifest: ReleaseManifest) -> KeywordLosses:
    return read_losses(read_file(bucket, manifest, LOSSES), f"{release_folder(manifest.release)}/{LOSSES}")


def _is_named(table: str, path: str) -> bool:
    """Returns True when ``table`` names the table at this path; one that was copied from another machine is matched by its name only."""
    spoken = finding.spoken_table(path)
    return table.strip("/") in (path, spoken) or (spoken != path and PurePath(table).name == spoken)


def _not_comparable(bucket: Bucket, manifests: Sequence[ReleaseManifest], first: str, second: str, table: str | None) -> ModelError:
    """The error with the command that makes two releases comparable, as far as their manifests show that it can work."""
    by_release = {manifest.release: manifest for manifest in manifests}
    where = f"the table {table}" if table is not None else "the rows of one evaluation table"
    problem = f"{first} and {second} were not both judged on {where}"
    one, other = by_release.get(first), by_release.get(second)
    if one is not None and other is not None and one.keys != other.keys:
        return ModelError(
            f"{problem}: they name rows by different columns, {' and '.join(one.keys)} and {' and '.join(other.keys)}",
            next_step="Compare releases of definitions with the same KEYS.",
        )
    for mine, theirs in ((one, other), (other, one)):
        if mine is not None and theirs is not None and (path := _common_table(bucket, mine, theirs, table)):
            again = f"scoring train {mine.definition} --train {shlex.quote(mine.tables['train'].path)} --eval {shlex.quote(path)} --again"
            return ModelError(problem, next_step=f"Make them comparable with: {again}")
    names = " and ".join(dict.fromkeys(release.partition("@")[0] for release in (first, second)))
    return ModelError(
        problem,
        next_step=f"Train {names} with the same --eval TABLE, one that has the columns of both: scoring train DEFINITION --train TABLE "
        "--eval TABLE --again",
    )


def _common_table(bucket: Bucket, mine: ReleaseManifest, theirs: ReleaseManifest, table: str | None) -> str | None:
    """An existing table on which the other release was evaluated and that has the columns of ``mine``; None if there is none.

    Training ``mine`` again with this evaluation table makes the two comparable.
    """
    evaluated = theirs.tables.get("eval")
    needed = {column.name for column in mine.columns}
    if evaluated is None or (table is not None and not _is_named(table, evaluated.path)):
        return None
    has_columns = needed <= {column.name for column in theirs.columns}
    return evaluated.path if has_columns and all(map(bucket.exists, [*evaluated.files, *mine.tables["train"].files])) else None
