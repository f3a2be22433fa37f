"""Intervals of cross-validated figures: by hand, and in worlds whose features tell nothing or something."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.stats.cross_validation import refitted, refitted_variance
from trajkit.stats.resampling import auc_within, group_draws, interval


def deals_of(rng: np.random.Generator, shift: float, n_groups: int = 60, deals: int = 4) -> np.ndarray:
    """(R, B) AUC of nearest means on four features, five folds of groups a deal."""
    group = np.repeat(np.arange(n_groups), 3)
    y = rng.random(len(group)) < rng.beta(2, 2, n_groups)[group]
    x = (rng.normal(size=(n_groups, 4))[group] + rng.normal(size=(len(group), 4))) / 2**0.5 + shift * y[:, None]
    draws, found = group_draws(group, 120, 0), []
    for _ in range(deals):
        fold = rng.permutation(np.arange(n_groups) % 5)[group]
        score = np.zeros(len(y))
        for k in range(5):
            fit = fold != k
            score[~fit] = x[~fit] @ (x[fit & y].mean(0) - x[fit & ~y].mean(0))
        found.append(auc_within(y, score, fold, draws))
    return np.array(found)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_intervals_hold_the_truth_where_those_of_held_out_rows_alone_do_not(shift: float) -> None:
    rng = np.random.default_rng(0)
    worlds = [deals_of(rng, shift) for _ in range(200)]
    truth = 0.5 if shift == 0 else np.mean([world[:, 0] for world in worlds])
    ends = {
        "several deals": [interval(refitted(world, 5, (0, 1)))[1:] for world in worlds],
        "one deal": [interval(refitted(world[:1], 5, (0, 1)))[1:] for world in worlds],
        "rows alone": [interval(world[0])[1:] for world in worlds],
    }
    held = {name: np.mean([low <= truth <= high for low, high in found]) for name, found in ends.items()}
    width = {name: np.mean([high - low for low, high in found]) for name, found in ends.items()}
    assert min(held["several deals"], held["one deal"]) >= 0.92, held  # 0.92: 1.9 standard errors below 0.95
    assert width["several deals"] < width["one deal"]
    if shift == 0:
        assert held["rows alone"] < 0.89, held
    else:
        assert width["several deals"] < 1.25 * width["rows alone"]


def test_the_variance_by_hand() -> None:
    assert refitted_variance(4.0, np.array([0.7]), 5) == pytest.approx(4 * (1 + 0.2 / 0.8) + 4)
    assert refitted_variance(4.0, np.array([1.0, 3.0]), 5) == pytest.approx(5 + 2 * (0.5 + 2))


def test_the_value_is_the_mean_of_deals_and_a_deal_without_one_is_left_out() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, (3, 100))
    draws[2, 0] = np.nan
    value, low, high = interval(refitted(draws, 5, (0, 1)))
    assert value == pytest.approx(draws[:2, 0].mean())
    assert 0 <= low < value < high <= 1
    assert np.isnan(interval(refitted(np.full((2, 9), np.nan), 5))).all()


def test_draws_at_the_edge_keep_their_exact_bound() -> None:
    group = np.arange(40)
    perfect = auc_within(group < 20, -group, np.zeros(40, int), group_draws(group, 400, 0))
    assert interval(refitted(np.stack([perfect] * 3), 5, (0, 1))) == pytest.approx(interval(perfect))
