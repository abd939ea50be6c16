"""Judges a freshly trained model beside the champion and the newest releases of all definitions, on the same rows."""

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from billiard.exceptions import SoftTimeLimitExceeded  # what the pool that runs us raises; it knows no queue

from model_store.definitions import Definition
from model_store.evaluation import Outcomes, evaluate, naive_predictors
from model_store.gate import Evidence, Limits, decide
from model_store.importance import find_importance
from model_store.judgement import judge_predictions, summarise
from model_store.store import load_release
from shared.aliases import CHAMPION, LATEST, damaged_aliases, list_aliases
from shared.bucket import Bucket
from shared.errors import ModelError, ScoringError, TableError, TransientError
from shared.keyword_losses import KeywordLosses
from shared.manifests import MOST_SEEN, Column, Evaluation, Metrics
from shared.messages import TrainJob
from shared.resampling import RESAMPLES
from workers.later import why_not_later
from workers.predictions import one_a_row
from workers.trained_rows import share_seen_by
from workers.training_tables import RATE, TrainingTable, read_training_table

MOST_RIVALS = 5
"""Other releases that are loaded to be compared with: the champion and the newest of so many definitions."""

HAS_SEEN = "it was trained on this table"
HAS_SEEN_ROWS = "it was trained on {share:.0%} of the rows with conversions of this table, in another file"
"""Why a release is not judged on a table: its figures would be better than it is."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where releases are loaded from: a folder for the files of a remote bucket, and one with further definitions."""

    cache: Path
    definitions: Path | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """The figures of a release for its manifest, and what each keyword cost."""

    evaluation: Evaluation
    metrics: dict[str, dict[str, Metrics]]
    losses: KeywordLosses

    def named_losses(self, release: str) -> KeywordLosses:
        """What each keyword cost, with this release's id in the place of its definition's name."""
        names = [release, *list(self.losses.losses)[1:]]
        return replace(self.losses, losses=dict(zip(names, self.losses.losses.values(), strict=True)))


@dataclass(kw_only=True)
class _Rivals:
    """What other releases predict, and why some cannot."""

    rates: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Release -> why not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A model that was just trained, its tables, and its rates for each of them; ``eval`` is left out where there is none."""

    definition: Definition
    model: Any
    tables: dict[str, TrainingTable]
    rates: dict[str, np.ndarray]


def judge_release(bucket: Bucket, trained: Trained, places: Places, job: TrainJob, limits: Limits) -> Judgement:
    """Judge a model on ``eval``, or on ``train`` where that is all there is, and ask the gate what the job wants to know."""
    definition, tables = trained.definition, trained.tables
    train = tables["train"]
    judged_on: Literal["eval", "train"] = "eval" if "eval" in tables else "train"
    aliases, damaged = list_aliases(bucket), damaged_aliases(bucket)
    champion = aliases.get(CHAMPION)
    rivals = _ask_rivals(bucket, tables["eval"], definition.keys, aliases, places) if judged_on == "eval" else _Rivals()
    table = tables[judged_on]
    rates = {name: {definition.name: trained.rates[name]} | naive_predictors(train.outcomes, of.outcomes) for name, of in tables.items()}
    rates[judged_on] = {definition.name: trained.rates[judged_on]} | rivals.rates | rates[judged_on]
    best = judge_predictions(definition.name, rates[judged_on], table.outcomes, train.outcomes, limits.confidence)
    metrics = {
        name: {who: asdict(evaluate(of.outcomes.conversions, of.outcomes.clicks, found)) for who, found in rates[name].items()}
        for name, of in tables.items()
    }
    evidence = Evidence(
        not_later=why_not_later(table, train),
        calibration_error=metrics[judged_on][definition.name]["calibration_error"],
        differences={name: found for name, found in best.differences.items() if name == champion or "@" not in name},
        champion=champion,
        champion_problem=rivals.problems.get(champion or "", ""),
        champion_has_seen=_has_seen(rivals.problems.get(champion or "", "")),
        champion_unknown=damaged[CHAMPION].message if CHAMPION in damaged else "",
    )
    X, _, _ = definition.prepare(table.frame)
    evaluation = Evaluation(
        judged_on=judged_on,
        confidence=limits.confidence,
        resamples=RESAMPLES,
        differences=best.differences,
        not_compared=rivals.problems,
        slices=best.slices,
        calibration=best.calibration,
        gains=best.gains,
        importance=find_importance(trained.model, X, table.outcomes.conversions, table.outcomes.clicks),
        summaries={name: summarise(of.outcomes, train.outcomes) for name, of in tables.items()},
        gate=decide(job.promote, evidence, limits, by_alias=job.alias == CHAMPION),
    )
    return Judgement(evaluation=evaluation, metrics=metrics, losses=best.losses)


def _ask_rivals(bucket: Bucket, table: TrainingTable, keys: tuple[str, ...], aliases: dict[str, str], places: Places) -> _Rivals:
    rivals = _Rivals()
    latest = {release for alias, release in aliases.items() if alias.endswith(LATEST)}
    newest = sorted(latest, key=lambda release: release.partition("@")[2], reverse=True)
    champion = [aliases[CHAMPION]] if CHAMPION in aliases else []
    known = list(dict.fromkeys([*champion, *newest]))
    most = len(champion) + MOST_RIVALS
    rivals.problems |= dict.fromkeys(known[most:], f"no more than the champion and {MOST_RIVALS} other releases are")
    for release in known[:most]:
        try:
            rivals.rates[release] = _rates_of_rival(bucket, release, table, keys, places)
        except (TransientError, SoftTimeLimitExceeded):
            raise
        except ScoringError as error:
            rivals.problems[release] = error.message
        except Exception as error:  # noqa: BLE001 - a definition's own code may raise anything, and this is no reason to fail a training
            rivals.problems[release] = f"its definition fails on {table.fingerprint.path}: {error!r}"
    return rivals


def _rates_of_rival(bucket: Bucket, release: str, table: TrainingTable, keys: tuple[str, ...], places: Places) -> np.ndarray:
    """What a release predicts for the rows of the table, which is read once more where the release needs other columns of it.

    Raises:
        ModelError: it cannot be loaded, it was trained on the table, or its rates are not one finite number a row.
        TableError: the table lacks a column that it needs, or it names rows by other keys.
    """
    rival = load_release(bucket, release, places.cache, places.definitions)
    if rival.manifest.was_trained_on(table.fingerprint):
        raise ModelError(HAS_SEEN)
    share = share_seen_by(bucket, rival.manifest, table)
    if share > MOST_SEEN:
        raise ModelError(HAS_SEEN_ROWS.format(share=share))
    definition, columns = rival.definition, rival.manifest.columns
    if definition.keys != keys:
        raise TableError(f"it names rows by {' and '.join(definition.keys)}, not by {' and '.join(keys)}")
    if not _same(columns, table.columns):
        rows = table
        table = read_training_table(bucket, table.fingerprint.path, None, columns, keys=keys, with_week=table.week is not None)
        if table.fingerprint.files != rows.fingerprint.files:
            raise TableError(f"{table.fingerprint.path} changed before it could be read once more, with the columns that it needs")
        if not _happened_alike(table.outcomes, rows.outcomes):
            raise TableError(f"of {table.fingerprint.path} it can use other rows, {table.fingerprint.rows:,} of them")
    X, _, problem = definition.prepare(table.frame[[RATE, *definition.columns_of_table([column.name for column in columns])]])
    if problem is not None:
        raise TableError(f"its definition cannot prepare {table.fingerprint.path}: {problem}")
    rates = one_a_row(definition.name, "predict", rival.model.predict(X), len(X))
    if not np.isfinite(rates).all():
        raise ModelError(f"it predicts something else than one finite number for each of the {len(X)} rows")
    return np.clip(rates, 0, 1)


def _has_seen(problem: str) -> bool:
    """True for the reasons why a release is not judged on rows that it was trained on."""
    return problem == HAS_SEEN or problem.endswith(HAS_SEEN_ROWS.partition("}")[2])


def _happened_alike(one: Outcomes, other: Outcomes) -> bool:
    """True when both tell of the same rows in the same order."""
    return all(np.array_equal(getattr(one, part.name), getattr(other, part.name)) for part in fields(Outcomes))


def _same(wanted: list[Column], there: list[Column]) -> bool:
    return all(column in there for column in wanted)
