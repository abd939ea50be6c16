"""Decides, from the recorded losses alone, which candidates advance to the next fold and which one wins. Pure functions.

The same plan, rounds and records give the same next round and the same result in every process.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import Field

from shared.catalog.manifests import Candidate, CandidateState, Search, TableFingerprint
from shared.errors import ModelError
from shared.jobs.search_config import Params, SearchConfig
from shared.records import Frozen, Record, Timestamp
from workers.training.search.candidates import propose
from workers.training.search.folds import BLOCKS, Fold

MARGIN = 3.0
"""A candidate gets no further folds if it is worse than the best by more than this many standard errors of the paired difference."""

RULE = (
    f"After each fold a candidate is stopped when its log-loss on the folds so far is more than {MARGIN:g} standard errors above that of "
    f"the best one; the error is that of their difference over {BLOCKS} groups of keywords. The same losses stop the same candidates."
)

LONGEST_SHOWN = 60
"""Maximum characters of the parameters beside a progress bar."""


class SearchPlan(Record):
    """The settings of a search, fixed before any work."""

    job_id: str
    made: Timestamp
    definition_sha256: str
    config: SearchConfig
    folds: list[Fold]
    table: TableFingerprint


class Trial(Frozen):
    """A candidate: its number, from 1, and its parameters."""

    number: int
    params: Params


class SearchRound(Record):
    """Candidates that are tried on one fold, the best first."""

    made: Timestamp
    number: int
    fold: int
    """The number of the fold, from 1."""
    candidates: list[Trial]
    expected: int
    """The expected number of pairs of candidate and fold in the whole search."""


class FoldRecord(Record):
    """The result of one candidate on one fold."""

    candidate: int
    fold: int
    params: Params
    losses: list[float] = Field(default_factory=list)
    """The log-loss of all clicks of each block of keywords, in nats."""
    clicks: list[float] = Field(default_factory=list)
    """The clicks of each block."""
    failed: str = ""
    """Why there are no losses; empty if there are."""
    seconds: float


Records = Mapping[tuple[int, int], FoldRecord]
"""Maps a candidate and a fold, both by number, to the record."""


@dataclass(frozen=True, kw_only=True)
class LossDifference:
    """How much worse one candidate is than another on the same folds, in nats per click."""

    mean: float
    error: float
    """Standard error of the mean; infinite if it cannot be estimated."""

    @property
    def is_clear(self) -> bool:
        """True if the first candidate is worse by more than chance explains."""
        return self.mean > MARGIN * self.error


def compare(worse: Sequence[FoldRecord], better: Sequence[FoldRecord]) -> LossDifference:
    """Compares two candidates on the folds that both have, paired by groups of keywords.

    The standard error is that of a ratio of sums over groups (Cochran, Sampling Techniques, 3rd ed., 6.3), because the rows of a keyword
    are correlated. It does not cover variation from week to week that affects all keywords at once.
    """
    pairs = list(zip(worse, better, strict=False))
    clicks = np.sum([one.clicks for one, _ in pairs], axis=0)
    surplus = np.sum([np.subtract(one.losses, other.losses) for one, other in pairs], axis=0)[clicks > 0]
    clicks = clicks[clicks > 0]
    mean = float(surplus.sum() / clicks.sum())
    groups = len(clicks)
    if groups < 2:
        return LossDifference(mean=mean, error=math.inf)
    off = surplus - mean * clicks
    return LossDifference(mean=mean, error=math.sqrt(groups / (groups - 1) * float(off @ off)) / float(clicks.sum()))


def next_round(plan: SearchPlan, rounds: Sequence[SearchRound], records: Records) -> SearchRound | None:
    """Returns the round after these complete rounds; None when the search is over."""
    ok = successes(records)
    if rounds:
        fold, trials = _next_fold(plan, rounds, ok)
        if trials:
            return _round(plan, rounds, fold, trials)
    proposed = propose(plan.config, _tried(plan, rounds, ok))
    first = sum(len(this_round.candidates) for this_round in rounds if this_round.fold == 1) + 1
    trials = [Trial(number=number, params=params) for number, params in enumerate(proposed, first)]
    return _round(plan, rounds, 1, trials) if trials else None


def conclude(plan: SearchPlan, rounds: Sequence[SearchRound], records: Records) -> Search:
    """Returns the chosen candidate, and all candidates with their results, the best first.

    Raises:
        ModelError: every candidate failed.
    """
    ok = successes(records)
    trials = _all_trials(rounds)
    complete = [number for number, folds in ok.items() if len(folds) == len(plan.folds)]
    if not complete:
        why = next((record.failed for record in records.values() if record.failed), "none was tried")
        raise ModelError(
            f"all {len(trials)} candidates failed, the first one so: {why}",
            next_step="Correct the config or the definition, then ask again: scoring train DEFINITION --config FILE --again",
        )
    best = min(complete, key=lambda number: (loss_of(ok[number]), number))
    shown = [_shown(trial, best, plan, ok, records) for trial in trials]
    order = list(CandidateState)
    shown.sort(key=lambda one: (order.index(one.state), -len(one.folds), one.log_loss_per_click or 0.0, one.number))
    return Search(
        method=plan.config.search,
        config=plan.config.model_dump(mode="json", exclude_none=True),
        folds=[fold.words for fold in plan.folds],
        rule=RULE if plan.config.stop_early else "Every candidate got every fold.",
        candidates=shown,
        chosen=dict(next(trial.params for trial in trials if trial.number == best)),
    )


def varied(config: SearchConfig, params: Params) -> Params:
    """Returns the parameters that differ between candidates."""
    fixed = {name for name, values in config.parameters.items() if isinstance(values, list) and len(values) == 1}
    return {name: value for name, value in params.items() if name not in fixed} or params


def show_params(params: Mapping[str, Any]) -> str:
    """Formats parameters on one line."""
    text = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items())
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def successes(records: Records) -> dict[int, list[FoldRecord]]:
    """Maps each candidate that never failed to its records, in the order of the folds."""
    failed = {record.candidate for record in records.values() if record.failed}
    ok: dict[int, list[FoldRecord]] = {}
    for _, record in sorted(records.items()):
        if record.candidate not in failed:
            ok.setdefault(record.candidate, []).append(record)
    return ok


def loss_of(folds: Iterable[FoldRecord]) -> float:
    """Returns the log-loss per click over all these folds."""
    folds = list(folds)
    return sum(map(sum, (one.losses for one in folds))) / sum(map(sum, (one.clicks for one in folds)))


def _next_fold(plan: SearchPlan, rounds: Sequence[SearchRound], ok: Mapping[int, list[FoldRecord]]) -> tuple[int, list[Trial]]:
    """Returns the next fold for the newest candidates, and the candidates that get it."""
    last = rounds[-1]
    trials = {trial.number: trial for trial in _all_trials(rounds)}
    if any(trial.number in ok for trial in last.candidates):
        done, numbers = last.fold, [trial.number for trial in last.candidates if trial.number in ok]
    elif any(len(folds) == len(plan.folds) for folds in ok.values()):
        return 0, []
    else:
        # the leaders have failed: the candidates that were stopped because of them continue
        done = max((len(folds) for folds in ok.values()), default=0)
        numbers = [number for number, folds in ok.items() if len(folds) == done]
    if done == len(plan.folds):
        return 0, []
    rivals = {number: folds[:done] for number, folds in ok.items() if len(folds) >= done}
    numbers.sort(key=lambda number: (loss_of(rivals[number]), number))
    if numbers and plan.config.stop_early:
        leader = min(rivals, key=lambda number: (loss_of(rivals[number]), number))
        numbers = [number for number in numbers if not compare(rivals[number], rivals[leader]).is_clear]
    return done + 1, [trials[number] for number in numbers]


def _round(plan: SearchPlan, rounds: Sequence[SearchRound], fold: int, trials: list[Trial]) -> SearchRound:
    before = sum(len(this_round.candidates) for this_round in rounds)
    drawn = len(_all_trials(rounds)) + (len(trials) if fold == 1 else 0)
    to_draw = plan.config.count - drawn if plan.config.search == "optuna" else 0
    expected = before + len(trials) * (len(plan.folds) - fold + 1) + to_draw * len(plan.folds)
    return SearchRound(made=datetime.now(UTC), number=len(rounds) + 1, fold=fold, candidates=trials, expected=expected)


def _tried(plan: SearchPlan, rounds: Sequence[SearchRound], ok: Mapping[int, list[FoldRecord]]) -> list[tuple[Params, float | None]]:
    """Returns all candidates with their losses; a stopped candidate is assumed to keep its distance to the best one."""
    complete = [folds for folds in ok.values() if len(folds) == len(plan.folds)]
    best = min(complete, key=loss_of, default=[])
    losses = {
        number: loss_of(folds) if len(folds) == len(plan.folds) or not best else loss_of(best) + compare(folds, best).mean
        for number, folds in ok.items()
    }
    return [(trial.params, losses.get(trial.number)) for trial in _all_trials(rounds)]


def _all_trials(rounds: Sequence[SearchRound]) -> list[Trial]:
    return [trial for this_round in rounds if this_round.fold == 1 for trial in this_round.candidates]


def _state(trial: Trial, best: int, *, is_complete: bool, has_failed: bool) -> CandidateState:
    if has_failed:
        return CandidateState.FAILED
    if trial.number == best:
        return CandidateState.CHOSEN
    return CandidateState.TRIED if is_complete else CandidateState.STOPPED


def _shown(trial: Trial, best: int, plan: SearchPlan, ok: Mapping[int, list[FoldRecord]], records: Records) -> Candidate:
    folds = [record for key, record in sorted(records.items()) if key[0] == trial.number and not record.failed]
    reason = next((record.failed for key, record in sorted(records.items()) if key[0] == trial.number and record.failed), "")
    state = _state(trial, best, is_complete=len(folds) == len(plan.folds), has_failed=bool(reason))
    if state == CandidateState.STOPPED:
        difference = compare(folds, ok[best])
        reason = f"on its folds {difference.mean:.5f} above the chosen one, with a standard error of {difference.error:.5f}"
    return Candidate(
        number=trial.number,
        params=dict(trial.params),
        state=state,
        log_loss_per_click=loss_of(folds) if folds else None,
        folds=[loss_of([record]) for record in folds],
        reason=reason,
    )
