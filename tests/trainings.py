"""Small made-up tables with a known truth, and trainings on them run without a queue."""

import tempfile
from datetime import timedelta
from pathlib import Path

from model_store.library import ModelLibrary
from producers.sample.tables import write_tables
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ReleaseManifest
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import TrainJob
from shared.records import decode_long
from tests.handmade import NOON
from workers.training import releasing

TRAIN, EVAL = "data/train/2026/11/23/train.csv", "data/train/2026/11/23/eval.csv"

GUESSING = '''
"""Says the same for every row."""

from pathlib import Path

import numpy as np

from model_store import model_template


class Model(model_template.Model):
    MODEL_FILE = "model.txt"

    def _model_definition(self, config=None):
        return None

    def train(self, X, y, sample_weight=None):
        self.model = 0.04
        return self.score(y, self.predict(X))

    def predict(self, X):
        return np.full(len(X), self.model)

    def save(self, path):
        Path(path, self.MODEL_FILE).write_text(str(self.model))

    def load(self, path):
        self.model = float(Path(path).read_text())
'''
"""A definition that is worse than the mean of all."""


def write_training_tables(bucket: LocalBucket, rows: int = 6000) -> None:
    """Puts ``TRAIN`` and ``EVAL`` into the bucket."""
    with tempfile.TemporaryDirectory() as aside:
        made = write_tables(Path(aside), 10, 1, train_rows=rows, format="csv")
        bucket.upload(made.train.path, TRAIN)
        bucket.upload(made.evaluation.path, EVAL)


def add_definition(folder: Path, name: str, code: str = GUESSING) -> Path:
    """Puts a definition into a folder of further ones, and returns that folder."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "model.py").write_text(code)
    return folder


def make_training(bucket: LocalBucket, definition: str = "v1", *, minute: int = 0, **more: object) -> JobFolder:
    """The folder of a new job that trains on ``TRAIN``."""
    created = NOON + timedelta(minutes=minute)
    folder = JobFolder(bucket, f"{created:%Y%m%dt%H%M%Sz}-train-{minute:06d}")
    fields = {"train": TRAIN, "eval": EVAL} | more
    assert folder.create(TrainJob(job_id=folder.job_id, created=created, definition=definition, **fields))
    return folder


def library_of(bucket: Bucket, definitions: Path | None = None) -> ModelLibrary:
    """The releases of a bucket, with a folder of further definitions if one is given."""
    return ModelLibrary(bucket, Path(bucket.url).parent / "cache", definitions)


def train(folder: JobFolder, definitions: Path | None = None) -> Outcome:
    """Runs the step that trains."""
    outcome = releasing.train_release(folder, library_of(folder.bucket, definitions))
    assert outcome is not None
    return outcome


def manifest_of(bucket: LocalBucket, outcome: Outcome) -> ReleaseManifest:
    """The manifest of the release that a job made."""
    return decode_long(ReleaseManifest, bucket.read(f"{outcome.result}/manifest.json") or b"")
