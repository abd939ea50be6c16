"""Finds releases for people, with their aliases and in ranked order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.aliases import list_aliases
from shared.catalog.manifests import ReleaseManifest, ResultManifest
from shared.catalog.releases import FoundRelease, UnreadableRelease, inspect_release, list_releases, read_release
from shared.catalog.retirements import retired_releases
from shared.jobs.files import Subfolder
from shared.jobs.folder import JOBS, JobFolder, Outcome
from shared.jobs.messages import ScoreJob
from shared.signatures import Signature

RANKING_METRIC = "log_loss_per_click"


@dataclass(frozen=True, kw_only=True)
class ShownRelease:
    """A release with the aliases that point to it."""

    manifest: ReleaseManifest
    aliases: list[str]
    signed: Signature
    retired: str = ""
    """When, by whom and why it was retired; empty when it is in use."""

    @property
    def figures(self) -> dict[str, float]:
        """Its own metrics on the evaluation table, or on the training table if there is no other."""
        return self.manifest.metrics[self.manifest.judged_on][self.manifest.definition]

    @property
    def judged(self) -> tuple[str, str]:
        """Identifies the rows of the evaluation: two releases with the same value can be ranked."""
        table = self.manifest.tables.get(self.manifest.judged_on)
        return "train" if self.manifest.judged_on_seen else "eval", table.contents if table else ""

    @property
    def judged_on(self) -> str:
        """The table of the evaluation in words; a training table is marked."""
        table = self.manifest.tables.get(self.manifest.judged_on)
        name = spoken_table(table.path) if table else "a table that is not known"
        return f"{name} (trained on it)" if self.manifest.judged_on_seen else name

    @property
    def size(self) -> int:
        """The size of its files, in bytes."""
        return sum(file.size for file in self.manifest.files.values())


def inspect_releases(bucket: Bucket) -> tuple[list[ShownRelease], list[UnreadableRelease]]:
    """Every release in the store, the newest first, and those whose manifest cannot be read."""
    by_release, retired = _aliases_by_release(bucket), retired_releases(bucket)
    found: list[ShownRelease] = []
    unreadable: list[UnreadableRelease] = []
    for release in list_releases(bucket):
        if isinstance(release, UnreadableRelease):
            unreadable.append(release)
        else:
            found.append(_shown_release(release, by_release, retired))
    return sorted(found, key=lambda release: release.manifest.created, reverse=True), unreadable


def find_releases(bucket: Bucket) -> list[ShownRelease]:
    """Every release in the store whose manifest can be read, the newest first."""
    return inspect_releases(bucket)[0]


def find_release(bucket: Bucket, release: str) -> ShownRelease:
    """One release by its id; raises ModelError when it does not exist or its manifest cannot be read."""
    return _shown_release(read_release(bucket, release), _aliases_by_release(bucket), retired_releases(bucket))


def _shown_release(found: FoundRelease, by_release: Mapping[str, list[str]], retired: Mapping[str, str]) -> ShownRelease:
    return ShownRelease(
        manifest=found.manifest, aliases=by_release.get(found.release, []), signed=found.signed, retired=retired.get(found.release, "")
    )


def _aliases_by_release(bucket: Bucket) -> dict[str, list[str]]:
    by_release: dict[str, list[str]] = {}
    for alias, release in sorted(list_aliases(bucket).items()):
        by_release.setdefault(release, []).append(alias)
    return by_release


def trained_by(bucket: Bucket, job_id: str, outcome: Outcome) -> ReleaseManifest | None:
    """The manifest of the release that a job trained; None for a score job, or when the release is gone or unreadable."""
    if isinstance(JobFolder(bucket, job_id).job(), ScoreJob):
        return None
    found = inspect_release(bucket, outcome.release)
    return found.manifest if isinstance(found, FoundRelease) else None


def release_of_result(bucket: Bucket, manifest: ResultManifest) -> ReleaseManifest | None:
    """The manifest of the release of a result; None when it is gone or has other files now."""
    found = inspect_release(bucket, manifest.release)
    return found.manifest if isinstance(found, FoundRelease) and found.manifest.files == manifest.release_files else None


def judged_alike(releases: Sequence[ShownRelease]) -> list[list[ShownRelease]]:
    """Groups releases that were evaluated on the same rows, the best of a group first; the groups keep the order of the releases."""
    groups: dict[tuple[str, str], list[ShownRelease]] = {}
    for release in releases:
        groups.setdefault(release.judged, []).append(release)
    return [sorted(group, key=lambda release: release.figures[RANKING_METRIC]) for group in groups.values()]


def spoken_table(path: str) -> str:
    """The path of a table in the bucket, or only the name of a table that was copied into a job's folder."""
    return re.sub(rf"^{JOBS}/[^/]+/{Subfolder.INPUT}/(train|eval)/", "", path)
