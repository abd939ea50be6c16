"""The gate: decides whether a release is clearly better than the champion and may replace it.

Better means that, on a later table, the interval of the difference in log-loss per click lies below 0 by a margin, against the champion
and every naive predictor. Metrics on the training table and differences that may be chance do not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.catalog.keyword_losses import spoken_difference
from shared.catalog.manifests import Estimate, Verdict
from shared.records import Promote


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Requirements for a promotion; see the settings ``gate_*``."""

    margin: float = 0.0
    confidence: float = 0.95
    calibration_error: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The input of the gate."""

    not_later: str = ""
    """Why the evaluation table is not later than the training table; empty if it is."""
    calibration_error: float
    differences: Mapping[str, Estimate]
    """Maps a predictor to the log-loss per click of the release minus that of the predictor, for the champion and the naive predictors."""
    champion: str | None
    champion_problem: str = ""
    """Why there is no difference to the champion."""
    champion_has_seen: bool = False
    """True if the champion was trained on the evaluation table."""
    champion_unknown: str = ""
    """Why the champion is unknown."""


def decide(promote: Promote, evidence: Evidence, limits: Limits, *, by_alias: bool = False) -> Verdict:
    """Returns the verdict with its reason in one sentence; ``by_alias`` says that the release becomes champion regardless of the gate."""
    objection = _blocking_reason(evidence, limits)
    why = objection or _supporting_reason(evidence, limits)
    if by_alias:
        words = f"made champion by --alias, past the gate; the gate would {'not ' if objection else ''}have promoted it: {why}"
    elif promote == "never":
        words = f"not promoted, because nobody asked for it; --promote auto would {'not ' if objection else ''}have promoted it: {why}"
    elif promote == "always":
        words = f"to be promoted, because --promote always asks for it{', although ' if objection else '; '}{why}"
    else:
        words = f"not promoted: {why}" if objection else f"passed the gate: {why}"
    return Verdict(
        promote=promote,
        passed=not objection,
        promotes=promote == "always" or (promote == "auto" and not objection),
        reason=words,
        champion=evidence.champion,
        objection=objection,
    )


def _blocking_reason(evidence: Evidence, limits: Limits) -> str:
    """Returns the first reason against a promotion, or an empty text."""
    if evidence.not_later:
        return f"{evidence.not_later}, and such figures are no reason (give a later table with --eval)"
    if evidence.champion_unknown or evidence.champion_has_seen or evidence.champion not in (None, *evidence.differences):
        return _no_comparison(evidence)
    if evidence.calibration_error > limits.calibration_error:
        return f"its calibration error of {evidence.calibration_error:.5f} is above the limit of {limits.calibration_error:g}"
    naive = [name for name in evidence.differences if name != evidence.champion]
    for name in [*([evidence.champion] if evidence.champion else []), *naive]:
        difference = evidence.differences[name]
        if difference.high is None:
            return "the table it was judged on has too few keywords to tell a difference from chance"
        if difference.high >= -limits.margin:
            wanted = f"lower by more than {limits.margin:.5f}" if limits.margin else "lower"
            return (
                f"its log-loss per click is {in_words(difference, limits.confidence)} than that of {_spoken(name, evidence)}, "
                f"and the whole interval must be {wanted}"
            )
    return ""


def _no_comparison(evidence: Evidence) -> str:
    if evidence.champion_unknown:
        return evidence.champion_unknown
    if evidence.champion_has_seen:
        return (
            f"the champion {evidence.champion} was trained on the evaluation table, so the two cannot be compared; "
            "evaluate on another table (give it with --eval)"
        )
    return f"it could not be compared with the champion {evidence.champion}: {evidence.champion_problem}"


def _supporting_reason(evidence: Evidence, limits: Limits) -> str:
    """Returns the reason for a promotion: the smallest of the differences."""
    closest = max(evidence.differences, key=lambda name: evidence.differences[name].high or 0.0)
    named = evidence.champion or closest
    beaten = "the champion and every naive predictor" if evidence.champion else "every naive predictor, and there was no champion"
    return (
        f"it beats {beaten}; its log-loss per click is {in_words(evidence.differences[named], limits.confidence)} than that of "
        f"{_spoken(named, evidence)}"
    )


def _spoken(name: str, evidence: Evidence) -> str:
    return f"the champion {name}" if name == evidence.champion else f"the naive predictor {name!r}"


def in_words(difference: Estimate, confidence: float) -> str:
    """Formats a difference with its interval: ``0.00174 lower (better; 95 % interval 0.00260 lower to 0.00091 lower)``."""
    worth = "better" if difference.value < 0 else "worse"
    if difference.low is None or difference.high is None:
        return f"{spoken_difference(difference.value)} ({worth})"
    ends = f"{spoken_difference(difference.low)} to {spoken_difference(difference.high)}"
    return f"{spoken_difference(difference.value)} ({worth}; {confidence * 100:g} % interval {ends})"
