"""The search for the best parameters of a definition, as many small steps: one for each candidate and fold.

    jobs/<job id>/params.yaml             what was asked for
                  search.json             the folds and the config, settled before any work    (first writer wins)
                  waves/0001.json         candidates that are tried on one fold, side by side  (first writer wins)
                  candidates/0007.02.json what candidate 7 reached on fold 2                   (first writer wins)

A wave is made when all of the one before it is there, and follows from what is there alone: whoever makes it, however often, makes the
same. All candidates are tried on the first fold, those that are not clearly worse than the best on the second, and so on. So a
killed worker, a lost message or an emptied Redis costs at most the candidates in hand.
"""

import functools
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from model_store.definitions import Definition, load_definition
from model_store.evaluation import log_losses
from shared.bucket import Bucket
from shared.errors import MessageError, ModelError, PermanentError, StrayOrderError, TableError
from shared.job_folder import CANDIDATES, STAGE, WAVES, JobFolder
from shared.manifests import Candidate, Part, Search, TableFingerprint
from shared.messages import CandidateOrder, Moment, Record, TrainJob, decode_long
from shared.search import Params, SearchConfig
from workers.ahead import ahead
from workers.candidates import propose
from workers.folds import BLOCKS, Fold, blocks_of, folds_of, sides
from workers.training import fit, is_trained, rates_of, read_search_config, searches_itself, train_job
from workers.training_tables import TrainingTable, read_training_table

MARGIN = 3.0
"""In standard errors of the paired difference: how much worse than the best a candidate must be to get no further folds."""

RULE = (
    f"After each fold a candidate is stopped when its log-loss on the folds so far is more than {MARGIN:g} standard errors above that of "
    f"the best one; the error is that of their difference over {BLOCKS} groups of keywords. The same losses stop the same candidates."
)

LONGEST_SHOWN = 60
"""Characters of parameters beside a progress bar."""

SAID_SECONDS = 1.0
"""Between two words about the standing: each costs a look at everything that was tried."""

SEARCH = "search.json"
_RECORD = re.compile(r"(\d+)\.(\d+)\.json")


class SearchPlan(Record):
    """What is settled of a search before any work."""

    job_id: str
    made: Moment
    definition_sha256: str
    config: SearchConfig
    folds: list[Fold]
    table: TableFingerprint


class Trial(Part):
    """A candidate: its number, from 1, and its parameters."""

    number: int
    params: Params


class Wave(Record):
    """Candidates that are tried on one fold, the best first."""

    made: Moment
    number: int
    fold: int
    """From 1."""
    candidates: list[Trial]
    expected: int
    """Candidates times folds that the whole search will have tried, as far as can be seen."""


class FoldRecord(Record):
    """What one candidate reached on one fold."""

    candidate: int
    fold: int
    params: Params
    losses: list[float] = Field(default_factory=list)
    """For each block of keywords the log-loss of all its clicks, in nats."""
    clicks: list[float] = Field(default_factory=list)
    """For each block its clicks."""
    failed: str = ""
    """Why there are no losses."""
    seconds: float


Records = Mapping[tuple[int, int], FoldRecord]
"""By candidate and fold."""


# --- the steps ---------------------------------------------------------------------------------------------------------------


def next_orders(folder: JobFolder, definitions: Path | None = None) -> list[CandidateOrder]:
    """What a train job must try before it can fit: begins its search, or takes it up; empty when it has none, or it is over.

    Raises:
        RequestError: the config cannot be used.
        ModelError: the definition takes none of the candidates, or was changed since the search began.
        TableError: the training table cannot be read, or not be cut into folds.
    """
    if folder.outcome() is not None:
        return []
    job = train_job(folder)
    if job.config is None or is_trained(folder, job) or searches_itself(load_definition(job.definition, definitions)):
        return []
    plan = _read_plan(folder) or _begin(folder, job, definitions)
    _definition_of(job, plan, definitions)
    while True:
        waves = _read_waves(folder)
        missing = _missing(folder, waves)
        if missing:
            return missing
        records = _read_records(folder, waves)
        if records is None:
            continue  # one was broken and is gone: it is missing now
        wave = next_wave(plan, waves, records)
        if wave is None:
            return []
        folder.say(f"trying {len(wave.candidates)} candidates on {plan.folds[wave.fold - 1].words}")
        folder.bucket.create(_wave_file(folder, wave.number), wave.to_json())


def missing_orders(folder: JobFolder) -> tuple[list[CandidateOrder], datetime | None]:
    """What of the waves is not there yet, and when the newest one was made; changes nothing."""
    waves = _read_waves(folder)
    return _missing(folder, waves), waves[-1].made if waves else None


def score_candidate(folder: JobFolder, candidate: int, fold: int, definitions: Path | None = None) -> FoldRecord | None:
    """Train a candidate on one side of a fold, evaluate it on the other, and write down what it reached, unless that is there.

    A definition that fails with these parameters fails this candidate and not the job. None when the job has ended.

    Raises:
        StrayOrderError: the search has no such candidate, or it got no such fold.
        TableError: the table changed under the job.
        ModelError: the definition was changed since the search began.
    """
    if (record := _read_record(folder, candidate, fold)) is not None:
        return record
    if folder.outcome() is not None:
        return None
    job, plan = train_job(folder), _plan_of(folder)
    trial = _trial(folder, candidate, fold)
    definition = _definition_of(job, plan, definitions)
    table = _read_table(folder.bucket, job.job_id, job.train, definition.columns)
    if table.fingerprint != plan.table:
        raise TableError(
            f"the table {job.train} changed while its job ran", next_step=f"Ask anew: scoring train {job.definition} --config FILE --again"
        )
    began = time.monotonic()
    fitted, evaluated = (table.only(rows) for rows in sides(table, plan.folds[fold - 1]))
    try:
        model = fit(definition, fitted, trial.params)
        losses = log_losses(evaluated.outcomes.conversions, evaluated.outcomes.clicks, rates_of(definition, model, evaluated))
    except PermanentError as error:
        return _write(folder, FoldRecord(candidate=candidate, fold=fold, params=trial.params, failed=error.message, seconds=_since(began)))
    blocks = blocks_of(evaluated.outcomes.entity_id)
    by_block = (np.bincount(blocks, values, minlength=BLOCKS).tolist() for values in (losses, evaluated.outcomes.clicks))
    record = FoldRecord(
        candidate=candidate, fold=fold, params=trial.params, losses=next(by_block), clicks=next(by_block), seconds=_since(began)
    )
    return _write(folder, record)


def give_up(folder: JobFolder, candidate: int, fold: int, reason: str) -> None:
    """Write down that a candidate failed, for a reason that it cannot tell itself."""
    trial = _trial(folder, candidate, fold)
    _write(folder, FoldRecord(candidate=candidate, fold=fold, params=trial.params, failed=reason, seconds=0.0))


def say_standing(folder: JobFolder) -> None:
    """Tell people what is the best so far, unless they were told something a moment ago."""
    told = folder.bucket.stat(folder.file(STAGE))
    if told is not None and time.time() - told.modified < SAID_SECONDS:
        return
    waves = _read_waves(folder)
    records = _read_records(folder, waves)
    if not records:
        return
    ok = _successes(records)
    if not ok:
        folder.say("every candidate has failed so far")
        return
    most = max(len(folds) for folds in ok.values())
    best = min((number for number, folds in ok.items() if len(folds) == most), key=lambda number: (_loss(ok[number]), number))
    plan = _plan_of(folder)
    shown = show_params(_varied(plan.config, ok[best][0].params))
    folder.say(f"best so far {_loss(ok[best]):.5f} on {most} of {len(plan.folds)} folds: {shown}")


def found(folder: JobFolder) -> Search | None:
    """What the search of a train job has found, once it is over; None when it has none.

    Raises:
        ModelError: every candidate failed; the sentence says how the first one did.
    """
    plan = _read_plan(folder)
    if plan is None:
        return None
    waves = _read_waves(folder)
    return conclude(plan, waves, _read_records(folder, waves) or {})


def forget_table() -> None:
    """Let go of the table that this process keeps between the candidates of one job."""
    _read_table.cache_clear()


# --- what follows from what ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much worse one candidate is than another on the same folds, in nats per click."""

    mean: float
    error: float
    """Standard error of the mean, infinite where it cannot be told."""

    @property
    def is_clear(self) -> bool:
        """True when the first one is worse by more than chance explains."""
        return self.mean > MARGIN * self.error


def compare(worse: Sequence[FoldRecord], better: Sequence[FoldRecord]) -> Difference:
    """Compare two candidates on the folds that both have, paired by groups of keywords.

    The error is that of a ratio of sums over groups (Cochran, Sampling Techniques, 3rd ed., 6.3), since all rows of a keyword belong
    together; what changes from week to week for all keywords at once it does not see.
    """
    pairs = list(zip(worse, better, strict=False))
    clicks = np.sum([one.clicks for one, _ in pairs], axis=0)
    surplus = np.sum([np.subtract(one.losses, other.losses) for one, other in pairs], axis=0)[clicks > 0]
    clicks = clicks[clicks > 0]
    mean = float(surplus.sum() / clicks.sum())
    groups = len(clicks)
    if groups < 2:
        return Difference(mean=mean, error=math.inf)
    off = surplus - mean * clicks
    return Difference(mean=mean, error=math.sqrt(groups / (groups - 1) * float(off @ off)) / float(clicks.sum()))


def next_wave(plan: SearchPlan, waves: Sequence[Wave], records: Records) -> Wave | None:
    """The wave that comes after these, all of whose records are there; None when the search is over."""
    ok = _successes(records)
    if waves:
        fold, trials = _next_fold(plan, waves, ok)
        if trials:
            return _wave(plan, waves, fold, trials)
    proposed = propose(plan.config, _tried(plan, waves, ok))
    first = sum(len(wave.candidates) for wave in waves if wave.fold == 1) + 1
    trials = [Trial(number=number, params=params) for number, params in enumerate(proposed, first)]
    return _wave(plan, waves, 1, trials) if trials else None


def conclude(plan: SearchPlan, waves: Sequence[Wave], records: Records) -> Search:
    """The chosen candidate, and all of them with what they reached, the best first."""
    ok = _successes(records)
    trials = _all_trials(waves)
    complete = [number for number, folds in ok.items() if len(folds) == len(plan.folds)]
    if not complete:
        why = next((record.failed for record in records.values() if record.failed), "none was tried")
        raise ModelError(
            f"all {len(trials)} candidates failed, the first one so: {why}",
            next_step="Mend the config or the definition, then ask anew: scoring train DEFINITION --config FILE --again",
        )
    best = min(complete, key=lambda number: (_loss(ok[number]), number))
    shown = [_shown(trial, best, plan, ok, records) for trial in trials]
    order = {"chosen": 0, "tried": 1, "stopped": 2, "failed": 3}
    shown.sort(key=lambda one: (order[one.state], -len(one.folds), one.log_loss_per_click or 0.0, one.number))
    return Search(
        method=plan.config.search,
        config=plan.config.model_dump(mode="json", exclude_none=True),
        folds=[fold.words for fold in plan.folds],
        rule=RULE if plan.config.stop_early else "Every candidate got every fold.",
        candidates=shown,
        chosen=dict(next(trial.params for trial in trials if trial.number == best)),
    )


def _varied(config: SearchConfig, params: Params) -> Params:
    """The parameters that are not the same for all candidates."""
    fixed = {name for name, values in config.parameters.items() if isinstance(values, list) and len(values) == 1}
    return {name: value for name, value in params.items() if name not in fixed} or params


def show_params(params: Mapping[str, Any]) -> str:
    """Parameters in a line for people."""
    text = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items())
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _successes(records: Records) -> dict[int, list[FoldRecord]]:
    """For each candidate that never failed its records, in the order of the folds."""
    failed = {record.candidate for record in records.values() if record.failed}
    ok: dict[int, list[FoldRecord]] = {}
    for _, record in sorted(records.items()):
        if record.candidate not in failed:
            ok.setdefault(record.candidate, []).append(record)
    return ok


def _loss(folds: Iterable[FoldRecord]) -> float:
    """Log-loss per click over these folds together."""
    folds = list(folds)
    return sum(map(sum, (one.losses for one in folds))) / sum(map(sum, (one.clicks for one in folds)))


def _next_fold(plan: SearchPlan, waves: Sequence[Wave], ok: Mapping[int, list[FoldRecord]]) -> tuple[int, list[Trial]]:
    """The fold that comes next for the newest candidates, and those that get it."""
    last = waves[-1]
    trials = {trial.number: trial for trial in _all_trials(waves)}
    if any(trial.number in ok for trial in last.candidates):
        done, numbers = last.fold, [trial.number for trial in last.candidates if trial.number in ok]
    elif any(len(folds) == len(plan.folds) for folds in ok.values()):
        return 0, []
    else:
        # those in the lead have failed: the ones that were stopped for them go on
        done = max((len(folds) for folds in ok.values()), default=0)
        numbers = [number for number, folds in ok.items() if len(folds) == done]
    if done == len(plan.folds):
        return 0, []
    rivals = {number: folds[:done] for number, folds in ok.items() if len(folds) >= done}
    numbers.sort(key=lambda number: (_loss(rivals[number]), number))
    if numbers and plan.config.stop_early:
        leader = min(rivals, key=lambda number: (_loss(rivals[number]), number))
        numbers = [number for number in numbers if not compare(rivals[number], rivals[leader]).is_clear]
    return done + 1, [trials[number] for number in numbers]


def _wave(plan: SearchPlan, waves: Sequence[Wave], fold: int, trials: list[Trial]) -> Wave:
    before = sum(len(wave.candidates) for wave in waves)
    drawn = len(_all_trials(waves)) + (len(trials) if fold == 1 else 0)
    to_draw = plan.config.count - drawn if plan.config.search == "optuna" else 0
    expected = before + len(trials) * (len(plan.folds) - fold + 1) + to_draw * len(plan.folds)
    return Wave(made=datetime.now(UTC), number=len(waves) + 1, fold=fold, candidates=trials, expected=expected)


def _tried(plan: SearchPlan, waves: Sequence[Wave], ok: Mapping[int, list[FoldRecord]]) -> list[tuple[Params, float | None]]:
    """All candidates with their losses; that of a stopped one is what it would be if it stayed as far behind the best."""
    complete = [folds for folds in ok.values() if len(folds) == len(plan.folds)]
    best = min(complete, key=_loss, default=[])
    losses = {
        number: _loss(folds) if len(folds) == len(plan.folds) or not best else _loss(best) + compare(folds, best).mean
        for number, folds in ok.items()
    }
    return [(trial.params, losses.get(trial.number)) for trial in _all_trials(waves)]


def _all_trials(waves: Sequence[Wave]) -> list[Trial]:
    return [trial for wave in waves if wave.fold == 1 for trial in wave.candidates]


def _shown(trial: Trial, best: int, plan: SearchPlan, ok: Mapping[int, list[FoldRecord]], records: Records) -> Candidate:
    folds = [record for key, record in sorted(records.items()) if key[0] == trial.number and not record.failed]
    reason = next((record.failed for key, record in sorted(records.items()) if key[0] == trial.number and record.failed), "")
    state = "failed" if reason else "chosen" if trial.number == best else "tried" if len(folds) == len(plan.folds) else "stopped"
    if state == "stopped":
        behind = compare(folds, ok[best])
        reason = f"on its folds {behind.mean:.5f} above the chosen one, with a standard error of {behind.error:.5f}"
    return Candidate(
        number=trial.number,
        params=dict(trial.params),
        state=state,  # type: ignore[arg-type]  # one of the four above
        log_loss_per_click=_loss(folds) if folds else None,
        folds=[_loss([record]) for record in folds],
        reason=reason,
    )


# --- the folder ------------------------------------------------------------------------------------------------------------------


def _begin(folder: JobFolder, job: TrainJob, definitions: Path | None) -> SearchPlan:
    """Settle the config and the folds, whoever comes first."""
    definition = load_definition(job.definition, definitions)
    config = read_search_config(folder, job)
    _check_parameters(definition, propose(config, []))
    folder.say(f"reading {job.train}")
    table = _read_table(folder.bucket, job.job_id, job.train, definition.columns)
    plan = SearchPlan(
        job_id=job.job_id,
        made=datetime.now(UTC),
        definition_sha256=definition.source_sha256,
        config=config,
        folds=folds_of(table, config.folds),
        table=table.fingerprint,
    )
    folder.bucket.create(folder.file(SEARCH), plan.to_json())
    return _plan_of(folder)


def _check_parameters(definition: Definition, candidates: Sequence[Params]) -> None:
    """Raise ModelError when the definition takes none of these candidates; one that takes some fails with the others alone."""
    refused: Exception | None = None
    for params in candidates:
        try:
            definition.model_class()._model_definition(dict(params))
        except Exception as error:  # noqa: BLE001 - a definition's own code
            refused = refused or error
        else:
            return
    why = getattr(refused, "message", None) or repr(refused)
    raise ModelError(
        f"the definition {definition.name} takes none of the candidates of the config: {why}",
        next_step="Correct the parameters in the config.",
    )


def _definition_of(job: TrainJob, plan: SearchPlan, definitions: Path | None) -> Definition:
    definition = load_definition(job.definition, definitions)
    if definition.source_sha256 != plan.definition_sha256:
        raise ModelError(
            f"the definition {job.definition} was changed since the search of job {job.job_id} began",
            next_step=f"Ask anew: scoring train {job.definition} --config FILE --again",
        )
    return definition


@functools.lru_cache(maxsize=1)
def _read_table(bucket: Bucket, job_id: str, path: str, columns: tuple[str, ...] | None) -> TrainingTable:
    """The training table, read once for all candidates of a job that this process tries."""
    del job_id  # a table of the same path may be another one by the next job
    return read_training_table(bucket, path, columns, with_week=True)


def _read_plan(folder: JobFolder) -> SearchPlan | None:
    text = folder.bucket.read(folder.file(SEARCH))
    return None if text is None else decode_long(SearchPlan, text)


def _plan_of(folder: JobFolder) -> SearchPlan:
    plan = _read_plan(folder)
    if plan is None:
        raise StrayOrderError(f"job {folder.job_id} searches for nothing")
    return plan


def _wave_file(folder: JobFolder, number: int) -> str:
    return folder.file(f"{WAVES}/{number:04d}.json")


def _read_waves(folder: JobFolder) -> list[Wave]:
    return [_wave_at(folder, info.path) for info in folder.bucket.files(folder.file(WAVES))]


def _wave_at(folder: JobFolder, path: str) -> Wave:
    return decode_long(Wave, folder.bucket.read(path) or b"")


def _trial(folder: JobFolder, candidate: int, fold: int) -> Trial:
    for wave in _read_waves(folder):
        for trial in wave.candidates:
            if (trial.number, wave.fold) == (candidate, fold):
                return trial
    raise StrayOrderError(f"job {folder.job_id} does not try a candidate {candidate} on a fold {fold}")


def _record_file(folder: JobFolder, candidate: int, fold: int) -> str:
    return folder.file(f"{CANDIDATES}/{candidate:04d}.{fold:02d}.json")


def _there(folder: JobFolder) -> set[tuple[int, int]]:
    names = (_RECORD.fullmatch(info.path.rpartition("/")[2]) for info in folder.bucket.files(folder.file(CANDIDATES)))
    return {(int(name[1]), int(name[2])) for name in names if name}


def _missing(folder: JobFolder, waves: Sequence[Wave]) -> list[CandidateOrder]:
    there = _there(folder) if waves else set()
    return [
        CandidateOrder(job_id=folder.job_id, candidate=trial.number, fold=wave.fold)
        for wave in waves
        for trial in wave.candidates
        if (trial.number, wave.fold) not in there
    ]


def _read_record(folder: JobFolder, candidate: int, fold: int) -> FoldRecord | None:
    text = folder.bucket.read(_record_file(folder, candidate, fold))
    try:
        record = None if text is None else decode_long(FoldRecord, text)
    except MessageError:
        record = None
    sound = record and (record.candidate, record.fold) == (candidate, fold) and _adds_up(record)
    return record if sound else None


def _adds_up(record: FoldRecord) -> bool:
    values = [*record.losses, *record.clicks]
    whole = len(record.losses) == len(record.clicks) == BLOCKS and all(map(math.isfinite, values)) and sum(record.clicks) > 0
    return bool(record.failed) or whole


def _read_records(folder: JobFolder, waves: Sequence[Wave]) -> Records | None:
    """What is there of these waves; None when one was broken, which is then taken away and made again."""
    there = _there(folder)
    wanted = [key for wave in waves for trial in wave.candidates if (key := (trial.number, wave.fold)) in there]
    records: dict[tuple[int, int], FoldRecord] = {}
    for key, record in zip(wanted, ahead(lambda key: _read_record(folder, *key), wanted), strict=True):
        if record is None:
            folder.bucket.delete(_record_file(folder, *key))
            return None
        records[key] = record
    return records


def _write(folder: JobFolder, record: FoldRecord) -> FoldRecord:
    """Put a record in place; the one that was there first counts."""
    path = _record_file(folder, record.candidate, record.fold)
    if not folder.bucket.create(path, record.to_json()):
        return _read_record(folder, record.candidate, record.fold) or record
    return record


def _since(began: float) -> float:
    return time.monotonic() - began
