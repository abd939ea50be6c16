"""Trains a definition on a table, judges it beside the naive predictors, and publishes the release.

The release's id follows from the job, so a training that runs twice makes one release: the second finds it in place.
"""

import contextlib
import functools
import inspect
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from model_store.definitions import Definition, list_definitions, load_definition
from model_store.evaluation.gate import Limits
from model_store.foreign_code import calling
from model_store.isolated_loading import ask_releases
from model_store.predicting import check_finite, columns_for, predict_rows, prepare
from model_store.report.page import make_report
from model_store.store import library_versions, publish, read_manifest, release_id
from shared.bucket.interface import Bucket
from shared.catalog.aliases import (
    CHAMPION,
    MANIFEST,
    Alias,
    changes,
    damaged_aliases,
    known_alias,
    point_alias,
    point_latest,
    release_folder,
)
from shared.catalog.manifests import LOSSES, REPORT, TRAINED_ROWS, Column, ReleaseManifest, Search, TableFingerprint
from shared.catalog.table_audits import doubts
from shared.errors import ModelError, StrayOrderError
from shared.jobs.folder import PUBLISHED, JobFolder, Outcome, Pointing, Promotion
from shared.jobs.messages import TrainJob
from shared.jobs.search_config import MOST_CANDIDATES, SearchConfig, read_config
from shared.processes import temporary_folder
from workers.judging import Champion, Judgement, Places, Rivals, Trained, find_rivals, judge_release
from workers.releasing import check_reproduced, digest_staged, name_row, question_to, save_model
from workers.tables.training.table import TrainingTable, read_training_table
from workers.trained_rows import share_trained_on, sketch
from workers.training_plausibility import (
    check_evaluation_table,
    check_training_table,
    warn_of_rates,
    warn_of_seen_rows,
    warn_of_tables,
)

STANDARD = Limits()
LONGEST_REASON = 500
"""Characters of the reason for a change of an alias."""

FindParameters = Callable[[TableFingerprint], Search | None]


def train_release(folder: JobFolder, places: Places, limits: Limits = STANDARD, find: FindParameters = lambda _: None) -> Outcome | None:
    """Fit, evaluate, publish, point the aliases; the outcome of the job, whoever decided it.

    ``limits`` are those of the gate; ``find`` is asked what a search has found for the training table, when that is needed.

    Raises:
        TableError: a table cannot be read or lacks what training needs.
        ModelError: the definition is unknown or fails.
    """
    outcome = folder.outcome()
    if outcome is None:
        job = train_job(folder)
        _check_alias(job, places.definitions)
        if not is_trained(folder, job):
            _make_release(folder, job, places, limits, find)
        if folder.outcome() is None:
            folder.end(_done(folder.bucket, job, read_manifest(folder.bucket, _release_of(job))))
        outcome = folder.outcome()
    if outcome is not None and outcome.state == "done" and not folder.is_published:
        # here and not before: who is killed in between comes back to it
        done = _point_aliases(folder, outcome)
        folder.bucket.write(folder.file(PUBLISHED), json.dumps({"facts": done}).encode())
    return outcome


def is_trained(folder: JobFolder, job: TrainJob) -> bool:
    """True when the release of this job is published."""
    return folder.bucket.exists(f"{release_folder(_release_of(job))}/{MANIFEST}")


def _release_of(job: TrainJob) -> str:
    return release_id(job.definition, job.job_id, f"{job.created:%Y%m%dT%H%M%SZ}")


def _check_alias(job: TrainJob, definitions: Path | None) -> None:
    if job.alias == "latest" or job.alias in list_definitions(definitions):
        raise ModelError(f"{job.alias} cannot be an alias: it names something already", next_step="Choose another name, like champion.")


def _point_aliases(folder: JobFolder, outcome: Outcome) -> dict[str, str]:
    """Let ``latest`` mean the release unless it means a newer one, and the names that it was to get, once; what came of these in words."""
    job, by = train_job(folder), f"job {folder.job_id}"
    point_latest(folder.bucket, outcome.release, by=by)
    # neither if it was moved since the outcome was written, by an earlier run of this step, another training or a person
    if job.alias is not None:
        point_alias(folder.bucket, job.alias, outcome.release, by=by, reason="trained", only_if=lambda now: _is_unmoved(now, outcome))
    if outcome.promotion is not None:
        before = outcome.promotion.champion_since
        why = _why_promoted(folder.bucket, job, outcome.release)
        point_alias(folder.bucket, CHAMPION, outcome.release, by=by, reason=why, only_if=lambda now: _since(now) == before)
    names = [*([job.alias] if job.alias else []), *([CHAMPION] if outcome.promotion else [])]
    return {name: _came_of(folder.bucket, name, outcome.release, by) for name in names}


def _why_promoted(bucket: Bucket, job: TrainJob, release: str) -> str:
    """The reason for the history of ``champion``: whether the gate let the release pass, or was overruled."""
    found = read_manifest(bucket, release).evaluation
    if job.promote != "always" or found is None:
        return "passed the gate"
    if found.gate.passed:
        return "promoted always (passed the gate)"
    return f"promoted always (gate refused: {found.gate.objection})"[:LONGEST_REASON]


def _came_of(bucket: Bucket, alias: str, release: str, by: str) -> str:
    """What an alias means now, and whether this job moved it in this run or an earlier one."""
    now = known_alias(bucket, alias)
    if now is not None and now.release == release:
        return f"means {release} now"
    meaning = "nothing" if now is None else now.release
    if any(change.by == by and change.release == release for change in changes(bucket, alias)):
        return f"was moved to {release}, and means {meaning} by now"
    return f"not moved: it came to mean {meaning} after the training had ended"


def _is_unmoved(now: Alias | None, outcome: Outcome) -> bool:
    """True when the alias that was asked for was not moved since the job ended."""
    if outcome.pointing is None:  # the outcome of an earlier version, which did not say
        return now is None or now.at <= outcome.at
    return _since(now) == outcome.pointing.alias_since


def _since(alias: Alias | None) -> datetime | None:
    return None if alias is None else alias.at


def train_job(folder: JobFolder) -> TrainJob:
    """The request, which must be one to train."""
    job = folder.job()
    if not isinstance(job, TrainJob):
        raise StrayOrderError(f"job {job.job_id} is a {job.kind} job, not one that trains")
    return job


def staging(cache: Path) -> Path:
    """The folder of this machine in which releases are put together: beside the cache, where no other user makes it first."""
    return cache.parent / "staging"


def _make_release(folder: JobFolder, job: TrainJob, places: Places, limits: Limits, find: FindParameters) -> None:
    began = time.monotonic()
    definition = load_definition(job.definition, places.definitions)
    folder.say(f"reading {job.train}")
    train = _read(folder, job, job.train, definition)
    forced = check_training_table(train, force=job.force)
    search = find(train.fingerprint)
    held_out = None
    if job.eval is not None:
        folder.say(f"reading {job.eval}")
        held_out = _read(folder, job, job.eval, definition, train.columns)
        forced += check_evaluation_table(held_out, force=job.force)
    folder.say(f"fitting {definition.name} on {len(train.frame):,} rows{' with the best parameters' if search else ''}")
    if search is not None or job.config is None:
        model = fit(definition, train, search.chosen if search else None)
    else:
        model, search = fit_own_search(definition, train, read_search_config(folder, job))
    folder.say("evaluating")
    tables = {"train": train} | ({} if held_out is None else {"eval": held_out})
    rates = {name: rates_of(definition, model, table) for name, table in tables.items()}
    trained = Trained(definition=definition, model=model, tables=tables, rates=rates)
    with temporary_folder(staging(places.cache)) as aside:
        staged = aside / "release"
        save_model(definition, model, staged)
        unjudged = _describe(job, trained, search, forced)
        judgement = _judge(folder, trained, unjudged, staged, places, limits)
        if folder.outcome() is not None:
            return  # cancelled while it was fitted
        folder.say("publishing the release")
        judged = {"metrics": judgement.metrics, "evaluation": judgement.evaluation, "seconds": time.monotonic() - began}
        manifest = unjudged.model_copy(update=judged)
        (staged / TRAINED_ROWS).write_bytes(sketch(train))
        (staged / REPORT).write_text(make_report(manifest), encoding="utf-8")
        if held_out is not None:
            (staged / LOSSES).write_bytes(judgement.named_losses(_release_of(job)).to_parquet())
        manifest = manifest.model_copy(update={"files": digest_staged(definition, staged)})
        publish(folder.bucket, staged, manifest)


def _describe(job: TrainJob, trained: Trained, search: Search | None, forced: list[str]) -> ReleaseManifest:
    """The manifest of a release that is saved but not judged."""
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
        forced=forced,
    )


def _judge(folder: JobFolder, trained: Trained, manifest: ReleaseManifest, staged: Path, places: Places, limits: Limits) -> Judgement:
    """Judge a release beside its rivals, all loaded in a process of their own; the release itself must give there what it gave here."""
    aside, bucket, job = staged.parent, folder.bucket, train_job(folder)
    champion, damaged = known_alias(bucket, CHAMPION), damaged_aliases(bucket)
    unknown = damaged[CHAMPION].message if CHAMPION in damaged else ""
    rivals = find_rivals(bucket, trained.tables["eval"], trained.definition.keys, places, aside) if "eval" in trained.tables else Rivals()
    own = question_to(trained, manifest, staged)
    answers = ask_releases([own, *rivals.questions], aside, places.definitions, places.load_seconds)
    with contextlib.closing(answers):  # whatever happens, no process is left
        check_reproduced(trained, own, next(answers))
        rivals.take(answers, places.on_killer)
    return judge_release(trained, rivals, Champion(release=None if champion is None else champion.release, unknown=unknown), job, limits)


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


def fit(definition: Definition, table: TrainingTable, params: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - a definition's own class
    """A model of this definition, trained on the table, with its own parameters or these; clicks are its weights if it takes weights.

    Raises:
        ModelError: the definition's own code failed; the sentence says how.
    """
    X, y = prepare(definition, table.frame, table=table.fingerprint.path)
    with calling(definition.name, definition.folder, "train"):
        model = definition.model_class()
        if params is not None:
            # some definitions set themselves up by this call, others by what they find in config once they train
            model.config = dict(params)
            model._model_definition(dict(params))
        model.train(X, y, **_weights(model.train, table))
    return model


def rates_of(definition: Definition, model: Any, table: TrainingTable) -> np.ndarray:  # noqa: ANN401
    """The rates that a model predicts for the rows of a table, cut to [0, 1].

    Raises:
        DefinitionError: the definition's own code failed, or gave something else than a finite number; the sentence says how.
    """
    frame, path = columns_for(definition, [column.name for column in table.columns], table.features), table.fingerprint.path
    [rates] = predict_rows(definition, model, frame, table=path, name_row=functools.partial(name_row, table))
    check_finite(definition, rates, path, functools.partial(name_row, table))
    return np.clip(rates, 0, 1)


def searches_itself(definition: Definition) -> bool:
    """True when the definition brings a search for its parameters of its own, as the older service had it."""
    return callable(getattr(definition.model_class, "grid_search", None))


def fit_own_search(definition: Definition, table: TrainingTable, config: SearchConfig) -> tuple[Any, Search]:
    """A model found and fitted by the definition's own ``grid_search``, and what it chose, as far as the model tells.

    Raises:
        RequestError: the config names a range, where the definition takes lists.
        ModelError: the definition's own code failed; the sentence says how.
    """
    X, y = prepare(definition, table.frame, table=table.fingerprint.path)
    grid = config.grid()
    with calling(definition.name, definition.folder, "grid_search"):
        model = definition.model_class()
        model.grid_search(X, y, grid, **_weights(model.grid_search, table))
        told: object = getattr(getattr(model, "model", None), "get_params", dict)()
    chosen = {name: told[name] for name in grid if isinstance(told, dict) and isinstance(told.get(name), bool | int | float | str)}
    return model, Search(method=f"the grid_search of {definition.name} itself", config={"parameters": grid}, chosen=chosen)


def _weights(method: Callable[..., Any], table: TrainingTable) -> dict[str, np.ndarray]:
    return {"sample_weight": table.outcomes.clicks} if "sample_weight" in inspect.signature(method).parameters else {}


def read_search_config(folder: JobFolder, job: TrainJob) -> SearchConfig:
    """What a train job was told of its search; raises RequestError when that cannot be used."""
    path = job.config or ""
    return read_config(folder.bucket.read(path) or b"", path, MOST_CANDIDATES)


def _search_facts(search: Search) -> dict[str, str]:
    states = Counter(candidate.state for candidate in search.candidates)
    others = "".join(f", {states[state]} {state}" for state in ("stopped", "failed") if states[state])
    tried = {"candidates": f"{len(search.candidates)} on {len(search.folds)} folds{others}"} if search.candidates else {}
    return tried | {"best parameters": ", ".join(f"{name}={value}" for name, value in search.chosen.items()) or "not told"}


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
        state="done",
        at=datetime.now(UTC),
        definition=manifest.definition,
        release=manifest.release,
        result=release_folder(manifest.release),
        facts={fact: value for fact, value in facts.items() if value},
        promotion=promotion,
        pointing=None if job.alias is None else Pointing(alias_since=_since(known_alias(bucket, job.alias))),
        next_step=f"Score with it: scoring score TABLE --model {manifest.release}",
    )


def _verdict(bucket: Bucket, job: TrainJob, manifest: ReleaseManifest) -> tuple[str, Promotion | None]:
    """What the gate said, in words; and the promotion, unless the champion is another by now than the one it was compared with."""
    if manifest.evaluation is None:
        return "", None
    verdict, now = manifest.evaluation.gate, known_alias(bucket, CHAMPION)
    if not verdict.promotes:
        return verdict.reason, None
    if job.promote == "auto" and now is not None and now.release not in (verdict.champion, manifest.release):
        again = f"scoring train {manifest.definition} --promote auto --again"
        return f"not promoted: {now.release} became the champion meanwhile, and it was not compared with that; type: {again}", None
    return verdict.reason, Promotion(champion_since=_since(now))
