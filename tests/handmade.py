"""A release whose weights are set by hand, small tables for it, and score jobs run through their steps without a queue."""

import functools
import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model_store.definitions import Definition, load_definition
from model_store.library import ModelLibrary
from model_store.store import digest_folder, library_versions, publish, release_id
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_latest
from shared.catalog.manifests import Column, ReleaseManifest, TableFingerprint
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import ScoreJob
from workers.scoring import planning, publishing
from workers.scoring.chunks import chunk
from workers.scoring.parts import PartRecord, missing_chunks
from workers.scoring.plan import Plan, read_plan

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PLACE = "2026/11/23"
TABLE = f"data/predict/input/{PLACE}/prediction_input.csv"

FEATURES = [
    Column(name="computer", type="binary"),
    Column(name="smartphone", type="binary"),
    *(Column(name=f"att{number}", type="binary") for number in (1, 2, 3)),
    Column(name="length", type="number"),
]
WEIGHTS = [0.0625, 0.015625, 0.25, -0.125, 0.03125, 1 / 3000]
INTERCEPT = 2.0**-20
METRICS = ("log_loss_per_click", "mae_by_click", "mae", "mse", "calibration_error")
HEADER = "entity_id,att1,att2,att3,length,device"


def publish_handmade(
    bucket: LocalBucket, *, made: datetime = NOON, weights: Sequence[float] = WEIGHTS, definition: Definition | None = None
) -> str:
    """Publishes a release of ``v1``, or of a definition made from it, with these weights and returns its id."""
    import numpy as np

    definition = definition or load_definition("v1")
    model = definition.model_class()
    model.model = {
        "columns": [column.name for column in FEATURES],
        "weights": np.array(weights, dtype=np.float64),
        "intercept": INTERCEPT,
    }
    job_id = f"{made:%Y%m%dt%H%M%Sz}-train-handmade"
    release = release_id(definition.name, job_id, f"{made:%Y%m%dT%H%M%SZ}")
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place)
        model.save(staged)
        manifest = ReleaseManifest(
            release=release,
            definition=definition.name,
            definition_sha256=definition.source_sha256,
            created=made,
            job_id=job_id,
            model_file=definition.model_file,
            columns=FEATURES,
            files=digest_folder(staged),
            tables={"train": TableFingerprint(path="data/train/train.csv", files={}, rows=1, rejected=0)},
            metrics={"train": {"v1": dict.fromkeys(METRICS, 0.05)}},
            libraries=library_versions(),
            seconds=0.1,
        )
        publish(bucket, staged, manifest)
    point_latest(bucket, release)
    return release


def row(number: int) -> str:
    """Row ``number`` of the table: all combinations of attributes and devices come up."""
    device = ("Computer", "Smartphone", "Tablet")[number % 3]
    return f"{1000 + number},{number & 1},{number >> 1 & 1},{number >> 2 & 1},{number % 37 / 4},{device}"


def write_table(bucket: LocalBucket, lines: Sequence[str], path: str = TABLE) -> str:
    """Puts a csv file with these lines below the header into the bucket and returns its path."""
    bucket.write(path, "\n".join([HEADER, *lines, ""]).encode())
    return path


def replace_in_place(bucket: LocalBucket, path: str, old: bytes, new: bytes, *, way: str) -> None:
    """Another content of the same size and time, as ``cp -p`` (in place) and ``rsync -t`` (a new file) leave it."""
    place, data = bucket.place(path), (bucket.read(path) or b"").replace(old, new)
    before = place.stat()
    if way == "rsync":
        place.with_suffix(".new").write_bytes(data)
        place.with_suffix(".new").replace(place)
    else:
        place.write_bytes(data)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (place.stat().st_size, place.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def make_job(
    bucket: LocalBucket, *, minute: int = 0, table: str = TABLE, model: str = "v1", place: str = PLACE, **more: object
) -> JobFolder:
    """The folder of a new score job that was asked for ``minute`` minutes past noon."""
    created = NOON + timedelta(minutes=minute)
    job = ScoreJob(job_id=f"{created:%Y%m%dt%H%M%Sz}-score-{minute:06d}", created=created, model=model, table=table, place=place, **more)
    folder = JobFolder(bucket, job.job_id)
    assert folder.create(job)
    return folder


def plan(folder: JobFolder) -> Plan:
    made = planning.plan_job(folder)
    assert made is not None
    return made


def score_chunks(folder: JobFolder, cache: Path, definitions: Path | None = None) -> list[PartRecord | None]:
    """Scores every chunk of the plan that has no part, as the tasks do; ``definitions`` holds those that are not shipped."""
    made = read_plan(folder)
    library = functools.partial(ModelLibrary, folder.bucket, cache, definitions)  # a new one for each chunk: nothing is in memory
    return [chunk.score_chunk(folder, made.chunk(index), library()) for index in missing_chunks(folder, made)]


def run_job(folder: JobFolder, definitions: Path | None = None) -> Outcome:
    """Plans, scores and finishes a job; returns how it ended."""
    plan(folder)
    score_chunks(folder, Path(folder.bucket.url) / "no-cache", definitions)
    outcome = publishing.finish_job(folder)
    assert outcome is not None
    return outcome


def text_at(bucket: LocalBucket, folder: str) -> str:
    """The uncompressed predictions in a folder of the bucket, after the manifest beside them was found to be right."""
    data = bucket.read(f"{folder}/prediction_output.csv.gz")
    assert data is not None, f"there are no predictions in {folder}"
    manifest = json.loads(bucket.read(f"{folder}/manifest.json") or b"")
    assert manifest["output"] == {"format": 1, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    text = gzip.decompress(data)
    assert manifest["text_sha256"] == hashlib.sha256(text).hexdigest()
    return text.decode()


def die_after(
    patch: pytest.MonkeyPatch,
    bucket: LocalBucket,
    writes: int,
    methods: Sequence[str],
    error: Callable[[], BaseException] = KeyboardInterrupt,
) -> list[int]:
    """Lets the process die, as if it were killed, at the call of these methods after so many; with another error the store fails.

    Returns how many calls are left, which goes below 0 when it dies.
    """
    left = [writes]

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise error()
            return method(*arguments, **more)

        return call

    for name in methods:
        patch.setattr(bucket, name, dying(getattr(bucket, name)))
    return left


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
