"""The search for the best parameters of a definition in small steps, one per candidate and fold.

    jobs/<job id>/params.yaml             the requested config
                  search.json             the folds and the config, fixed before any work            (first writer wins)
                  waves/0001.json         a round: candidates that are tried on one fold in parallel (first writer wins)
                  candidates/0007.02.json the result of candidate 7 on fold 2                        (first writer wins)

A round is made when the previous one is complete, and depends on the records alone: every process makes the same round.
All candidates are tried on the first fold, those that are not clearly worse than the best on the second, and so on.
A killed worker, a lost message or an emptied Redis therefore costs at most the candidates that were being tried.
"""

import functools
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from model_store.definitions import Definition
from model_store.evaluation.metrics import log_losses
from model_store.foreign_code import DefinitionError, calling
from model_store.library import ModelLibrary
from shared.bucket.interface import Bucket
from shared.catalog.manifests import Search, TableFingerprint
from shared.errors import ModelError, PermanentError, TableError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import CandidateMessage, TrainJob
from shared.jobs.search_config import Params
from workers.tables.training.table import TrainingTable, read_training_table
from workers.training.fitting import fit, rates_of, read_search_config, searches_itself, train_job
from workers.training.plausibility import check_training_table
from workers.training.releasing import is_trained
from workers.training.search.candidates import propose
from workers.training.search.files import (
    find_trial,
    missing_candidates,
    read_record,
    read_records,
    read_rounds,
    read_search_plan,
    round_file,
    search_plan_of,
    write_record,
)
from workers.training.search.folds import BLOCKS, blocks_of, folds_of, sides
from workers.training.search.rounds import (
    FoldRecord,
    SearchPlan,
    conclude,
    loss_of,
    next_round,
    show_params,
    successes,
    varied,
)

STAGE_INTERVAL_SECONDS = 1.0
"""Minimum seconds between two updates of the stage of a search: each update reads all records."""


def next_messages(folder: JobFolder, library: ModelLibrary) -> list[CandidateMessage]:
    """Returns the candidates to try before a train job can fit, starting its search if needed; empty if there are none.

    Raises:
        RequestError: the config is invalid.
        ModelError: the definition accepts none of the candidates, or was changed since the search began.
        TableError: the training table cannot be read or cut into folds.
    """
    if folder.outcome() is not None:
        return []
    job = train_job(folder)
    if job.config is None or is_trained(folder, job) or searches_itself(library.definition(job.definition)):
        return []
    plan = read_search_plan(folder) or _begin(folder, job, library)
    _definition_of(job, plan, library)
    while True:
        rounds = read_rounds(folder)
        missing = missing_candidates(folder, rounds)
        if missing:
            return missing
        records = read_records(folder, rounds)
        if records is None:
            continue  # a broken record was deleted and is missing now
        this_round = next_round(plan, rounds, records)
        if this_round is None:
            return []
        folder.write_stage(f"trying {len(this_round.candidates)} candidates on {plan.folds[this_round.fold - 1].words}")
        folder.bucket.create(round_file(folder, this_round.number), this_round.to_json())


def missing_messages(folder: JobFolder) -> tuple[list[CandidateMessage], datetime | None]:
    """Returns the missing candidates of the rounds, and when the newest round was made; changes nothing."""
    rounds = read_rounds(folder)
    return missing_candidates(folder, rounds), rounds[-1].made if rounds else None


def score_candidate(folder: JobFolder, candidate: int, fold: int, library: ModelLibrary) -> FoldRecord | None:
    """Trains a candidate on one side of a fold, evaluates it on the other, and writes the result, unless it exists.

    A definition that fails with these parameters fails this candidate and not the job. Returns None when the job has ended.

    Raises:
        StaleMessageError: the search has no such candidate, or the candidate did not get this fold.
        TableError: the table was changed after the start of the search.
        ModelError: the definition was changed since the search began.
    """
    if (record := read_record(folder, candidate, fold)) is not None:
        return record
    if folder.outcome() is not None:
        return None
    job, plan = train_job(folder), search_plan_of(folder)
    trial = find_trial(folder, candidate, fold)
    definition = _definition_of(job, plan, library)
    table = _read_table(folder.bucket, job, definition)
    _check_table(job, plan, table.fingerprint)
    began = time.monotonic()
    fitted, evaluated = (table.only(rows) for rows in sides(table, plan.folds[fold - 1]))
    try:
        model = fit(definition, fitted, trial.params)
        losses = log_losses(evaluated.observations.conversions, evaluated.observations.clicks, rates_of(definition, model, evaluated))
    except PermanentError as error:
        return write_record(
            folder, FoldRecord(candidate=candidate, fold=fold, params=trial.params, failed=error.message, seconds=_since(began))
        )
    blocks = blocks_of(evaluated.observations.entity_id)
    by_block = (np.bincount(blocks, values, minlength=BLOCKS).tolist() for values in (losses, evaluated.observations.clicks))
    record = FoldRecord(
        candidate=candidate, fold=fold, params=trial.params, losses=next(by_block), clicks=next(by_block), seconds=_since(began)
    )
    return write_record(folder, record)


def give_up(folder: JobFolder, candidate: int, fold: int, reason: str) -> None:
    """Records that a candidate failed for a reason outside of its own step, such as a crash."""
    trial = find_trial(folder, candidate, fold)
    write_record(folder, FoldRecord(candidate=candidate, fold=fold, params=trial.params, failed=reason, seconds=0.0))


def write_best_candidate(folder: JobFolder) -> None:
    """Writes the best candidate so far as the stage of the job, unless a stage was written within ``STAGE_INTERVAL_SECONDS``."""
    stage = folder.bucket.stat(folder.file(JobFile.STAGE))
    if stage is not None and time.time() - stage.modified < STAGE_INTERVAL_SECONDS:
        return
    rounds = read_rounds(folder)
    records = read_records(folder, rounds)
    if not records:
        return
    ok = successes(records)
    if not ok:
        folder.write_stage("every candidate has failed so far")
        return
    most = max(len(folds) for folds in ok.values())
    best = min((number for number, folds in ok.items() if len(folds) == most), key=lambda number: (loss_of(ok[number]), number))
    plan = search_plan_of(folder)
    shown = show_params(varied(plan.config, ok[best][0].params))
    folder.write_stage(f"best so far {loss_of(ok[best]):.5f} on {most} of {len(plan.folds)} folds: {shown}")


def found(folder: JobFolder, table: TableFingerprint) -> Search | None:
    """Returns the result of a train job's search for its table; None if it has no search.

    Raises:
        TableError: the table is not the one of the search.
        ModelError: every candidate failed; the message gives the reason of the first one.
    """
    plan = read_search_plan(folder)
    if plan is None:
        return None
    _check_table(train_job(folder), plan, table)
    rounds = read_rounds(folder)
    return conclude(plan, rounds, read_records(folder, rounds) or {})


def forget_table() -> None:
    """Drops the table that this process caches between the candidates of one job."""
    _read_table.cache_clear()


def _begin(folder: JobFolder, job: TrainJob, library: ModelLibrary) -> SearchPlan:
    """Fixes the config and the folds; the first process to write them decides."""
    definition = library.definition(job.definition)
    config = read_search_config(folder, job)
    _check_parameters(definition, propose(config, []))
    folder.write_stage(f"reading {job.train}")
    table = _read_table(folder.bucket, job, definition)
    check_training_table(table, force=job.force)
    plan = SearchPlan(
        job_id=job.job_id,
        made=datetime.now(UTC),
        definition_sha256=definition.source_sha256,
        config=config,
        folds=folds_of(table, config.folds),
        table=table.fingerprint,
    )
    folder.bucket.create(folder.file(JobFile.SEARCH), plan.to_json())
    return search_plan_of(folder)


def _check_parameters(definition: Definition, candidates: Sequence[Params]) -> None:
    """Raises ModelError when the definition accepts none of these candidates; if it accepts some, only the others fail."""
    refused: PermanentError | None = None
    for params in candidates:
        try:
            with calling(definition.name, definition.folder, "_model_definition"):
                definition.model_class()._model_definition(dict(params))
        except (DefinitionError, TableError) as error:
            refused = refused or error
        else:
            return
    # a definition that refuses a parameter deliberately gives a message, which is shown without file and line
    why = getattr(getattr(refused, "__cause__", None), "message", "") or getattr(refused, "message", "there are none")
    raise ModelError(
        f"the definition {definition.name} takes none of the candidates of the config: {why}",
        next_step="Correct the parameters in the config.",
    )


def _definition_of(job: TrainJob, plan: SearchPlan, library: ModelLibrary) -> Definition:
    definition = library.definition(job.definition)
    if definition.source_sha256 != plan.definition_sha256:
        raise ModelError(
            f"the definition {job.definition} was changed since the search of job {job.job_id} began",
            next_step=f"Request it again: scoring train {job.definition} --config FILE --again",
        )
    return definition


def _check_table(job: TrainJob, plan: SearchPlan, table: TableFingerprint) -> None:
    if table != plan.table:
        raise TableError(
            f"the table {job.train} changed while its job ran",
            next_step=f"Request it again: scoring train {job.definition} --config FILE --again",
        )


@functools.lru_cache(maxsize=1)
def _read_table(bucket: Bucket, job: TrainJob, definition: Definition) -> TrainingTable:
    """Returns the training table, cached for all candidates of a job: a table at the same path may change later."""
    return read_training_table(
        bucket,
        job.train,
        definition.columns,
        keys=definition.keys,
        text=definition.text,
        with_week=True,
        max_left_out=job.max_left_out,
    )


def _since(began: float) -> float:
    return time.monotonic() - began
