from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from trajkit.stats.resampling import (
    Draws,
    auc_within,
    clopper_pearson,
    group_draws,
    interval,
    numbered,
    pairs_within,
    some_groups,
    weighted_auc,
    weighted_mean,
    weighted_median,
    wilson,
)


def each(draws: Draws) -> list[np.ndarray]:
    """The rows of every draw, as often as they were drawn."""
    rows = np.arange(len(draws.member))
    return [np.repeat(rows, draws.weights(slice(b, b + 1), rows)[0]) for b in range(len(draws))]


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray, Draws]:
    """y, score with ties and infinities, stratum, draws; more rows than fit a block."""
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 90), rng.integers(0, 8, 90).astype(float)
    score[:3] = np.inf
    return y, score, rng.integers(0, 3, 90), group_draws(rng.integers(0, 20, 90), 4000, seed=1)


def test_every_draw_has_the_auc_of_its_repeated_rows(world) -> None:
    y, score, _, draws = world
    areas = weighted_auc(y, score, draws)
    for area, rows in list(zip(areas, each(draws), strict=True))[::40]:
        assert area == pytest.approx(roc_auc_score(y[rows], np.minimum(score[rows], 1e9)))


def test_within_strata_pairs_are_counted_one_by_one(world) -> None:
    y, score, stratum, draws = world
    wins, pairs = pairs_within(y, score, stratum, draws)
    for b, rows in list(enumerate(each(draws)))[::80]:
        up, down = rows[y[rows] == 1], rows[y[rows] == 0]
        same = stratum[up][:, None] == stratum[down]
        right = (score[up][:, None] > score[down]) + (score[up][:, None] == score[down]) / 2
        assert pairs[b] == same.sum()
        assert wins[b] == pytest.approx((right * same).sum())


def test_more_rows_than_are_held_at_a_time_are_counted_alike() -> None:
    rng = np.random.default_rng(0)
    y, score, stratum = rng.integers(0, 2, 9000), rng.normal(size=9000), rng.integers(0, 2, 9000)
    draws = group_draws(rng.integers(0, 900, 9000), 3, 0)  # in about 2,250 slots, and more of two strata
    wins, pairs = pairs_within(y, score, stratum, draws)
    for b, rows in enumerate(each(draws)):
        for area, count in ((weighted_auc(y, score, draws)[b], 1), (wins[b] / pairs[b], 2)):
            of = stratum[rows] if count == 2 else np.zeros(len(rows), int)
            parts = [(rows[of == s], y[rows[of == s]]) for s in range(count)]
            weight = [labels.sum() * (1 - labels).sum() for _, labels in parts]
            expected = [roc_auc_score(labels, score[mine]) for mine, labels in parts]
            assert area == pytest.approx(np.average(expected, weights=weight))


def test_pairs_of_all_draws_need_memory_for_the_rows_and_the_groups_and_not_for_their_draws() -> None:
    rng = np.random.default_rng(0)
    y, score, stratum = rng.integers(0, 2, 40_000), rng.normal(size=40_000), rng.integers(0, 3, 40_000)
    few, many = (group_draws(np.arange(40_000) // 20, n_boot, 0) for n_boot in (100, 1000))
    pairs_within(y[:9], score[:9], stratum[:9], few.of(np.arange(9)))  # what is imported counts for neither
    peaks = [peak_of(lambda draws=draws: pairs_within(y, score, stratum, draws)) for draws in (few, many)]
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 40_000 * 1000 / 2  # half a byte a row and draw


def peak_of(work) -> int:
    """The most memory, bytes, that Python and NumPy held at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_means_and_medians_are_those_of_the_repeated_rows(world) -> None:
    values, draws = np.random.default_rng(2).normal(size=90), world[3]
    means, medians = weighted_mean(values, draws), weighted_median(values, draws)
    for b, rows in list(enumerate(each(draws)))[::80]:
        assert means[b] == pytest.approx(values[rows].mean())
        assert medians[b] == np.sort(values[rows])[(len(rows) - 1) // 2]


def test_a_draw_takes_whole_groups_and_keeps_their_number() -> None:
    draws = group_draws(np.repeat([3, 5, 9, 11], [1, 4, 2, 3]), 50, seed=0, min_groups=1)
    assert draws.counts.shape == (51, 4)
    assert (draws.counts[0] == 1).all()
    assert (draws.counts.sum(axis=1) == 4).all()
    taken = draws.weights(slice(1, 51), np.arange(10))
    np.testing.assert_array_equal(taken, taken[:, [0, 1, 5, 7]][:, np.repeat([0, 1, 2, 3], [1, 4, 2, 3])])
    assert np.ptp(taken) > 0


def test_groups_are_drawn_with_equal_chances() -> None:
    counts = group_draws(np.arange(25), 4000, seed=3).counts[1:]
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.08)  # 5 standard errors
    assert counts.var() == pytest.approx(1 - 1 / 25, abs=0.03)


def test_few_groups_of_a_class_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    member, score = np.repeat(np.arange(60), 3), rng.normal(size=180)
    for failing, known in ((9, False), (10, True)):
        y = (member < failing) & (np.arange(180) % 3 > 0)
        found = interval(weighted_auc(y, score, group_draws(member, 200, 0)))
        assert np.isfinite(found).tolist() == [True, known, known]
        assert np.isfinite(interval(weighted_auc(~y, score, group_draws(member, 200, 0)))[1:]).all() == known


def test_an_interval_counts_infinite_draws_and_has_a_width() -> None:
    draws = np.concatenate([[3.0], np.arange(60.0), np.full(40, np.inf), [np.nan] * 9])
    assert interval(draws) == (3, 2, np.inf)
    assert interval(draws[:61])[1:] == pytest.approx(np.quantile(np.arange(60.0), (0.025, 0.975)))
    assert np.isnan(interval(np.full(50, 0.5))[1:]).all()
    assert np.isnan(interval(np.array([np.nan, 1, 2])))[0]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_none_or_all_has_the_bound_of_clopper_and_pearson_over_groups(value: float) -> None:
    """Within a group runs may all be alike, so that a group is one trial, however many runs it has."""
    for n in (4, 30):
        draws = group_draws(np.repeat(np.arange(n), 5), 400, 0)
        found, low, high = interval(weighted_mean(np.full(5 * n, value), draws))
        exact = proportion_confint(value * n, n, 0.05, "beta")
        assert (found, low, high) == pytest.approx((value, *exact), abs=1e-4)
    assert np.isnan(interval(weighted_mean(np.full(5 * n, 0.5), draws))[1:]).all()  # no share


def test_a_mean_of_figures_at_the_edge_is_no_narrower_than_they_are() -> None:
    """As the macro AUC of outcomes that are all told apart."""
    draws = group_draws(np.arange(60), 400, 0)
    areas = [weighted_auc(np.arange(60) % 3 == k, np.arange(60) % 3 == k, draws) for k in range(3)]
    assert interval(np.mean(areas, axis=0)) == pytest.approx((1, 0.025 ** (1 / 20), 1), abs=1e-4)


def test_strata_count_by_the_weakest_of_them_for_its_part_of_the_pairs() -> None:
    stratum = np.repeat([0, 1], [20, 60])
    y = np.r_[np.arange(20) < 10, np.arange(60) < 5].astype(float)  # 10 and 5 disjoint pairs, of 100 and 275
    low = interval(auc_within(y, y, stratum, group_draws(np.arange(80), 400, 0)))[1]
    assert low == pytest.approx(0.025 ** (1 / (5 * 375 / 275)), abs=1e-4)


def test_few_groups_have_no_interval() -> None:
    few, enough = np.repeat(np.arange(9), 20), np.repeat(np.arange(10), 18)
    y, score = np.arange(180) % 2, np.random.default_rng(0).normal(size=180)
    assert np.isnan(interval(weighted_auc(y, score, group_draws(few, 100, 0)))[1:]).all()
    assert np.isfinite(interval(weighted_auc(y, score, group_draws(enough, 100, 0)))).all()


def test_the_group_interval_is_wider_than_if_repeats_were_independent() -> None:
    rng = np.random.default_rng(0)
    y, score = np.repeat(rng.integers(0, 2, 40), 10), np.repeat(rng.normal(size=40), 10)
    grouped = interval(weighted_auc(y, score, group_draws(np.repeat(np.arange(40), 10), 300, 0)))
    naive = interval(weighted_auc(y, score, group_draws(np.arange(400), 300, 0)))
    assert grouped[2] - grouped[1] > 2 * (naive[2] - naive[1])


def test_one_class_only_has_no_auc() -> None:
    one, none = Draws(np.ones((3, 2), int), np.arange(2)), Draws(np.ones((3, 0), int), np.arange(0))
    assert np.isnan(weighted_auc([1, 1], [0.1, 0.2], one)).all()
    assert np.isnan(weighted_auc([], [], none)).all()
    assert np.isnan(auc_within([1, 0], [0.1, 0.2], np.array([0, 1]), one)).all()
    assert np.isnan(weighted_mean([], none)).all()
    assert np.isnan(weighted_median([], none)).all()


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (1, 20), (9, 10), (20, 200)])
def test_the_exact_interval_is_that_of_statsmodels(k, n):
    assert clopper_pearson(k, n) == pytest.approx(proportion_confint(k, n, 0.05, "beta"))


def test_the_exact_interval_of_no_trial_is_everything_and_that_of_part_of_a_trial_lies_between():
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    (lower, _), (low, high), (_, higher) = clopper_pearson(2, 10), clopper_pearson(2.5, 10.0), clopper_pearson(3, 10)
    assert lower < low < 0.25 < high < higher


def test_wilson_and_the_weighted_median_by_hand() -> None:
    np.testing.assert_allclose(wilson(5, 50), (0.0434752, 0.2136023), atol=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)
    draws = Draws(np.array([[1, 1, 1], [5, 1, 1]]), np.arange(3))
    np.testing.assert_array_equal(weighted_median([3.0, 1.0, 2.0], draws), [2, 3])


@pytest.mark.alone
def test_a_thousand_draws_cost_less_than_a_hundred_times_scikit_learns_auc() -> None:
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 3000), rng.normal(size=3000)
    draws = group_draws(rng.integers(0, 500, 3000), 1000, 0)
    ours, theirs = [], []
    for _ in range(5):
        ours.append(_seconds(lambda: weighted_auc(y, score, draws)))
        theirs.append(_seconds(lambda: [roc_auc_score(y, score) for _ in range(20)]) / 20)
    assert min(ours) < 100 * min(theirs)


def _seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_combinations_are_numbered_alike_where_all_columns_agree_and_only_there():
    rng = np.random.default_rng(0)
    form, steps, fold = rng.choice(["a", "b", "a1"], 300), rng.integers(1, 2000, 300), rng.integers(0, 12, 300)
    number = numbered(form, steps, fold)
    assert set(number) == set(range(number.max() + 1))
    assert len({*zip(form, steps, fold, number, strict=True)}) == len({*zip(form, steps, fold, strict=True)})
    assert number.max() + 1 == len({*zip(form, steps, fold, strict=True)})
    assert numbered(["b", "a", "b"]).tolist() == [1, 0, 1]
    assert numbered([], []).tolist() == []
    # 1000 · steps + fold confuses (1, 1001) with (2, 1)
    assert len(set(numbered([1, 2], [1001, 1]))) == 2


def test_groups_to_hold_out_are_whole_groups_by_the_seed_whatever_their_order_or_size():
    runs = [f"g{i % 20}" for i in range(200)]
    held_out = some_groups(runs, 0.25, 3)
    assert len(held_out) == 5
    assert held_out < set(runs)
    assert some_groups(reversed([*runs, *["g0"] * 50]), 0.25, 3) == held_out != some_groups(runs, 0.25, 4)
    assert len(some_groups(["a", "b"], 0.01, 0)) == 1


def test_sums_of_arrays_are_those_of_their_columns_over_the_rows_of_every_draw():
    rng = np.random.default_rng(2)
    values, draws = rng.normal(size=(40, 3, 2)), group_draws(np.arange(40) // 3, 25, 0)
    by_hand = [values[rows].sum(axis=0) for rows in each(draws)]
    np.testing.assert_allclose(draws.sums(values), by_hand)
    np.testing.assert_allclose(draws.by_group(values).sum(axis=0), values.sum(axis=0))
    some = draws.of(np.array([5, 7, 30]))
    np.testing.assert_allclose(some.sums(values[[5, 7, 30], 0, 0])[0], values[[5, 7, 30], 0, 0].sum())
    assert draws.of(np.zeros(0, int)).sums(np.zeros((0, 2))).tolist() == [[0, 0]] * 26
