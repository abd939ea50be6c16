"""Trains a definition on a table, judges it beside the naive predictors, and publishes the release.

The release's id follows from the job, so a training that runs twice makes one release: the second finds it in place.
"""

import inspect
import os
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from model_store.definitions import Definition, list_definitions, load_definition
from model_store.evaluation import evaluate, naive_predictors
from model_store.store import digest_folder, library_versions, publish, read_manifest, release_id
from shared.aliases import MANIFEST, latest_of, list_aliases, point_alias, release_folder
from shared.errors import ModelError, ScoringError, StrayOrderError, TableError
from shared.job_folder import JobFolder, Outcome
from shared.manifests import Column, Metrics, ReleaseManifest
from shared.messages import TrainJob
from shared.processes import temporary_folder
from workers.training_tables import TrainingTable, read_training_table


def train_release(folder: JobFolder, definitions: Path | None = None) -> Outcome | None:
    """Fit, evaluate, publish, point the aliases; the outcome of the job, whoever decided it.

    Raises:
        TableError: a table cannot be read or lacks what training needs.
        ModelError: the definition is unknown or fails.
    """
    outcome = folder.outcome()
    if outcome is None:
        job = train_job(folder)
        _check_alias(job, definitions)
        release = release_id(job.definition, job.job_id, f"{job.created:%Y%m%dT%H%M%SZ}")
        if not folder.bucket.exists(f"{release_folder(release)}/{MANIFEST}"):
            _make_release(folder, job, release, definitions)
        if folder.outcome() is None:
            folder.end(_done(job, read_manifest(folder.bucket, release)))
        outcome = folder.outcome()
    if outcome is not None and outcome.state == "done" and not folder.has("published.json"):
        # here and not before: who is killed in between comes back to it
        _point_aliases(folder, outcome)
        folder.bucket.write(folder.file("published.json"), b"{}")
    return outcome


def _check_alias(job: TrainJob, definitions: Path | None) -> None:
    if job.alias == "latest" or job.alias in list_definitions(definitions):
        raise ModelError(f"{job.alias} cannot be an alias: it names something already", next_step="Choose another name, like champion.")


def _point_aliases(folder: JobFolder, outcome: Outcome) -> None:
    """Let ``latest`` mean the release unless it means a newer one, and the alias that was asked for."""
    job, latest = train_job(folder), latest_of(outcome.definition)
    if list_aliases(folder.bucket).get(latest, "") < outcome.release:
        point_alias(folder.bucket, latest, outcome.release)
    if job.alias is not None:
        point_alias(folder.bucket, job.alias, outcome.release)


def train_job(folder: JobFolder) -> TrainJob:
    """The request, which must be one to train."""
    job = folder.job()
    if not isinstance(job, TrainJob):
        raise StrayOrderError(f"job {job.job_id} is a {job.kind} job, not one that trains")
    return job


def staging() -> Path:
    """The folder of this machine in which releases are put together."""
    return Path(tempfile.gettempdir()) / f"scoring-{os.getuid()}"


def _make_release(folder: JobFolder, job: TrainJob, release: str, definitions: Path | None) -> None:
    began = time.monotonic()
    definition = load_definition(job.definition, definitions)
    folder.say(f"reading {job.train}")
    train = _read(folder, job.train, definition)
    held_out = None
    if job.eval is not None:
        folder.say(f"reading {job.eval}")
        held_out = _read(folder, job.eval, definition, train.columns)
    folder.say(f"fitting {definition.name} on {len(train.frame):,} rows")
    model = fit(definition, train)
    folder.say("evaluating")
    judged = {"train": train} | ({} if held_out is None else {"eval": held_out})
    metrics = {name: judge(definition, model, train, table) for name, table in judged.items()}
    if folder.outcome() is not None:
        return  # cancelled while it was fitted
    folder.say("publishing the release")
    with temporary_folder(staging()) as staged:
        try:
            model.save(str(staged))  # a string, as the older service gave it
        except Exception as error:
            raise _own_failure(definition, "save", error) from error
        manifest = ReleaseManifest(
            release=release,
            definition=definition.name,
            definition_sha256=definition.source_sha256,
            created=datetime.now(UTC),
            job_id=job.job_id,
            model_file=definition.model_file,
            columns=train.columns,
            keys=definition.keys,
            interval=definition.has_interval,
            files=digest_folder(staged),
            tables={name: table.fingerprint for name, table in judged.items()},
            metrics=metrics,
            libraries=library_versions(),
            seconds=time.monotonic() - began,
        )
        publish(folder.bucket, staged, manifest)


def _read(folder: JobFolder, path: str, definition: Definition, columns: list[Column] | None = None) -> TrainingTable:
    return read_training_table(folder.bucket, path, definition.columns, columns, keys=definition.keys, text=definition.text)


def fit(definition: Definition, table: TrainingTable) -> Any:  # noqa: ANN401 - a definition's own class
    """A model of this definition, trained on the table; clicks are its weights if it takes weights.

    Raises:
        ModelError: the definition's own code failed; the sentence says how.
    """
    model = definition.model_class()
    X, y = _prepared(definition, table)
    weights: Mapping[str, np.ndarray] = (
        {"sample_weight": table.outcomes.clicks} if "sample_weight" in inspect.signature(model.train).parameters else {}
    )
    try:
        model.train(X, y, **weights)
    except Exception as error:
        raise _own_failure(definition, "train", error) from error
    return model


def judge(definition: Definition, model: Any, train: TrainingTable, table: TrainingTable) -> dict[str, Metrics]:  # noqa: ANN401
    """The metrics of a model on a table, beside those of every naive predictor made from the training table."""
    X, _ = _prepared(definition, table)
    try:
        predicted = np.clip(np.asarray(model.predict(X), dtype=np.float64), 0, 1)
    except Exception as error:
        raise _own_failure(definition, "predict", error) from error
    predictions = {definition.name: predicted} | naive_predictors(train.outcomes, table.outcomes)
    happened = table.outcomes
    return {name: asdict(evaluate(happened.conversions, happened.clicks, rates)) for name, rates in predictions.items()}


def _prepared(definition: Definition, table: TrainingTable) -> tuple[Any, Any]:
    try:
        X, y, problem = definition.prepare(table.frame)
    except Exception as error:
        raise _own_failure(definition, "data_preparation", error) from error
    if problem is not None:
        raise TableError(f"the definition {definition.name} cannot prepare {table.fingerprint.path}: {problem}") from problem
    return X, y


def _own_failure(definition: Definition, step: str, error: Exception) -> ScoringError:
    """An error out of a definition's own code, in one sentence; one of ours stays as it is."""
    if isinstance(error, ScoringError):
        return error
    last = traceback.extract_tb(error.__traceback__)[-1]
    return ModelError(
        f"the definition {definition.name} failed in {step}: {error!r} ({Path(last.filename).name} line {last.lineno})",
        next_step=f"Find out more with: scoring models check {definition.name}",
    )


def _done(job: TrainJob, manifest: ReleaseManifest) -> Outcome:
    judged = "eval" if "eval" in manifest.metrics else "train"
    figures = manifest.metrics[judged][manifest.definition]
    naive = manifest.metrics[judged]["mean of all"]
    facts = {
        "rows trained": f"{manifest.tables['train'].rows:,}",
        f"log-loss per click ({judged})": f"{figures['log_loss_per_click']:.5f} (the mean of all: {naive['log_loss_per_click']:.5f})",
        f"click-weighted MAE ({judged})": f"{figures['mae_by_click']:.5f}",
        "calibration error": f"{figures['calibration_error']:.5f}",
        "seconds": f"{manifest.seconds:.1f}",
    }
    return Outcome(
        state="done",
        at=datetime.now(UTC),
        definition=manifest.definition,
        release=manifest.release,
        result=release_folder(manifest.release),
        facts=facts,
        next_step=f"Score with it: scoring score TABLE --model {job.alias or manifest.definition}",
    )
