"""Drift of the scores is told, and exchangeable runs are seldom said to drift, however often one looks."""

from __future__ import annotations

import json
import math
import warnings
from itertools import pairwise

import numpy as np
import pytest

from trajkit.detection import Drift, DriftState
from trajkit.errors import InputError

STREAMS = 2000


def _largest_wealth(maxima: np.ndarray, n_old: int, at_random: np.ndarray) -> np.ndarray:
    """(B,) largest wealth over the last columns of (B, n_old + n) maxima, by `Drift`'s rule, all streams at once.

    at_random: (B, n) what ties are broken by."""
    bets, log_wealth = np.full((len(maxima), 3), 1 / 3), np.zeros(len(maxima))
    largest = log_wealth.copy()
    for at in range(n_old, maxima.shape[1]):
        new, known = maxima[:, at, None], maxima[:, :at]
        rank = ((known > new).sum(1) + at_random[:, at - n_old] * ((known == new).sum(1) + 1)) / (at + 1)
        bets = (0.99 * bets + 0.01 / 3) * (1 + np.outer(rank - 0.5, [-1, 0, 1]))
        log_wealth += np.log(bets.sum(1))
        bets /= bets.sum(1, keepdims=True)
        largest = np.maximum(largest, log_wealth)
    return np.exp(largest)


def _run(drift: Drift, maxima: np.ndarray) -> list[DriftState]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [drift.update(value) for value in maxima]


def test_the_simulation_draws_by_its_rule() -> None:
    maxima = np.random.default_rng(3).random((1, 80)).round(1)
    largest = max(state.log_wealth for state in _run(Drift(maxima[0, :50]), maxima[0, 50:]))
    at_random = np.array([[np.random.default_rng([0, n]).random() for n in range(30)]])
    assert largest == pytest.approx(math.log(_largest_wealth(maxima, 50, at_random)[0]), abs=1e-9)


@pytest.mark.parametrize("values", [None, 4, 1])
def test_exchangeable_runs_come_to_a_wealth_with_probability_one_over_it_at_most(values: int | None) -> None:
    """Also where scores take few values, all of them ties."""
    rng = np.random.default_rng(11)
    maxima = rng.random((STREAMS, 30 + 150))
    maxima = maxima if values is None else np.floor(maxima * values)
    largest = _largest_wealth(maxima, 30, rng.random((STREAMS, 150)))
    for wealth in (5, 20, 100):
        share = (largest >= wealth).mean()
        assert share <= 1 / wealth + 3 * math.sqrt(1 / wealth / STREAMS)
    assert (largest >= 2).mean() > 0.01  # and it bets


def test_a_calibration_of_few_runs_makes_no_drift_of_its_own() -> None:
    """Ranks among the calibration alone would not be independent: what it lacks by chance would look like drift."""
    rng = np.random.default_rng(0)
    warned = sum(_run(Drift(rng.random(9)), rng.random(400))[-1].warned for _ in range(40))
    assert warned <= 1


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_scores_that_rise_or_fall_are_told_once_in_words(shift: float) -> None:
    rng = np.random.default_rng(1)
    drift = Drift(rng.normal(size=100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in rng.normal(size=100):
            assert not drift.update(value).warned
    assert drift.state.message.startswith("No drift of the scores is told over 100 runs")
    with pytest.warns(UserWarning, match="THE SCORES HAVE DRIFTED: after 1.. runs") as said:
        states = [drift.update(value) for value in rng.normal(shift, 1, size=200)]
    assert len(said) == 1
    assert states[-1].warned
    assert states[-1].p_value <= 0.01
    assert all(b.p_value <= a.p_value for a, b in pairwise(states))


def test_it_goes_on_from_its_state_with_equal_bits() -> None:
    rng = np.random.default_rng(2)
    old, new = rng.random(40).round(1), rng.random(60).round(1)
    drift = Drift(old, seed=5)
    whole = _run(drift, new)
    first = Drift(old, seed=5)
    _run(first, new[:25])
    again = Drift.from_state(json.loads(json.dumps(first.to_state(), allow_nan=False)))
    assert _run(again, new[25:]) == whole[25:]
    assert again.to_state() == drift.to_state()


def test_what_cannot_be_ranked_is_an_input_error() -> None:
    with pytest.raises(InputError, match="there are none"):
        Drift([])
    with pytest.raises(InputError, match="above 1"):
        Drift([0.5], threshold=1)
    with pytest.raises(InputError, match="got NaN"):
        Drift([0.5]).update(math.nan)
