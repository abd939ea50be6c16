"""Applies the retention rules to the results at a place and their revisions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.bucket.interface import Bucket, FileInfo
from shared.catalog.manifests import CHANNELS, OUTPUTS
from shared.catalog.paths import MANIFEST, REVISIONS
from shared.jobs.files import JobFile
from shared.jobs.folder import JOBS
from shared.jobs.ids import ABANDONED_AFTER, time_of_job
from shared.retention.assessments import Assessment, Kind, newest, to_keep, to_remove
from shared.retention.jobs import Inspection
from shared.retention.revisions import kept_revisions
from shared.text.durations import in_words

DEPTH = 4
"""Depth below ``data/predict/output`` of the folders that are listed together: the results of a definition's day."""


@dataclass(kw_only=True)
class ResultPlace:
    """The files and revisions of a place."""

    path: str
    files: list[FileInfo] = field(default_factory=list)
    revisions: dict[str, list[FileInfo]] = field(default_factory=dict)

    @property
    def everything(self) -> list[FileInfo]:
        """All files, including those of the revisions."""
        return [*self.files, *(info for files in self.revisions.values() for info in files)]


def result_folders(bucket: Bucket) -> Iterator[str]:
    """Folders below the output folder that together contain all results, in the order of their paths."""
    for definition in bucket.folders(OUTPUTS):
        if f"{OUTPUTS}/{definition}" != CHANNELS:
            yield from _below(bucket, f"{OUTPUTS}/{definition}", 1)


def _below(bucket: Bucket, folder: str, depth: int) -> Iterator[str]:
    names = bucket.folders(folder) if depth < DEPTH else []
    if not names or REVISIONS in names:
        yield folder
        return
    for name in names:
        yield from _below(bucket, f"{folder}/{name}", depth + 1)


def places_in(files: Sequence[FileInfo]) -> list[ResultPlace]:
    """The places of these files."""
    found: dict[str, ResultPlace] = {}
    for info in files:
        folder, _, _ = info.path.rpartition("/")
        path, is_revision, inside = folder.partition(f"/{REVISIONS}/")
        place = found.setdefault(path, ResultPlace(path=path))
        if is_revision:
            place.revisions.setdefault(inside.partition("/")[0], []).append(info)
        else:
            place.files.append(info)
    return [found[path] for path in sorted(found)]


def assess_place(inspection: Inspection, place: ResultPlace) -> list[Assessment]:
    """Assesses the place and each of its revisions."""
    made = {name: time_of_job(name) for name in place.revisions}
    whole = _assess_whole(inspection, place, made)
    if whole is not None and whole.is_removed:
        return [whole]
    things = [] if whole is None else [whole]
    complete = {
        name: moment
        for name, moment in made.items()
        if moment is not None and any(info.path.endswith(f"/{MANIFEST}") for info in place.revisions[name])
    }
    rules = inspection.rules.revisions
    kept = dict.fromkeys(complete, "revisions stay for ever") if rules is None else kept_revisions(complete, rules, inspection.now)
    kept |= {name: reason for name in complete if (reason := inspection.needs.reason_of_revision(name)) is not None}
    if kept.keys() != complete.keys():
        kept |= _current(inspection.bucket, place, complete)
    for name in sorted(place.revisions, reverse=True):
        path, files = f"{place.path}/{REVISIONS}/{name}", place.revisions[name]
        if made[name] is None:
            things.append(to_keep(Kind.UNKNOWN, path, files, "its name is not that of a job"))
        elif name not in complete:
            things.append(_assess_incomplete(inspection, path, name, files))
        elif name in kept:
            things.append(to_keep(Kind.REVISION, path, files, kept[name]))
        else:
            things.append(to_remove(Kind.REVISION, path, files, "no rule of revisions keeps it"))
    return things


def _assess_whole(inspection: Inspection, place: ResultPlace, made: Mapping[str, datetime | None]) -> Assessment | None:
    """Assesses the place as a whole; None when it has only revisions."""
    age = inspection.rules.results
    last = max([newest(place.files), *filter(None, made.values())]) if not any(made.values()) else max(filter(None, made.values()))
    in_use = any(inspection.needs.reason_of_revision(name) for name in place.revisions) or None in made.values()
    if age is not None and not in_use and inspection.now - last >= age:
        return to_remove(Kind.RESULT, place.path, place.everything, f"nothing was published there for more than {in_words(age)}")
    if not place.files:
        return None
    why = "results stay for ever" if age is None else f"stays until {last + age:%Y-%m-%d}"
    return to_keep(Kind.RESULT, place.path, place.files, why)


def _current(bucket: Bucket, place: ResultPlace, complete: Mapping[str, datetime]) -> dict[str, str]:
    """The published revision of the place; all of its revisions when the manifest cannot be read."""
    path = f"{place.path}/{MANIFEST}"
    text = bucket.read(path)
    if text is None:
        return {}
    try:
        return {str(json.loads(text)["job_id"]): "it is what is published"}
    except (ValueError, KeyError, TypeError, RecursionError):
        return dict.fromkeys(complete, f"{path} cannot be read, so what is published is unknown")


def _assess_incomplete(inspection: Inspection, path: str, job_id: str, files: Sequence[FileInfo]) -> Assessment:
    """Assesses a revision without a manifest: its job is about to end or was cancelled, or a removal was interrupted."""
    needed = inspection.needs.reason_of_revision(job_id)
    if needed is not None:
        return to_keep(Kind.REVISION, path, files, f"its job: {needed}")
    if not inspection.rules.is_set or inspection.now - newest(files) < ABANDONED_AFTER:
        return to_keep(Kind.LEFTOVER, path, files, "it has no manifest yet")
    if inspection.bucket.exists(f"{JOBS}/{job_id}/{JobFile.PLAN}") and not inspection.bucket.exists(f"{JOBS}/{job_id}/{JobFile.PUBLISHED}"):
        return to_keep(Kind.REVISION, path, files, f"job {job_id} may still be resumed")
    return to_remove(Kind.LEFTOVER, path, files, "it has no manifest, and its job is gone or cannot go on")
