from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from trajkit.detection import confident_threshold, max_score_threshold, runs_needed
from trajkit.errors import InputError


def test_the_threshold_is_the_rank_rule_by_hand() -> None:
    assert max_score_threshold(np.arange(1, 20) / 20, 0.1) == 18 / 20  # ceil(20 * 0.9) = 18th smallest of 19
    assert max_score_threshold([0.2, 0.9, 0.5], 0.5) == 0.5  # ceil(4 * 0.5) = 2nd smallest


@pytest.mark.parametrize(("alpha", "needed"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.01, 99), (0.3, 3)])
def test_the_threshold_is_infinite_until_there_are_enough_runs(alpha: float, needed: int) -> None:
    assert runs_needed(alpha) == needed
    assert max_score_threshold(np.linspace(0, 1, needed - 1), alpha) == math.inf
    assert max_score_threshold(np.linspace(0, 1, needed), alpha) == 1.0


def test_an_empty_calibration_set_never_alarms() -> None:
    assert max_score_threshold([], 0.1) == math.inf
    assert confident_threshold([], 0.1, 0.1) == math.inf


def test_rounding_error_does_not_raise_the_rank() -> None:
    """(n+1)(1−α) is a whole number here, whatever its last bit says."""
    for n in range(9, 400, 10):
        assert max_score_threshold(np.arange(1, n + 1), 0.1) == (n + 1) * 9 // 10
        assert max_score_threshold(np.arange(1, n + 1), 0.7) == (n + 1) * 3 // 10


def test_a_confident_threshold_is_the_smallest_rank_with_the_beta_probability() -> None:
    for n, alpha, delta in [(60, 0.1, 0.1), (200, 0.05, 0.05), (22, 0.1, 0.1)]:
        rank = int(confident_threshold(np.arange(1, n + 1), alpha, delta))
        assert beta.sf(1 - alpha, rank, n + 1 - rank) >= 1 - delta
        assert rank == 1 or beta.sf(1 - alpha, rank - 1, n + 2 - rank) < 1 - delta
    assert runs_needed(0.1, 0.1) == 22
    assert confident_threshold(np.arange(21), 0.1, 0.1) == math.inf


def _scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 20) correlated scores of successful runs, as risks over steps are."""
    return rng.normal(size=(n, 1)) + rng.normal(size=(n, 20)).cumsum(axis=1) / 4


def test_false_alarms_are_at_most_alpha_and_a_threshold_per_step_breaks_that() -> None:
    rng = np.random.default_rng(0)
    alpha, repeats, n = 0.1, 300, 39
    ours, per_step = [], []
    for _ in range(repeats):
        calibration, new = _scores(rng, n), _scores(rng, 100)
        ours.append((new.max(axis=1) > max_score_threshold(calibration.max(axis=1), alpha)).mean())
        quantiles = np.array([max_score_threshold(column, alpha) for column in calibration.T])
        per_step.append((new > quantiles).any(axis=1).mean())
    error = 3 * np.std(ours) / np.sqrt(repeats)
    assert alpha - 1 / (n + 1) - error <= np.mean(ours) <= alpha + error
    assert np.mean(per_step) > 2 * alpha


def test_a_confident_threshold_keeps_its_rate_in_all_but_delta_of_calibrations() -> None:
    rng = np.random.default_rng(1)
    alpha, delta, repeats = 0.1, 0.2, 2000
    tau = np.array([confident_threshold(rng.random(50), alpha, delta) for _ in range(repeats)])
    broken = (1 - tau > alpha).mean()  # the true false-alarm rate of uniform maxima is 1 − τ
    assert broken <= delta + 3 * np.sqrt(delta * (1 - delta) / repeats)
    plain = np.array([max_score_threshold(rng.random(50), alpha) for _ in range(repeats)])
    assert (1 - plain > alpha).mean() > delta + 0.1  # the plain rule holds on average only


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_alpha_outside_zero_and_one_is_an_input_error(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        max_score_threshold([0.5], alpha)


def test_nan_scores_are_an_input_error() -> None:
    with pytest.raises(InputError, match="NaN"):
        max_score_threshold([0.5, float("nan")], 0.1)
