"""Comparing outcomes: against SciPy and statsmodels, and honest when runs share an image."""

from __future__ import annotations

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare, mannwhitneyu
from statsmodels.stats.multitest import multipletests

import trajkit as tk
from trajkit.errors import InputError
from trajkit.stats.compare import _labelled


def frame(seed=0, shift=0.0, n=60, clustered=0.0):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n), 3)
    outcome = np.array(["hallucination", "success", "reasoning_failure"])[rng.integers(0, 3, n)]
    outcome = np.repeat(outcome, 3)
    x = rng.normal(size=3 * n) + clustered * np.repeat(rng.normal(size=n), 3) + shift * (outcome == "success")
    return pd.DataFrame({"outcome": outcome, "x": x, "group_id": group.astype(str)})


def test_figures_are_those_of_scipy_and_statsmodels():
    df = frame(shift=0.7)
    table = tk.stats.compare(df, "x", n_resamples=200)
    assert list(zip(table.a, table.b, strict=True)) == [
        ("hallucination", "reasoning_failure"),
        ("hallucination", "success"),
        ("reasoning_failure", "success"),
    ]
    row = table.iloc[1]
    a, b = (df.x[df.outcome == o] for o in ("hallucination", "success"))
    u = mannwhitneyu(a, b)
    assert row.p_mannwhitney == pytest.approx(u.pvalue)
    assert row.cliffs_delta == pytest.approx(2 * u.statistic / len(a) / len(b) - 1)
    assert (row.n_a, row.mean_a, row.median_b) == pytest.approx((len(a), a.mean(), b.median()))
    means = df.groupby(["outcome", "group_id"]).x.mean()
    assert row.p_group_means == pytest.approx(mannwhitneyu(means["hallucination"], means["success"]).pvalue)


@pytest.mark.parametrize("correction", ["holm", "bonferroni", "fdr_bh"])
def test_the_permutation_p_is_corrected_over_the_pairs(correction):
    table = tk.stats.compare(frame(shift=0.4), "x", correction=correction, n_resamples=100)
    assert table.p_permutation.is_unique
    np.testing.assert_allclose(table.p_corrected, multipletests(table.p_permutation, method=correction)[1])


def test_a_difference_within_images_is_found_however_much_images_differ():
    """Two runs an image, always one success and then one failure: only shuffling within the image can tell."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(scale=5, size=30), 2) + np.tile([1.0, 0.0], 30) + rng.normal(scale=0.3, size=60)
    df = pd.DataFrame({"outcome": ["success", "failure"] * 30, "x": x, "group_id": np.repeat(np.arange(30), 2)})
    row = tk.stats.compare(df, "x", n_resamples=199).iloc[0]
    assert row.p_permutation == 1 / 200  # never 0: the labels as they came are one of the arrangements
    assert row.p_mannwhitney > 0.2


def test_a_real_difference_is_found_and_its_sign_is_right():
    row = tk.stats.compare(frame(shift=1.5), "x", n_resamples=300).iloc[1]
    assert row.p_corrected < 0.02
    assert row.delta_low < row.cliffs_delta < row.delta_high < 0


def test_shared_images_do_not_make_chance_significant():
    """Runs of an image resemble each other and share an outcome: Mann-Whitney is fooled, the permutation is not."""
    small = {"p_mannwhitney": 0, "p_group_means": 0, "p_permutation": 0}
    for seed in range(60):
        df = frame(seed, n=24, clustered=3.0)
        row = tk.stats.compare(df[df.outcome != "reasoning_failure"], "x", n_resamples=60).iloc[0]
        for name in small:
            small[name] += row[name] < 0.05
    assert small["p_permutation"] <= 8  # 3 expected; 8 is above the 99.5th percentile of Binomial(60, 0.05)
    assert small["p_group_means"] <= 8
    assert small["p_mannwhitney"] > 10


@pytest.mark.parametrize(("n", "known"), [(9, False), (10, True)])
def test_an_interval_needs_ten_groups_on_each_side(n, known):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n + 40), 3)
    outcome = np.where(groups < n, "failure", "success")
    df = pd.DataFrame({"outcome": outcome, "x": rng.normal(size=len(groups)), "group_id": groups})
    row = tk.stats.compare(df, "x", n_resamples=100).iloc[0]
    assert np.isfinite(row.cliffs_delta)
    assert np.isfinite([row.delta_low, row.delta_high]).tolist() == [known] * 2


def test_outcomes_that_do_not_overlap_have_an_exact_bound_and_not_an_empty_interval():
    groups = np.arange(40)
    outcome = np.where(groups < 20, "failure", "success")
    df = pd.DataFrame({"outcome": outcome, "x": groups.astype(float), "group_id": groups})
    row = tk.stats.compare(df, "x", n_resamples=100).iloc[0]
    assert (row.cliffs_delta, row.delta_low) == (-1, -1)
    assert row.delta_high == pytest.approx(1 - 2 * 0.025 ** (1 / 20), abs=1e-4)
    tied = tk.stats.compare(df.assign(x=np.arange(40) % 2), "x", n_resamples=20).iloc[0]
    assert tied.delta_low < 0 < tied.delta_high


def test_values_that_are_not_finite_are_left_out():
    df = frame()
    df.loc[df.index[:4], "x"] = [np.inf, -np.inf, np.nan, np.nan]
    table = tk.stats.compare(df, "x", n_resamples=20)
    assert table.n_a.iloc[0] + table.n_b.iloc[1] + table.n_b.iloc[0] == len(df) - 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "y"}, "could not find column 'y'; there are: outcome, x, group_id"),
        ({"correction": "tukey"}, "correction must be one of holm"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        tk.stats.compare(frame(), **({"metric": "x"} | change))


def test_one_outcome_alone_is_refused():
    df = frame()
    with pytest.raises(InputError, match="at least two values"):
        tk.stats.compare(df[df.outcome == "success"], "x")


def test_it_finds_effects_of_either_sign_where_the_size_of_a_group_goes_with_both():
    """Large groups fail more and have more of the metric: a statistic that is not centred sees one sign alone."""
    found = {-0.6: 0, 0.6: 0}
    for effect in found:
        for seed in range(20):
            rng = np.random.default_rng(seed)
            size = rng.choice([2, 6], 60)
            group = np.repeat(np.arange(60), size)
            large = (size == 6)[group]
            failed = rng.random(len(group)) < np.where(large, 0.6, 0.2)
            x = rng.normal(size=len(group)) + large + effect * failed
            df = pd.DataFrame({"outcome": np.where(failed, "failure", "success"), "x": x, "group_id": group})
            found[effect] += tk.stats.compare(df, "x", n_resamples=200).p_permutation.iloc[0] < 0.05
    assert min(found.values()) >= 14, found


def test_several_metrics_at_once_are_each_as_alone_and_corrected_together():
    df = frame(shift=0.5).assign(y=lambda d: d.x**2, z=lambda d: np.where(np.arange(len(d)) % 5, d.x, np.nan))
    table = tk.stats.compare(df, ["x", "y", "z"], n_resamples=150, n_boot=100)
    assert list(table.metric) == ["x"] * 3 + ["y"] * 3 + ["z"] * 3
    alone = pd.concat([tk.stats.compare(df, name, n_resamples=150, n_boot=100) for name in "xyz"], ignore_index=True)
    pd.testing.assert_frame_equal(table.drop(columns="p_corrected"), alone.drop(columns="p_corrected"))
    np.testing.assert_allclose(table.p_corrected, multipletests(table.p_permutation, method="holm")[1])


def test_what_is_tested_is_delta_less_what_follows_from_the_sizes_of_groups():
    """Large groups fail more and have more of the metric; among groups of one size the metric is of failures less."""
    rng = np.random.default_rng(0)
    size = rng.choice([2, 6], 300)
    group = np.repeat(np.arange(300), size)
    large = (size == 6)[group]
    failed = rng.random(len(group)) < np.where(large, 0.8, 0.1)
    x = rng.normal(size=len(group)) + 2 * large - 0.5 * failed
    df = pd.DataFrame({"outcome": np.where(failed, "failure", "success"), "x": x, "group_id": group})
    row = tk.stats.compare(df, "x", n_resamples=500, n_boot=50).iloc[0]
    assert row.cliffs_delta > 0.1
    assert row.delta_tested < -0.1
    assert row.p_permutation < 0.01
    even = df[large].assign(group_id=lambda d: d.group_id)
    row = tk.stats.compare(even, "x", n_resamples=50, n_boot=50).iloc[0]
    assert row.delta_tested == pytest.approx(row.cliffs_delta)


@pytest.mark.parametrize("metrics", [[], ()])
def test_no_metric_is_refused_and_one_given_twice_is_one(metrics):
    with pytest.raises(InputError, match="needs a metric"):
        tk.stats.compare(frame(), metrics)
    assert len(tk.stats.compare(frame(), ["x", "x"], n_resamples=20, n_boot=20)) == 3


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_runs_without_a_label_are_left_out_and_counted(missing):
    df = frame(shift=0.5).astype({"outcome": object})
    df.loc[df.index[:30], "outcome"] = missing
    table = tk.stats.compare(df, "x", n_resamples=50, n_boot=50)
    alone = tk.stats.compare(df[30:], "x", n_resamples=50, n_boot=50)
    assert (table.left_out == 30).all()
    pd.testing.assert_frame_equal(table.drop(columns="left_out"), alone.drop(columns="left_out"))


def test_nullable_columns_of_pandas_are_compared_like_others():
    df = frame(shift=0.5)
    ours = df.assign(success=(df.outcome == "success").astype("boolean"), y=df.x.astype("Float64"))
    ours.loc[ours.index[:6], "success"] = pd.NA
    ours.loc[ours.index[6:9], "y"] = pd.NA
    row = tk.stats.compare(ours, "y", by="success", n_resamples=50, n_boot=50).iloc[0]
    plain = df[9:].assign(success=lambda d: d.outcome == "success")
    alone = tk.stats.compare(plain, "x", by="success", n_resamples=50, n_boot=50).iloc[0]
    assert (row.a, row.b, row.left_out) == (False, True, 9)
    assert (row.cliffs_delta, row.p_permutation) == (alone.cliffs_delta, alone.p_permutation)
    with pytest.raises(InputError, match="runs of no 'group_id'"):
        tk.stats.compare(df.assign(group_id=df.group_id.mask(df.x > 1)), "x")


@pytest.mark.parametrize("size", [1, 2, 6, 12])
def test_shuffled_labels_are_any_arrangement_of_as_many_alike_likely(size):
    """Listed arrangements up to ten runs, a shuffle beyond."""
    rng = np.random.default_rng(0)
    n_a = rng.integers(0, size + 1, (4000, 2))
    rows = _labelled(n_a, size, rng)
    assert rows.shape == (4000, 2, size)
    np.testing.assert_array_equal(rows.sum(axis=2), n_a)
    some = rows[n_a == max(size // 3, 1)]
    arrangements, counts = np.unique(some, axis=0, return_counts=True)
    if size < 12:
        assert len(arrangements) == comb(size, max(size // 3, 1))
        assert chisquare(counts).pvalue > 0.001 if len(counts) > 1 else True
    np.testing.assert_allclose(some.mean(axis=0), max(size // 3, 1) / size, atol=0.08)


@pytest.mark.parametrize("kind", ["boolean", object])
def test_success_with_missing_values_is_compared_over_the_runs_that_were_judged(kind):
    df = frame(shift=0.5)
    won = (df.outcome == "success").astype(kind)
    won[df.index[:7]] = pd.NA if kind == "boolean" else None
    row = tk.stats.compare(df.assign(success=won), "x", by="success", n_resamples=50, n_boot=50).iloc[0]
    assert (row.a, row.b, row.left_out) == (False, True, 7)
    assert row.n_a + row.n_b == len(df) - 7
    alone = tk.stats.compare(
        df[7:].assign(success=df.outcome == "success"), "x", by="success", n_resamples=50, n_boot=50
    ).iloc[0]
    assert (row.cliffs_delta, row.p_permutation) == (alone.cliffs_delta, alone.p_permutation)


def forms_that_fail(seed, per_group=1, effect=0.0):
    """Two forms, in groups of their own or (three runs a group) in one; one fails more and has more of the metric."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(120), per_group)
    hard = rng.random(len(group)) < 0.5
    failed = rng.random(len(group)) < np.where(hard, 0.7, 0.15)
    x = rng.normal(size=len(group)) + 1.5 * hard + effect * failed + 0.5 * rng.normal(size=120)[group]
    outcome, form = np.where(failed, "failure", "success"), np.where(hard, "largest", "count")
    return pd.DataFrame({"outcome": outcome, "form": form, "task_set": "science", "x": x, "group_id": group})


@pytest.mark.parametrize("per_group", [1, 3])
def test_what_the_form_alone_makes_is_gone_within_strata_and_what_is_more_stays(per_group):
    p = {effect: [] for effect in (None, 0.0, 1.0)}
    for seed in range(25):
        for effect in p:
            df = forms_that_fail(seed, per_group, effect or 0)
            strata = () if effect is None else ("task_set", "form")
            p[effect].append(tk.stats.compare(df, "x", strata=strata, n_resamples=200, n_boot=20).p_permutation[0])
    rejected = {effect: np.mean(np.array(found) < 0.05) for effect, found in p.items()}
    assert rejected[None] > 0.8
    assert rejected[0.0] <= 0.16  # 4 of 25
    assert rejected[1.0] > 0.9


def test_family_and_form_are_held_fixed_unless_asked_otherwise_as_in_a_regression():
    df = forms_that_fail(0, 3)
    few = {"n_resamples": 50, "n_boot": 20}
    default = tk.stats.compare(df, "x", **few)
    pd.testing.assert_frame_equal(default, tk.stats.compare(df, "x", strata=("task_set", "form"), **few))
    assert default.cliffs_delta[0] < tk.stats.compare(df, "x", strata=(), **few).cliffs_delta[0] - 0.2
    bare = df.drop(columns=["task_set", "form"])
    pd.testing.assert_frame_equal(tk.stats.compare(bare, "x", **few), tk.stats.compare(df, "x", strata=(), **few))
    held, free = (tk.stats.regress(some.assign(n_tokens=5.0), "x") for some in (df, bare))
    assert held.coefficient[0] < free.coefficient[0] - 0.3


def test_delta_within_strata_is_over_pairs_of_one_stratum():
    df = forms_that_fail(0)
    row = tk.stats.compare(df, "x", strata=["form"], n_resamples=200).iloc[0]
    wins = pairs = 0.0
    for _, part in df.groupby("form"):
        a, b = (part.x[part.outcome == name].to_numpy()[:, None] for name in ("failure", "success"))
        wins, pairs = wins + np.sign(a - b.T).sum(), pairs + a.size * b.size
    assert row.cliffs_delta == pytest.approx(wins / pairs)
    assert row.delta_tested == pytest.approx(row.cliffs_delta)  # groups of one run each: size says nothing
    assert row.delta_low < row.cliffs_delta < row.delta_high


def test_one_stratum_changes_nothing_and_none_with_both_outcomes_says_nothing():
    df = frame(shift=0.5).assign(form="one")
    pd.testing.assert_frame_equal(
        tk.stats.compare(df, "x", n_resamples=150), tk.stats.compare(df, "x", strata=["form"], n_resamples=150)
    )
    apart = tk.stats.compare(df.assign(form=df.outcome), "x", strata=["form"], n_resamples=50)
    assert apart[["cliffs_delta", "delta_low", "delta_high", "delta_tested"]].isna().all(axis=None)
    assert apart[["p_permutation", "p_corrected"]].isna().all(axis=None)  # nothing was tested
    with pytest.raises(InputError, match="could not find column 'kind'"):
        tk.stats.compare(df, "x", strata=["kind"])
