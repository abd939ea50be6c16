"""Compares a newly trained model with the champion and the newest releases of all definitions, on the same rows."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model_store.definitions import Definition
from model_store.evaluation.comparison import compare_predictions, summarise
from model_store.evaluation.gate import Evidence, Limits, decide
from model_store.evaluation.importance import find_importance
from model_store.evaluation.metrics import Observations, evaluate, naive_predictors
from model_store.foreign_code import DefinitionError, calling
from model_store.isolated_loading import LOAD_SECONDS, PredictionRequest, PredictionResult
from model_store.library import ModelLibrary
from model_store.predicting import prepare
from model_store.store import read_manifest
from shared.catalog.aliases import CHAMPION, LATEST, list_aliases
from shared.catalog.bootstrap import RESAMPLES
from shared.catalog.keyword_losses import KeywordLosses
from shared.catalog.manifests import MOST_SEEN, Column, Evaluation, Importance, MetricValues, TreeEvaluation
from shared.errors import ModelError, ScoringError, TableError, TransientError
from shared.jobs.messages import TrainJob
from workers.tables.training.table import TrainingTable, read_training_table
from workers.training.out_of_time import why_not_out_of_time
from workers.training.trained_rows import share_seen_by

MOST_RIVALS = 5
"""Maximum number of other releases for the comparison, besides the champion: the newest of this many definitions."""

HAS_SEEN = "it was trained on this table"
HAS_SEEN_ROWS = "it was trained on {share:.0%} of the rows with conversions of this table, in another file"
"""Reasons for excluding a release from a comparison: its metrics on this table would be too good."""


OnCrash = Callable[[str, str], None]


def ignore_crash(release: str, problem: str) -> None:
    """Records nothing, the default of ``on_crash``: the manifest of the new release names the crashing release."""


@dataclass(frozen=True, kw_only=True)
class IsolatedLoading:
    """How releases are loaded and evaluated in separate processes."""

    seconds: float = LOAD_SECONDS
    """Time limit per release."""
    on_crash: OnCrash = ignore_crash
    """Called with a release that killed or hung its process, and a description of the problem."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationResult:
    """The metrics of a release for its manifest, and the loss of each keyword."""

    evaluation: Evaluation
    metrics: dict[str, dict[str, MetricValues]]
    losses: KeywordLosses

    def named_losses(self, release: str) -> KeywordLosses:
        """Returns the loss of each keyword, under this release's id instead of its definition's name."""
        names = [release, *list(self.losses.losses)[1:]]
        return replace(self.losses, losses=dict(zip(names, self.losses.losses.values(), strict=True)))


@dataclass(kw_only=True)
class Rivals:
    """Other releases for the comparison: their requests, their rates, and the problems that excluded some."""

    requests: list[PredictionRequest] = field(default_factory=list)
    rates: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Maps a release to the reason for its exclusion."""

    def take(self, results: Iterable[PredictionResult], on_crash: OnCrash) -> None:
        """Stores the results of the releases, in the order of the requests."""
        for request, result in zip(self.requests, results, strict=True):
            release = request.manifest.release
            if result.problem:
                self.problems[release] = result.problem
                if result.has_crashed:
                    on_crash(release, result.problem)
            elif not np.isfinite(result.rates[0]).all():
                rows = len(result.rates[0])
                self.problems[release] = f"it predicts something else than one finite number for each of the {rows} rows"
            else:
                self.rates[release] = np.clip(result.rates[0], 0, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A newly trained model, its tables, and its rates for each table; ``eval`` is optional."""

    definition: Definition
    model: Any
    tables: dict[str, TrainingTable]
    rates: dict[str, np.ndarray]
    trees: TreeEvaluation | None = None
    """How its boosted trees are evaluated, if it has any."""

    @property
    def judged_on(self) -> Literal["eval", "train"]:
        """The name of the table whose metrics count."""
        return "eval" if "eval" in self.tables else "train"


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The release that the alias ``champion`` points to during the comparison."""

    release: str | None
    unknown: str = ""
    """Why the alias cannot be read; empty if it can."""


def evaluate_release(trained: Trained, rivals: Rivals, champion: Champion, job: TrainJob, limits: Limits) -> EvaluationResult:
    """Evaluates a model on ``eval``, or on ``train`` if there is no other table, and applies the gate."""
    definition, tables = trained.definition, trained.tables
    train = tables["train"]
    judged_on = trained.judged_on
    table = tables[judged_on]
    rates = {
        name: {definition.name: trained.rates[name]} | naive_predictors(train.observations, of.observations) for name, of in tables.items()
    }
    rates[judged_on] = {definition.name: trained.rates[judged_on]} | rivals.rates | rates[judged_on]
    best = compare_predictions(definition.name, rates[judged_on], table.observations, train.observations, limits.confidence)
    metrics = {
        name: {who: asdict(evaluate(of.observations.conversions, of.observations.clicks, found)) for who, found in rates[name].items()}
        for name, of in tables.items()
    }
    evidence = Evidence(
        not_later=why_not_out_of_time(table, train),
        calibration_error=metrics[judged_on][definition.name]["calibration_error"],
        differences={name: found for name, found in best.differences.items() if name == champion.release or "@" not in name},
        champion=champion.release,
        champion_problem=rivals.problems.get(champion.release or "", ""),
        champion_has_seen=_has_seen(rivals.problems.get(champion.release or "", "")),
        champion_unknown=champion.unknown,
    )
    evaluation = Evaluation(
        judged_on=judged_on,
        confidence=limits.confidence,
        resamples=RESAMPLES,
        differences=best.differences,
        not_compared=rivals.problems,
        slices=best.slices,
        calibration=best.calibration,
        gains=best.gains,
        importance=_importance_of(definition, trained.model, table),
        summaries={name: summarise(of.observations, train.observations) for name, of in tables.items()},
        gate=decide(job.promote, evidence, limits, by_alias=job.alias == CHAMPION),
    )
    return EvaluationResult(evaluation=evaluation, metrics=metrics, losses=best.losses)


def _importance_of(definition: Definition, model: Any, table: TrainingTable) -> Importance | None:  # noqa: ANN401
    try:
        X, _ = prepare(definition, table.frame, table=table.fingerprint.path)
        with calling(definition.name, definition.folder, "importance"):
            return find_importance(model, X, table.observations.conversions, table.observations.clicks)
    except DefinitionError:  # a figure in the report is not worth a failed training
        return None


def find_rivals(table: TrainingTable, keys: tuple[str, ...], library: ModelLibrary, aside: Path) -> Rivals:
    """Finds the champion and the newest releases and copies each with its verified files into a folder in ``aside``; loads none of them."""
    rivals, aliases = Rivals(), list_aliases(library.bucket)
    latest = {release for alias, release in aliases.items() if alias.endswith(LATEST)}
    newest = sorted(latest, key=lambda release: release.partition("@")[2], reverse=True)
    champion = [aliases[CHAMPION]] if CHAMPION in aliases else []
    known = list(dict.fromkeys([*champion, *newest]))
    most = len(champion) + MOST_RIVALS
    rivals.problems |= dict.fromkeys(known[most:], f"no more than the champion and {MOST_RIVALS} other releases are")
    for release in known[:most]:
        try:
            rivals.requests.append(_request_to_rival(release, table, keys, library, aside / release))
        except TransientError:
            raise
        except ScoringError as error:
            rivals.problems[release] = error.message
    return rivals


def _request_to_rival(release: str, table: TrainingTable, keys: tuple[str, ...], library: ModelLibrary, own: Path) -> PredictionRequest:
    """Returns the request to a release: the rows of the table, which is read again if the release needs other columns of it.

    Raises:
        ModelError: the files of the release are not the published ones, or it was trained on the table.
        TableError: the table lacks a column that the release needs, or has other keys.
    """
    bucket = library.bucket
    manifest = read_manifest(bucket, release)
    if manifest.was_trained_on(table.fingerprint):
        raise ModelError(HAS_SEEN)
    share = share_seen_by(bucket, manifest, table)
    if share > MOST_SEEN:
        raise ModelError(HAS_SEEN_ROWS.format(share=share))
    if manifest.keys != keys:
        raise TableError(f"it names rows by {' and '.join(manifest.keys)}, not by {' and '.join(keys)}")
    if not _same(manifest.columns, table.columns):
        rows = table
        table = read_training_table(
            bucket,
            table.fingerprint.path,
            None,
            manifest.columns,
            keys=keys,
            with_week=table.week is not None,
            max_left_out=table.max_left_out,
        )
        if table.fingerprint.files != rows.fingerprint.files:
            raise TableError(f"{table.fingerprint.path} changed before it could be read once more, with the columns that it needs")
        if not _happened_alike(table.observations, rows.observations):
            raise TableError(f"of {table.fingerprint.path} it can use other rows, {table.fingerprint.rows:,} of them")
    own.mkdir()
    library.copy_release(release, own)
    return PredictionRequest(manifest=manifest, files=own, frame=table.features, table=table.fingerprint.path)


def _has_seen(problem: str) -> bool:
    """Returns True for the exclusion reasons of releases that were trained on these rows."""
    return problem == HAS_SEEN or problem.endswith(HAS_SEEN_ROWS.partition("}")[2])


def _happened_alike(one: Observations, other: Observations) -> bool:
    """Returns True if both describe the same rows in the same order."""
    return all(np.array_equal(getattr(one, part.name), getattr(other, part.name)) for part in fields(Observations))


def _same(wanted: list[Column], there: list[Column]) -> bool:
    return all(column in there for column in wanted)
