"""AUC and its intervals against scikit-learn, a worked value, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import trajkit as tk
from trajkit.errors import InputError
from trajkit.stats.resampling import auc_within, group_draws, interval


@pytest.mark.parametrize("seed", range(4))
def test_the_value_is_that_of_scikit_learn_ties_included(seed):
    rng = np.random.default_rng(seed)
    y, score = rng.integers(0, 2, 60), rng.integers(0, 8, 60)
    for groups in (None, rng.integers(0, 20, 60)):
        assert tk.stats.auc(y, score, groups, n_boot=50).value == pytest.approx(roc_auc_score(y, score))


def test_within_strata_only_pairs_of_one_stratum_count():
    """By hand: in a, 1 of 2 pairs in order; in b, 1 of 1 and a tie of the other; what is between a and b is nothing."""
    y = [1, 0, 0, 1, 1, 0]
    score = [5.0, 4, 6, 90, 80, 80]
    within = ["a", "a", "a", "b", "b", "b"]
    assert tk.stats.auc(y, score, range(6), within=within, n_boot=20).value == pytest.approx((1 + 1 + 0.5) / 4)
    assert tk.stats.auc(y, score, range(6), n_boot=20).value != pytest.approx(2.5 / 4)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.sampled_from("abc")), min_size=2, max_size=30))
def test_within_strata_it_is_the_share_of_pairs_in_order_whatever_is_added_to_a_stratum(rows):
    y, score, within = (np.array(column) for column in zip(*rows, strict=True))
    alike = within[:, None] == within
    pairs = [(score[i], score[j]) for i, j in np.argwhere(alike) if y[i] and not y[j]]
    groups = np.arange(len(y))
    if not pairs:
        with pytest.raises(InputError):
            tk.stats.auc(y, score, groups, within=within, n_boot=2)
        return
    expected = np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])
    moved = score + 10.0 * np.unique(within, return_inverse=True)[1]
    for of in (score, moved):
        assert tk.stats.auc(y, of, groups, within=within, n_boot=2).value == pytest.approx(expected)


def test_within_strata_it_needs_groups():
    with pytest.raises(InputError, match="needs groups"):
        tk.stats.auc([0, 1], [0, 1], within=["a", "a"])


def test_delong_variance_by_its_definition():
    """Placement values by the double sum of DeLong et al. 1988, on a small sample."""
    up, down = np.array([3.0, 5, 5, 8]), np.array([1.0, 3, 4])
    kernel = (up[:, None] > down) + 0.5 * (up[:, None] == down)
    var = kernel.mean(1).var(ddof=1) / 4 + kernel.mean(0).var(ddof=1) / 3
    got = tk.stats.auc([1] * 4 + [0] * 3, np.concatenate([up, down]))
    half = 1.959964 * np.sqrt(var)
    assert (got.value, got.low) == pytest.approx((kernel.mean(), kernel.mean() - half), abs=1e-6)
    assert kernel.mean() + half > 1 == got.high  # capped
    again = tk.stats.auc([0] * 4 + [1] * 3, np.concatenate([up, down]))
    assert (again.low, again.high) == pytest.approx((0, 1 - kernel.mean() + half), abs=1e-6)


def test_runs_that_repeat_their_group_make_the_interval_wider():
    rng = np.random.default_rng(0)
    y, score = np.repeat(rng.integers(0, 2, 40), 10), np.repeat(rng.normal(size=40), 10)
    by_row, by_group = tk.stats.auc(y, score), tk.stats.auc(y, score, np.repeat(np.arange(40), 10))
    assert by_group.high - by_group.low > 2 * (by_row.high - by_row.low)


def test_group_intervals_cover_the_truth():
    """200 draws of clustered null data: the 95 % interval must hold 0.5 in 90 to 99 % of them."""
    rng, hits = np.random.default_rng(1), 0
    for i in range(200):
        group = np.repeat(np.arange(60), 4)
        y = (rng.normal(size=60)[group] + rng.normal(size=240) > 0).astype(int)
        score = rng.normal(size=60)[group] + rng.normal(size=240)
        got = tk.stats.auc(y, score, group, n_boot=200, seed=i)
        hits += got.low <= 0.5 <= got.high
    assert 0.90 <= hits / 200 <= 0.99


def test_one_group_or_a_single_row_of_a_class_has_no_interval():
    y, score = [0, 1, 1, 0], [0.1, 0.9, 0.2, 0.3]
    assert np.isnan(tk.stats.auc(y, score, ["a"] * 4).low)
    assert np.isnan(tk.stats.auc([0, 0, 1, 0], score).high)


@pytest.mark.parametrize("turned", [False, True])
def test_perfect_separation_has_the_exact_bound_of_as_many_pairs_as_have_no_group_in_common(turned):
    """Twelve failing groups beside thirty: 12 disjoint pairs, all in order with probability A^12 at most."""
    group = np.repeat(np.arange(42), 3)
    y, score = (group < 12) != turned, -1.0 * group
    for got, pairs in (
        (tk.stats.auc(y, score, group), 12),
        (tk.stats.auc(y[::3], score[::3]), 12),
        (tk.stats.auc(y[:39], score[:39], group[:39]), 1),
    ):
        bound = 0.025 ** (1 / pairs)
        assert (got.value, got.low, got.high) == pytest.approx((0, 0, 1 - bound) if turned else (1, bound, 1), abs=1e-4)
    mixed = tk.stats.auc(np.arange(126) % 3 == 0, np.arange(126) % 3 == 0, group)  # each group holds both
    assert mixed.low == pytest.approx(0.025 ** (1 / 21), abs=1e-4)


@pytest.mark.parametrize("strata", [1, 3])
def test_the_bound_of_perfect_separation_holds_its_level_where_it_is_hardest(strata):
    """A share of positives lies below all negatives, so that the AUC lies just below the bound."""
    rng, wrong, pairs = np.random.default_rng(0), 0, 15
    group = np.arange(60)
    y, stratum = group % 60 < pairs, group % strata
    truth = 0.025 ** (1 / pairs) - 0.003
    draws = group_draws(group, 400, 0)
    for _ in range(1000):
        score = np.where(y, np.where(rng.random(60) < truth, 2.0, 0.0), 1.0)
        value, low, _ = interval(auc_within(y, score, stratum, draws))
        wrong += value == 1 and low > truth
    assert 0.01 < wrong / 1000 <= 0.025 + 2.5 * np.sqrt(0.025 * 0.975 / 1000)


def test_rows_without_a_score_are_dropped():
    got = tk.stats.auc([0, 1, 1, 0], [0.1, 0.9, np.nan, np.nan])
    assert (got.value, got.n_pos, got.n_neg) == (1.0, 1, 1)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([1, 1], [0.1, 0.2], "needs both classes; got 2 positive and 0 negative"),
        ([0, 2], [0.1, 0.2], "y must hold 0"),
        ([0, 1], [0.1], "same length"),
    ],
)
def test_bad_input_is_refused(y, score, message):
    with pytest.raises(InputError, match=message):
        tk.stats.auc(y, score)


def test_groups_that_span_strata_count_once_in_the_bound_of_perfect_separation():
    """Forms of one image are no independent trials: eight images are four pairs, in however many strata."""
    image, form = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
    y = image % 2
    low = interval(auc_within(y, y.astype(float), form, group_draws(image, 400, 0)))[1]
    assert low == pytest.approx(0.025 ** (1 / 4), abs=1e-4)
    alone = interval(auc_within(form % 2, form % 2, form // 2, group_draws(np.zeros(40), 400, 0)))[1]
    assert alone == pytest.approx(0.025, abs=1e-3)
