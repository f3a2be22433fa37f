"""The exact bound of an AUC of 0 or 1 rests on pairs that are compared and share no group."""

from __future__ import annotations

import numpy as np
import pytest

from trajkit.stats.pairs import disjoint_pairs, with_partner
from trajkit.stats.resampling import auc_within, group_draws, interval


def low_of(y: np.ndarray, stratum: np.ndarray, group: np.ndarray) -> float:
    return interval(auc_within(y, y, stratum, group_draws(group, 400, 0)))[1]


def test_groups_whose_rows_have_no_partner_are_no_trials() -> None:
    """One pair can be compared; a hundred other groups are alone with one class, and one group is of two strata."""
    y = np.r_[1, 0, np.ones(50), np.zeros(50), 1].astype(float)
    stratum = np.r_[0, 0, np.ones(50), np.full(50, 2), 1].astype(int)
    group = np.r_[0, 1, np.arange(2, 102), 0]
    assert low_of(y, stratum, group) == pytest.approx(0.025, abs=1e-3)
    assert with_partner(y == 1, stratum).tolist() == [True, True] + [False] * 101


def test_rows_without_a_partner_do_not_make_an_interval() -> None:
    """Of the positives, nine groups are compared."""
    y = np.r_[np.ones(9), np.zeros(20), np.ones(20)]
    stratum = np.r_[np.zeros(29), np.ones(20)].astype(int)
    score = np.random.default_rng(0).normal(size=49)
    assert np.isnan(interval(auc_within(y, score, stratum, group_draws(np.arange(49), 100, 0)))[1:]).all()


def test_a_pair_of_groups_counts_in_all_strata_where_it_is_compared_and_only_there() -> None:
    """Eight groups are four pairs: of both strata each, or two of one stratum and two of the other."""
    everywhere = disjoint_pairs(np.arange(16) < 8, np.tile([0, 1], 8), np.repeat(np.arange(8), 2))
    assert everywhere == pytest.approx((4, 1))
    halves = disjoint_pairs(np.tile([True, False], 4), np.repeat([0, 1], 4), np.arange(8))
    assert halves == pytest.approx((4, 1))


def test_strata_for_which_no_group_is_left_may_be_anything() -> None:
    """Two strata of a pair each, which share a group: one trial, and half of the pairs that it does not speak for."""
    y, stratum, group = np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2])
    assert disjoint_pairs(y == 1, stratum, group) == pytest.approx((1, 0.5))
    assert low_of(y.astype(float), stratum, group) == pytest.approx(0.5 * 0.025, abs=1e-3)


def test_it_finds_as_many_pairs_as_there_are_in_one_stratum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        group, y = rng.integers(0, 12, 18), rng.random(18) < 0.4
        of_class = [set(group[side].tolist()) for side in (y, ~y)]
        if not all(of_class):
            continue
        most = max(1, min(*map(len, of_class), len(of_class[0] | of_class[1]) // 2))
        assert disjoint_pairs(y, np.zeros(18, int), group) == pytest.approx((most, 1))


def test_scores_of_chance_that_are_all_in_order_are_seldom_told_from_chance() -> None:
    """Runs matched on one of many lengths: a handful of pairs, in groups that are of many strata."""
    rng, missed, at_edge = np.random.default_rng(1), 0, 0
    group = np.repeat(np.arange(30), 2)
    for _ in range(300):
        y, stratum, score = rng.random(60) < 0.4, rng.integers(0, 200, 60), rng.normal(size=60)
        value, low, high = interval(auc_within(y, score, stratum, group_draws(group, 100, 0)))
        at_edge += value in (0, 1)
        missed += value in (0, 1) and not low <= 0.5 <= high
    assert at_edge > 50
    assert missed <= 0.05 * 300
    assert missed <= 0.1 * at_edge
