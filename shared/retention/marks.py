"""Applies the retention rules to request marks, which map runs to jobs, and to notices that belong to no job."""

from collections.abc import Iterator

from shared.bucket.interface import FileInfo
from shared.jobs.folder import REQUESTS
from shared.jobs.outbox import NOTICES, OPEN
from shared.retention.assessments import Assessment, Kind, newest, to_keep, to_remove
from shared.retention.jobs import Inspection
from shared.text.durations import in_words

NOT_STARTED = "-not-started"
"""The ending of the name of a notice that is the schedule's only record of a run without a job."""


def assess_requests(inspection: Inspection) -> Iterator[Assessment]:
    """Assesses all runs of a request together, because the newest is found by the numbers of the others."""
    groups: dict[str, list[FileInfo]] = {}
    for info in inspection.bucket.files(REQUESTS):
        groups.setdefault(info.path.rpartition(".")[0], []).append(info)
    age = inspection.rules.records_stay
    for name, files in groups.items():
        if age is None:
            yield to_keep(Kind.REQUEST, name, files, "stays for ever: config/retention.yaml sets no age for jobs")
        elif inspection.now - newest(files) < age:
            yield to_keep(Kind.REQUEST, name, files, f"stays until {newest(files) + age:%Y-%m-%d}")
        else:
            yield to_remove(Kind.REQUEST, name, files, f"not asked for in more than {in_words(age)}")


def assess_notices(inspection: Inspection) -> Iterator[Assessment]:
    """Assesses each notice."""
    groups: dict[str, list[FileInfo]] = {}
    for info in inspection.bucket.tree(NOTICES):
        groups.setdefault("/".join(info.path.split("/")[:2]), []).append(info)
    undelivered = {info.path.rpartition("/")[2] for info in groups.pop(OPEN, [])}
    for path, files in groups.items():
        name = path.rpartition("/")[2]
        age = inspection.rules.notices
        if age is not None and name.startswith("schedule-") and name.endswith(NOT_STARTED):
            age = max(age, inspection.rules.records)  # otherwise the schedule would start that run
        if name in undelivered:
            yield to_keep(Kind.NOTICE, path, files, "its notice is not delivered yet")
        elif age is None:
            yield to_keep(Kind.NOTICE, path, files, "notices stay for ever")
        elif inspection.now - newest(files) < age:
            yield to_keep(Kind.NOTICE, path, files, f"stays until {newest(files) + age:%Y-%m-%d}")
        else:
            yield to_remove(Kind.NOTICE, path, files, f"older than {in_words(age)}")
