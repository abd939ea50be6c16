"""The daily removal round, in steps of a few seconds: removes due things, assesses all others, and writes tombstones.

Its progress is in the bucket, so any process can run the next step, also after a restart of beat. Two at the same time do no harm.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from pydantic import Field

from shared.bucket.interface import Bucket
from shared.bucket.local import ORPHAN_SECONDS
from shared.catalog.manifests import OUTPUTS
from shared.errors import MessageError
from shared.jobs.folder import JOBS
from shared.jobs.outbox import NOTICES
from shared.records import Record, Timestamp, decode_long
from shared.retention.assessments import Assessment
from shared.retention.config import Retention
from shared.retention.jobs import Inspection
from shared.retention.needs import read_needs
from shared.retention.removal import Removed, remove_due
from shared.retention.survey import SURVEYS
from shared.retention.tombstones import GC, mark, read_marks

PROGRESS = f"{GC}/progress.json"
PERIOD = timedelta(hours=23)
"""The time between the starts of two rounds: a little less than a day, so that each day has one."""
REMOVAL, FOLDERS = "removal", "folders"
PHASES = [REMOVAL, *SURVEYS, FOLDERS]

log = structlog.get_logger()


class Progress(Record):
    """The progress of a round."""

    began: Timestamp
    phase: str
    """The next phase; empty when the round is over."""
    after: str = ""
    """The position in this phase where the next step continues."""
    kept_for: dict[str, str] = Field(default_factory=dict)
    """Job -> a fix of it whose files stay."""
    marked: int = 0
    removed: int = 0


def read_progress(bucket: Bucket) -> Progress | None:
    """The progress of the last round; None when there was none or the file is damaged."""
    text = bucket.read(PROGRESS)
    with contextlib.suppress(MessageError):
        return None if text is None else decode_long(Progress, text)
    return None


def is_due(progress: Progress | None, now: datetime) -> bool:
    """Returns True when a step is due."""
    return progress is None or progress.phase in PHASES or not timedelta(0) <= now - progress.began < PERIOD


MayEnter = Callable[[str], bool]
"""Called with each piece of a round before it is assessed; returns False for one that killed its process."""


def make_step(bucket: Bucket, rules: Retention, now: datetime, seconds: float, may_enter: MayEnter = lambda _: True) -> Progress | None:
    """Continues the round for about ``seconds``, or starts the next one if it is due; returns None when nothing is due.

    Pieces that ``may_enter`` rejects are left out of this round.
    """
    progress = read_progress(bucket)
    if not is_due(progress, now):
        return None
    if progress is None or progress.phase not in PHASES:
        progress = Progress(began=now, phase=PHASES[0])
    limit = time.monotonic() + seconds

    def has_time() -> bool:
        return time.monotonic() < limit

    while True:
        progress = _go_on(bucket, rules, now, progress, has_time, may_enter)
        bucket.write(PROGRESS, progress.to_json())
        if progress.phase not in PHASES or not has_time():
            return progress


def make_round(bucket: Bucket, rules: Retention, now: datetime) -> Progress:
    """Runs a whole round, or the rest of one."""
    while True:
        progress = make_step(bucket, rules, now, 3600)
        if progress is None or progress.phase not in PHASES:
            return progress or Progress(began=now, phase="")


def _go_on(
    bucket: Bucket, rules: Retention, now: datetime, progress: Progress, has_time: Callable[[], bool], may_enter: MayEnter
) -> Progress:
    if not may_enter(progress.phase):
        return _next(progress)
    if progress.phase == REMOVAL:
        removed = remove_due(bucket, rules, now, has_time, may_enter)
        _log(removed)
        update = {"removed": progress.removed + len(removed.things)}
        return progress.model_copy(update=update) if not removed.is_over and not has_time() else _next(progress.model_copy(update=update))
    if progress.phase == FOLDERS:
        for folder in (JOBS, OUTPUTS, NOTICES):
            if may_enter(f"{FOLDERS} {folder}"):
                bucket.drop_empty_folders(folder, ORPHAN_SECONDS)
        return _next(progress)
    inspection = Inspection(bucket=bucket, rules=rules, now=now, needs=read_needs(bucket), kept_for=dict(progress.kept_for))
    return _inspect(inspection, progress, has_time, may_enter)


def _inspect(inspection: Inspection, progress: Progress, has_time: Callable[[], bool], may_enter: MayEnter) -> Progress:
    marks = read_marks(inspection.bucket, inspection.now)
    found: list[Assessment] = []
    after = ""
    for reached, assess in SURVEYS[progress.phase](inspection, progress.after):
        if may_enter(f"{progress.phase} to {reached}" if reached else f"all {progress.phase}"):
            found += [thing for thing in assess() if marks.is_new(thing)]
        elif progress.phase == JOBS:
            break  # the piece may contain a fix, and the jobs that it needs are older
        if not has_time():
            after = reached
            break
    mark(inspection.bucket, found, inspection.now)
    progress = progress.model_copy(update={"kept_for": inspection.kept_for, "marked": progress.marked + len(found)})
    return progress.model_copy(update={"after": after}) if after else _next(progress)


def _next(progress: Progress) -> Progress:
    phases = dict(zip(PHASES, [*PHASES[1:], ""], strict=True))
    return progress.model_copy(update={"phase": phases[progress.phase], "after": ""})


def _log(removed: Removed) -> None:
    if removed.things:
        log.info("removed", things=len(removed.things), bytes=sum(thing.size for thing in removed.things))
    for thing in removed.spared:
        log.info("spared", kind=str(thing.kind), name=thing.name, reason=thing.reason)
