"""The gate lets a release pass that is better beyond chance, and says in one sentence why it lets none other."""

import re

import pytest

from model_store.evaluation.gate import Evidence, Limits, decide
from shared.catalog.manifests import Estimate

BETTER = Estimate(value=-0.002, low=-0.003, high=-0.001)
BARELY = Estimate(value=-0.002, low=-0.004, high=-0.0001)
PERHAPS = Estimate(value=-0.002, low=-0.005, high=0.001)
WORSE = Estimate(value=0.002, low=0.001, high=0.003)
UNSURE = Estimate(value=-0.002, low=None, high=None)
CHAMPION = "v1@20261123T101500Z-9bfad3"
NAIVE = {"always zero": BETTER, "mean of all": BETTER, "mean of the device": BETTER, "mean of the keyword": BETTER}


def evidence(differences: dict[str, Estimate], **more) -> Evidence:
    fields = {"calibration_error": 0.004, "champion": CHAMPION} | more
    return Evidence(differences=differences, **fields)


@pytest.mark.parametrize(
    ("given", "limits", "passes", "says"),
    [
        (evidence(NAIVE | {CHAMPION: BETTER}), Limits(), True, "it beats the champion and every naive predictor"),
        (evidence(NAIVE, champion=None), Limits(), True, "it beats every naive predictor, and there was no champion"),
        (
            evidence(NAIVE | {CHAMPION: BARELY}),
            Limits(),
            True,
            r"is 0.00200 lower \(better; 95 % interval 0.00400 lower to 0.00010 lower\) than that of the champion",
        ),
        (evidence(NAIVE | {CHAMPION: BARELY}), Limits(margin=0.0005), False, "the whole interval must be lower by more than 0.00050"),
        (
            evidence(NAIVE | {CHAMPION: PERHAPS}),
            Limits(),
            False,
            f"0.00200 lower \\(better; .* 0.00500 lower to 0.00100 higher\\) than that of the champion {CHAMPION}, and .*must be lower",
        ),
        (evidence(NAIVE | {CHAMPION: WORSE}), Limits(), False, f"is 0.00200 higher \\(worse; .*\\) than that of the champion {CHAMPION}"),
        (evidence(NAIVE | {"mean of all": PERHAPS, CHAMPION: BETTER}), Limits(), False, "than that of the naive predictor 'mean of all'"),
        (evidence(NAIVE | {"mean of the device": WORSE}, champion=None), Limits(), False, "the naive predictor 'mean of the device'"),
        (evidence(NAIVE | {CHAMPION: UNSURE}), Limits(), False, "too few keywords to tell a difference from chance"),
        (evidence(NAIVE | {CHAMPION: BETTER}, calibration_error=0.021), Limits(), False, "error of 0.02100 is above the limit of"),
        (evidence(NAIVE | {CHAMPION: BETTER}, calibration_error=0.004), Limits(calibration_error=0.003), False, "above the limit of 0.003"),
        (
            evidence(NAIVE, champion_has_seen=True),
            Limits(),
            False,
            f"the champion {CHAMPION} was trained on the evaluation table, so the two",
        ),
        (evidence(NAIVE, champion=None, champion_unknown="what champion means cannot be read"), Limits(), False, "cannot be read"),
        (evidence(NAIVE, champion_problem="its code was changed"), Limits(), False, f"compared with the champion {CHAMPION}: its code was"),
        (
            evidence(NAIVE | {CHAMPION: BETTER}, not_later="it was judged on no table but the one it was trained on"),
            Limits(),
            False,
            "no table but the one it was trained on",
        ),
    ],
)
def test_a_release_passes_when_it_is_better_beyond_chance(given, limits, passes, says):
    verdict = decide("auto", given, limits)
    assert (verdict.passed, verdict.promotes) == (passes, passes)
    assert verdict.reason.startswith("passed the gate: " if passes else "not promoted: ")
    assert re.search(says, verdict.reason), verdict.reason
    assert verdict.champion == given.champion


def test_a_training_without_promotion_shows_what_the_gate_would_say():
    verdict = decide("never", evidence(NAIVE | {CHAMPION: BETTER}), Limits())
    assert (verdict.passed, verdict.promotes) == (True, False)
    assert "not promoted, because nobody asked for it; --promote auto would have promoted it: it beats the champion" in verdict.reason
    assert "would not have promoted it: its log-loss" in decide("never", evidence(NAIVE | {CHAMPION: WORSE}), Limits()).reason


def test_a_champion_by_alias_hears_that_it_went_past_the_gate_and_what_that_would_say():
    passes = decide("never", evidence(NAIVE | {CHAMPION: BETTER}), Limits(), by_alias=True)
    assert passes.reason.startswith("made champion by --alias, past the gate; the gate would have promoted it: it beats the champion")
    worse = decide("never", evidence(NAIVE | {CHAMPION: WORSE}), Limits(), by_alias=True)
    assert worse.reason.startswith("made champion by --alias, past the gate; the gate would not have promoted it: its log-loss")
    assert not (passes.promotes or worse.promotes)


def test_a_forced_promotion_is_made_and_says_what_speaks_against_it():
    verdict = decide("always", evidence(NAIVE | {CHAMPION: WORSE}), Limits())
    assert (verdict.passed, verdict.promotes) == (False, True)
    assert "to be promoted, because --promote always asks for it, although its log-loss per click is 0.00200 higher" in verdict.reason
