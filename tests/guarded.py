"""Results on the channel ``live``, made without a queue: a good base, and tables that the guard holds or warns of."""

from collections.abc import Sequence
from pathlib import Path

from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ResultManifest
from shared.catalog.paths import revision_folder
from shared.guard.verdict import GUARD_RECORD, GuardVerdict
from shared.jobs.folder import JobFolder, Outcome
from shared.records import decode_long
from tests.handmade import HEADER, make_job, publish_handmade, row, run_job

ROWS = 1200
"""Enough for every check: ``min_rows`` is 100, for each device."""


def lines_with_clicks(count: int = ROWS) -> list[str]:
    return [f"{row(number)},{number * 7 % 41}" for number in range(count)]


def write_lines(bucket: LocalBucket, lines: Sequence[str], day: int) -> str:
    path = f"data/predict/input/2026/11/{day}/keywords.csv"
    bucket.write(path, "\n".join([f"{HEADER},Clicks", *lines, ""]).encode())
    return path


def score_on_channel(bucket: LocalBucket, lines: Sequence[str], minute: int, **more: object) -> tuple[JobFolder, Outcome]:
    """Scores a table on ``live``; each needs another minute."""
    folder = make_job(bucket, **{"minute": minute, "table": write_lines(bucket, lines, 10 + minute), "channel": "live"} | more)
    return folder, run_job(folder)


def make_guarded_bucket(root: Path) -> tuple[LocalBucket, JobFolder]:
    """A bucket whose channel ``live`` shows the result of the returned job."""
    bucket = LocalBucket(root)
    publish_handmade(bucket)
    folder, outcome = score_on_channel(bucket, lines_with_clicks(), 0)
    assert outcome.state == "done"
    return bucket, folder


def broken_lines() -> list[str]:
    """Half of the rows, of which two thirds have another feature, with one new and one doubled key."""
    halved = lines_with_clicks()[::2]
    changed = [line.replace(",1,", ",0,") if number % 3 else line for number, line in enumerate(halved)]
    return [*changed, f"9{halved[2]}", halved[3]]


def manifest_of(folder: JobFolder, outcome: Outcome) -> ResultManifest:
    return decode_long(ResultManifest, folder.bucket.read(f"{revision_folder(outcome.result, folder.job_id)}/manifest.json") or b"")


def verdict_of(folder: JobFolder, outcome: Outcome) -> GuardVerdict:
    return decode_long(GuardVerdict, folder.bucket.read(f"{revision_folder(outcome.result, folder.job_id)}/{GUARD_RECORD}") or b"")
