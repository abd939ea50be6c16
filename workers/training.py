"""Trains a definition on a table, judges it beside the naive predictors, and publishes the release.

The release's id follows from the job, so a training that runs twice makes one release: the second finds it in place.
"""

import inspect
import os
import tempfile
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from model_store.definitions import Definition, list_definitions, load_definition
from model_store.gate import CHAMPION, Limits
from model_store.report import make_report
from model_store.store import digest_folder, library_versions, publish, read_manifest, release_id
from shared.aliases import MANIFEST, Alias, latest_of, list_aliases, point_alias, read_alias, release_folder
from shared.bucket import Bucket
from shared.errors import ModelError, ScoringError, StrayOrderError, TableError
from shared.job_folder import JobFolder, Outcome, Promotion
from shared.manifests import LOSSES, REPORT, ReleaseManifest
from shared.messages import TrainJob
from shared.processes import temporary_folder
from workers.judging import Places, Trained, judge_release
from workers.training_tables import TrainingTable, read_training_table

STANDARD = Limits()


def train_release(folder: JobFolder, places: Places, limits: Limits = STANDARD) -> Outcome | None:
    """Fit, evaluate, publish, point the aliases; the outcome of the job, whoever decided it.

    ``limits`` are those of the gate.

    Raises:
        TableError: a table cannot be read or lacks what training needs.
        ModelError: the definition is unknown or fails.
    """
    outcome = folder.outcome()
    if outcome is None:
        job = train_job(folder)
        _check_alias(job, places.definitions)
        release = release_id(job.definition, job.job_id, f"{job.created:%Y%m%dT%H%M%SZ}")
        if not folder.bucket.exists(f"{release_folder(release)}/{MANIFEST}"):
            _make_release(folder, job, release, places, limits)
        if folder.outcome() is None:
            folder.end(_done(folder.bucket, job, read_manifest(folder.bucket, release)))
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
    promotion = outcome.promotion
    # not if it was moved since the outcome was written, by an earlier run of this step, another training or a person
    if promotion is not None and _since(read_alias(folder.bucket, CHAMPION)) == promotion.champion_since:
        point_alias(folder.bucket, CHAMPION, outcome.release)


def _since(alias: Alias | None) -> datetime | None:
    return None if alias is None else alias.at


def train_job(folder: JobFolder) -> TrainJob:
    """The request, which must be one to train."""
    job = folder.job()
    if not isinstance(job, TrainJob):
        raise StrayOrderError(f"job {job.job_id} is a {job.kind} job, not one that trains")
    return job


def staging() -> Path:
    """The folder of this machine in which releases are put together."""
    return Path(tempfile.gettempdir()) / f"scoring-{os.getuid()}"


def _make_release(folder: JobFolder, job: TrainJob, release: str, places: Places, limits: Limits) -> None:
    began = time.monotonic()
    definition = load_definition(job.definition, places.definitions)
    folder.say(f"reading {job.train}")
    train = read_training_table(folder.bucket, job.train, definition.columns)
    held_out = None
    if job.eval is not None:
        folder.say(f"reading {job.eval}")
        held_out = read_training_table(folder.bucket, job.eval, definition.columns, train.columns)
    folder.say(f"fitting {definition.name} on {len(train.frame):,} rows")
    model = fit(definition, train)
    folder.say("evaluating")
    tables = {"train": train} | ({} if held_out is None else {"eval": held_out})
    rates = {name: rates_of(definition, model, table) for name, table in tables.items()}
    trained = Trained(definition=definition, model=model, tables=tables, rates=rates)
    judgement = judge_release(folder.bucket, trained, places, job.promote, limits)
    if folder.outcome() is not None:
        return  # cancelled while it was fitted
    folder.say("publishing the release")
    with temporary_folder(staging()) as staged:
        model.save(staged)
        taken = {REPORT, LOSSES} & {file.name for file in staged.iterdir()}
        if taken:
            raise ModelError(
                f"the definition {definition.name} saves a file {min(taken)}, which is the name of one of ours",
                next_step="Give it another name in its method save.",
            )
        manifest = ReleaseManifest(
            release=release,
            definition=definition.name,
            definition_sha256=definition.source_sha256,
            created=datetime.now(UTC),
            job_id=job.job_id,
            model_file=definition.model_file,
            columns=train.columns,
            files={},
            tables={name: table.fingerprint for name, table in tables.items()},
            metrics=judgement.metrics,
            libraries=library_versions(),
            seconds=time.monotonic() - began,
            evaluation=judgement.evaluation,
        )
        (staged / REPORT).write_text(make_report(manifest), encoding="utf-8")
        if held_out is not None:
            (staged / LOSSES).write_bytes(judgement.named_losses(release).to_parquet())
        manifest = manifest.model_copy(update={"files": digest_folder(staged)})
        publish(folder.bucket, staged, manifest)


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


def rates_of(definition: Definition, model: Any, table: TrainingTable) -> np.ndarray:  # noqa: ANN401
    """The rates that a model predicts for the rows of a table, cut to [0, 1].

    Raises:
        ModelError: the definition's own code failed; the sentence says how.
    """
    X, _ = _prepared(definition, table)
    try:
        return np.clip(np.asarray(model.predict(X), dtype=np.float64), 0, 1)
    except Exception as error:
        raise _own_failure(definition, "predict", error) from error


def _prepared(definition: Definition, table: TrainingTable) -> tuple[Any, Any]:
    X, y, problem = definition.data_preparation(table.frame)
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


def _done(bucket: Bucket, job: TrainJob, manifest: ReleaseManifest) -> Outcome:
    judged = manifest.judged_on
    figures = manifest.metrics[judged][manifest.definition]
    naive = manifest.metrics[judged]["mean of all"]
    gate, promotion = _verdict(bucket, job, manifest)
    facts = {
        "rows trained": f"{manifest.tables['train'].rows:,}",
        f"log-loss per click ({judged})": f"{figures['log_loss_per_click']:.5f} (the mean of all: {naive['log_loss_per_click']:.5f})",
        f"click-weighted MAE ({judged})": f"{figures['mae_by_click']:.5f}",
        "calibration error": f"{figures['calibration_error']:.5f}",
        "gate": gate,
        "report": f"{release_folder(manifest.release)}/{REPORT}",
        "seconds": f"{manifest.seconds:.1f}",
    }
    name = job.alias or (CHAMPION if promotion else manifest.definition)
    return Outcome(
        state="done",
        at=datetime.now(UTC),
        definition=manifest.definition,
        release=manifest.release,
        result=release_folder(manifest.release),
        facts={fact: value for fact, value in facts.items() if value},
        promotion=promotion,
        next_step=f"Score with it: scoring score TABLE --model {name}",
    )


def _verdict(bucket: Bucket, job: TrainJob, manifest: ReleaseManifest) -> tuple[str, Promotion | None]:
    """What the gate said, in words; and the promotion, unless the champion is another by now than the one it was compared with."""
    if manifest.evaluation is None:
        return "", None
    verdict, now = manifest.evaluation.gate, read_alias(bucket, CHAMPION)
    if not verdict.promotes:
        return verdict.reason, None
    if job.promote == "auto" and now is not None and now.release not in (verdict.champion, manifest.release):
        again = f"scoring train {manifest.definition} --promote auto --again"
        return f"not promoted: {now.release} became the champion meanwhile, and it was not compared with that; type: {again}", None
    return verdict.reason, Promotion(champion_since=_since(now))
