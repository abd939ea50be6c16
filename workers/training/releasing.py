"""Trains a definition, evaluates the model and publishes it as a release."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_store.definitions import Definition
from model_store.evaluation.gate import Limits
from model_store.isolated_loading import predict_isolated
from model_store.library import ModelLibrary
from model_store.report.page import make_report
from model_store.store import library_versions, publish, read_manifest, release_id
from shared.bucket.interface import Bucket
from shared.catalog.aliases import CHAMPION, damaged_aliases, known_alias
from shared.catalog.manifests import LOSSES, REPORT, TRAINED_ROWS, CandidateState, Column, ReleaseManifest, Search, TableFingerprint
from shared.catalog.paths import MANIFEST, release_folder
from shared.catalog.table_audits import doubts
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, Outcome, Pointing, Promotion
from shared.jobs.messages import TrainJob
from shared.jobs.states import JobState
from shared.processes import temporary_folder
from workers.tables.training.table import TrainingTable, read_training_table
from workers.training.aliases import check_alias, point_aliases, since
from workers.training.fitting import choose_tree_evaluation, fit, fit_own_search, rates_of, read_search_config, train_job
from workers.training.plausibility import check_evaluation_table, check_training_table, warn_of_rates, warn_of_seen_rows, warn_of_tables
from workers.training.rivals import Champion, EvaluationResult, IsolatedLoading, Rivals, Trained, evaluate_release, find_rivals
from workers.training.saving import check_reproduced, digest_staged, request_to, save_model
from workers.training.trained_rows import share_trained_on, sketch

STANDARD = Limits()
IN_TIME = IsolatedLoading()

FindParameters = Callable[[TableFingerprint], Search | None]


def train_release(
    folder: JobFolder,
    library: ModelLibrary,
    limits: Limits = STANDARD,
    find: FindParameters = lambda _: None,
    loading: IsolatedLoading = IN_TIME,
) -> Outcome | None:
    """Fits, evaluates, publishes and points the aliases; returns the outcome of the job, which another run may have decided.

    Args:
        folder: the folder of the job.
        library: the definitions and releases.
        limits: the limits of the gate.
        find: returns the result of a parameter search for the training table; called only when needed.
        loading: how the release and its rivals are loaded for the comparison.

    Raises:
        TableError: a table cannot be read or lacks what training needs.
        ModelError: the definition is unknown or fails.
    """
    outcome = folder.outcome()
    if outcome is None:
        job = train_job(folder)
        check_alias(job, library)
        if not is_trained(folder, job):
            _make_release(folder, library, limits, find, loading)
        if folder.outcome() is None:
            folder.write_outcome(_done(folder.bucket, job, read_manifest(folder.bucket, _release_of(job))))
        outcome = folder.outcome()
    if outcome is not None and outcome.state == JobState.DONE and not folder.is_published:
        # not earlier: if the process is killed before this write, the next run repeats both
        done = point_aliases(folder, outcome)
        folder.bucket.write(folder.file(JobFile.PUBLISHED), json.dumps({"facts": done}).encode())
    return outcome


def is_trained(folder: JobFolder, job: TrainJob) -> bool:
    """Returns True if the release of this job is published."""
    return folder.bucket.exists(f"{release_folder(_release_of(job))}/{MANIFEST}")


def _release_of(job: TrainJob) -> str:
    return release_id(job.definition, job.job_id, f"{job.created:%Y%m%dT%H%M%SZ}")


def _make_release(folder: JobFolder, library: ModelLibrary, limits: Limits, find: FindParameters, loading: IsolatedLoading) -> None:
    began, job = time.monotonic(), train_job(folder)
    definition = library.definition(job.definition)
    folder.write_stage(f"reading {job.train}")
    train = _read(folder, job, job.train, definition)
    forced = check_training_table(train, force=job.force)
    search = find(train.fingerprint)
    held_out = None
    if job.eval is not None:
        folder.write_stage(f"reading {job.eval}")
        held_out = _read(folder, job, job.eval, definition, train.columns)
        forced += check_evaluation_table(held_out, force=job.force)
    model, search = _fit_model(folder, job, definition, train, search)
    folder.write_stage("evaluating")
    trees = choose_tree_evaluation(definition, model, train)
    tables = {"train": train} | ({} if held_out is None else {"eval": held_out})
    rates = {name: rates_of(definition, model, table) for name, table in tables.items()}
    trained = Trained(definition=definition, model=model, tables=tables, rates=rates, trees=trees)
    with temporary_folder(library.staging) as private_folder:
        staged = private_folder / "release"
        save_model(definition, model, staged)
        draft = _describe(job, trained, search, forced)
        champion = _read_champion(folder.bucket)
        evaluated = evaluate_release(trained, _predict_with_rivals(trained, draft, staged, library, loading), champion, job, limits)
        if folder.outcome() is not None:
            return  # cancelled while the model was fitted
        folder.write_stage("publishing the release")
        figures = {"metrics": evaluated.metrics, "evaluation": evaluated.evaluation, "seconds": time.monotonic() - began}
        _publish(folder.bucket, staged, draft.model_copy(update=figures), trained, evaluated)


def _fit_model(
    folder: JobFolder, job: TrainJob, definition: Definition, train: TrainingTable, search: Search | None
) -> tuple[Any, Search | None]:
    """Returns the fitted model with its search: the given one, or the own search of the definition if the job has a config for that."""
    folder.write_stage(f"fitting {definition.name} on {len(train.frame):,} rows{' with the best parameters' if search else ''}")
    if search is None and job.config is not None:
        return fit_own_search(definition, train, read_search_config(folder, job))
    return fit(definition, train, search.chosen if search else None), search


def _publish(bucket: Bucket, staged: Path, manifest: ReleaseManifest, trained: Trained, evaluated: EvaluationResult) -> None:
    """Adds the files of the evaluation to a saved release, and publishes it."""
    (staged / TRAINED_ROWS).write_bytes(sketch(trained.tables["train"]))
    (staged / REPORT).write_text(make_report(manifest), encoding="utf-8")
    if "eval" in trained.tables:
        (staged / LOSSES).write_bytes(evaluated.named_losses(manifest.release).to_parquet())
    publish(bucket, staged, manifest.model_copy(update={"files": digest_staged(trained.definition, staged)}))


def _describe(job: TrainJob, trained: Trained, search: Search | None, forced: list[str]) -> ReleaseManifest:
    """Returns the manifest of a release that is saved but not yet evaluated."""
    definition, train, held_out = trained.definition, trained.tables["train"], trained.tables.get("eval")
    seen_share = 0.0 if held_out is None else share_trained_on(held_out, train)
    judged, rates = held_out or train, trained.rates[trained.judged_on]
    return ReleaseManifest(
        release=_release_of(job),
        definition=definition.name,
        definition_sha256=definition.source_sha256,
        created=datetime.now(UTC),
        job_id=job.job_id,
        model_file=definition.model_file,
        columns=train.columns,
        keys=definition.keys,
        interval=definition.has_interval,
        files={},
        tables={name: table.fingerprint for name, table in trained.tables.items()},
        metrics={},
        libraries=library_versions(),
        seconds=0.0,
        search=search,
        audits={name: table.audit for name, table in trained.tables.items()},
        warnings=[*warn_of_tables(train, held_out), *warn_of_seen_rows(judged, seen_share), *warn_of_rates(judged, rates)],
        seen_share=seen_share,
        trees=trained.trees,
        forced=forced,
    )


def _read_champion(bucket: Bucket) -> Champion:
    """Returns the release that ``champion`` points to, or why the alias cannot be read."""
    champion, damaged = known_alias(bucket, CHAMPION), damaged_aliases(bucket)
    return Champion(
        release=None if champion is None else champion.release, unknown=damaged[CHAMPION].message if CHAMPION in damaged else ""
    )


def _predict_with_rivals(
    trained: Trained, manifest: ReleaseManifest, staged: Path, library: ModelLibrary, loading: IsolatedLoading
) -> Rivals:
    """Loads the rivals of a release in separate processes to get their rates; the release itself must reproduce its rates there."""
    private_folder, tables = staged.parent, trained.tables
    rivals = find_rivals(tables["eval"], trained.definition.keys, library, private_folder) if "eval" in tables else Rivals()
    own = request_to(trained, manifest, staged)
    results = predict_isolated([own, *rivals.requests], private_folder, library.definitions, loading.seconds)
    with contextlib.closing(results):  # terminates the process in every case
        check_reproduced(trained, own, next(results))
        rivals.take(results, loading.on_crash)
    return rivals


def _read(folder: JobFolder, job: TrainJob, path: str, definition: Definition, columns: list[Column] | None = None) -> TrainingTable:
    return read_training_table(
        folder.bucket,
        path,
        definition.columns,
        columns,
        keys=definition.keys,
        text=definition.text,
        with_week=True,
        max_left_out=job.max_left_out,
    )


def _search_facts(search: Search) -> dict[str, str]:
    states = Counter(candidate.state for candidate in search.candidates)
    others = "".join(f", {states[state]} {state}" for state in (CandidateState.STOPPED, CandidateState.FAILED) if states[state])
    tried = {"candidates": f"{len(search.candidates)} on {len(search.folds)} folds{others}"} if search.candidates else {}
    return tried | {"best parameters": ", ".join(f"{name}={value}" for name, value in search.chosen.items()) or "not recorded"}


def _done(bucket: Bucket, job: TrainJob, manifest: ReleaseManifest) -> Outcome:
    judged = manifest.judged_on
    figures = manifest.metrics[judged][manifest.definition]
    naive = manifest.metrics[judged]["mean of all"]
    where = f"{judged}, trained on too" if judged == "eval" and manifest.judged_on_seen else judged
    gate, promotion = _verdict(bucket, job, manifest)
    facts = {
        "rows trained": f"{manifest.tables['train'].rows:,}",
        f"log-loss per click ({where})": f"{figures['log_loss_per_click']:.5f} (the mean of all: {naive['log_loss_per_click']:.5f})",
        f"click-weighted MAE ({where})": f"{figures['mae_by_click']:.5f}",
        "calibration error": f"{figures['calibration_error']:.5f}",
        **doubts(manifest),
        "gate": gate,
        "report": f"{release_folder(manifest.release)}/{REPORT}",
        "seconds": f"{manifest.seconds:.1f}",
    } | (_search_facts(manifest.search) if manifest.search else {})
    return Outcome(
        state=JobState.DONE,
        at=datetime.now(UTC),
        definition=manifest.definition,
        release=manifest.release,
        result=release_folder(manifest.release),
        facts={fact: value for fact, value in facts.items() if value},
        promotion=promotion,
        pointing=None if job.alias is None else Pointing(alias_since=since(known_alias(bucket, job.alias))),
        next_step=f"Score with it: scoring score TABLE --model {manifest.release}",
    )


def _verdict(bucket: Bucket, job: TrainJob, manifest: ReleaseManifest) -> tuple[str, Promotion | None]:
    """Returns the reason of the gate, and the promotion, unless another release became the champion after the comparison."""
    if manifest.evaluation is None:
        return "", None
    verdict, now = manifest.evaluation.gate, known_alias(bucket, CHAMPION)
    if not verdict.promotes:
        return verdict.reason, None
    if job.promote == "auto" and now is not None and now.release not in (verdict.champion, manifest.release):
        again = f"scoring train {manifest.definition} --promote auto --again"
        return f"not promoted: {now.release} became the champion meanwhile, and it was not compared with that; type: {again}", None
    return verdict.reason, Promotion(champion_since=since(now))
