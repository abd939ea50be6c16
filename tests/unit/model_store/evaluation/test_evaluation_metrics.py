"""The figures of an evaluation are what their definitions say."""

import dataclasses
import math

import numpy as np
import pytest

from model_store.evaluation.metrics import Observations, evaluate, naive_predictors
from shared.errors import ModelError, TableError


def outcomes(entity_id, device, conversions, clicks):
    return Observations(entity_id=np.array(entity_id), device=np.array(device), conversions=np.array(conversions), clicks=np.array(clicks))


def test_the_figures_of_two_rows_worked_out_by_hand():
    found = evaluate(np.array([1, 0]), np.array([4, 1]), np.array([0.5, 0.2]))
    assert (found.rows, found.clicks) == (2, 5.0)
    assert found.mse == pytest.approx((0.25**2 + 0.2**2) / 2)
    assert found.mae == pytest.approx((0.25 + 0.2) / 2)
    assert found.mae_by_click == pytest.approx((4 * 0.25 + 0.2) / 5)
    assert found.log_loss_per_click == pytest.approx(-(4 * math.log(0.5) + math.log(0.8)) / 5)
    assert found.calibration_error == pytest.approx((4 * 0.25 + 0.2) / 5)


def test_metrics_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        evaluate(np.array([1]), np.array([2]), np.array([0.5])).mse = 0.0


def test_conversions_above_the_clicks_count_as_the_clicks():
    assert evaluate(np.array([9]), np.array([3]), np.array([0.9])) == evaluate(np.array([3]), np.array([3]), np.array([0.9]))


def test_rows_without_clicks_are_left_out():
    assert evaluate(np.array([1, 0]), np.array([2, 0]), np.array([0.4, 0.9])) == evaluate(np.array([1]), np.array([2]), np.array([0.4]))


def test_certain_predictions_that_are_wrong_cost_a_finite_loss():
    found = evaluate(np.array([1, 0]), np.array([1, 1]), np.array([0.0, 1.0]))
    assert found.log_loss_per_click == pytest.approx(-math.log(1e-6))


def test_a_row_of_many_clicks_is_many_rows_of_one_click_by_click():
    many = evaluate(np.array([2, 5]), np.array([7, 20]), np.array([0.3, 0.2]))
    ones = evaluate(np.array([1] * 2 + [0] * 5 + [1] * 5 + [0] * 15), np.ones(27), np.array([0.3] * 7 + [0.2] * 20))
    assert many.log_loss_per_click == pytest.approx(ones.log_loss_per_click)
    assert many.calibration_error == pytest.approx(ones.calibration_error)


def test_the_calibration_error_is_0_for_the_mean_and_the_shift_for_a_shifted_prediction():
    random = np.random.default_rng(1)
    clicks = random.integers(1, 50, 20_000)
    truth = random.uniform(0.05, 0.3, 20_000)
    conversions = random.binomial(clicks, truth)
    mean = np.full(20_000, conversions.sum() / clicks.sum())
    assert evaluate(conversions, clicks, mean).calibration_error == pytest.approx(0, abs=1e-12)
    assert evaluate(conversions, clicks, truth).calibration_error < 0.003
    assert evaluate(conversions, clicks, truth + 0.05).calibration_error == pytest.approx(0.05, abs=0.003)


def test_the_figures_do_not_depend_on_the_order_of_rows():
    random = np.random.default_rng(2)
    clicks, predicted = random.integers(1, 9, 500), random.random(500).round(2)
    conversions = random.binomial(clicks, 0.2)
    turned = evaluate(conversions[::-1], clicks[::-1], predicted[::-1])
    for name, value in dataclasses.asdict(evaluate(conversions, clicks, predicted)).items():
        assert getattr(turned, name) == pytest.approx(value), name


def test_naive_predictors_learn_on_one_table_and_predict_the_other():
    train = outcomes([7, 7, 8, 5], [0, 1, 0, 1], [1, 0, 1, 9], [2, 2, 4, 0])
    table = outcomes([8, 7, 9, 5], [1, 0, 2, 0], [0, 0, 0, 0], [1, 1, 1, 1])
    predicted = naive_predictors(train, table)
    assert list(predicted) == ["always zero", "mean of all", "mean of the device", "mean of the keyword"]
    assert predicted["always zero"].tolist() == [0, 0, 0, 0]
    assert predicted["mean of all"].tolist() == [0.25] * 4
    assert predicted["mean of the device"] == pytest.approx([0, 2 / 6, 0.25, 2 / 6])
    assert predicted["mean of the keyword"] == pytest.approx([0.25, 0.25, 0.25, 0.25])


def test_the_mean_of_the_keyword_is_over_its_devices():
    train = outcomes([3, 3, 4], [0, 1, 2], [1, 2, 0], [2, 8, 10])
    assert naive_predictors(train, train)["mean of the keyword"] == pytest.approx([0.3, 0.3, 0.0])


@pytest.mark.parametrize(("clicks", "says"), [([], "the table has no rows"), ([0, 0], "none of the 2 rows has clicks")])
def test_a_table_that_says_nothing_is_refused(clicks, says):
    nothing = np.array(clicks, dtype=float)
    with pytest.raises(TableError, match=says):
        evaluate(nothing, nothing, nothing)
    with pytest.raises(TableError, match=says):
        naive_predictors(outcomes(clicks, clicks, clicks, clicks), outcomes([1], [0], [0], [1]))


@pytest.mark.parametrize("predicted", [[0.5], [0.5, math.nan], [0.5, math.inf]])
def test_predictions_that_are_not_one_finite_number_a_row_are_refused(predicted):
    with pytest.raises(ModelError, match="not one finite number for each of the 2 rows"):
        evaluate(np.array([0, 1]), np.array([1, 1]), np.array(predicted))
