"""Differences with length and task held fixed: against statsmodels, and honest when runs share an image."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy.stats import t

import trajkit as tk
from trajkit.errors import InputError


def frame(seed=0, n=60, shift=0.0, by_length=0.0, clustered=0.0):
    """Failing runs are longer, and x may depend on the outcome, on length, and on the image."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n), 3)
    outcome = rng.choice(["success", "hallucination"], n)[group]
    tokens = np.exp(rng.normal(3, 0.4, 3 * n) + 0.5 * (outcome == "hallucination")).round()
    x = rng.normal(size=3 * n) + shift * (outcome == "hallucination") + by_length * np.log1p(tokens)
    x = x + clustered * rng.normal(size=n)[group]
    task = np.array(["math", "code", "document"])[group % 3]
    return pd.DataFrame({"outcome": outcome, "x": x, "n_tokens": tokens, "task_set": task, "group_id": group})


def test_the_cluster_robust_fit_is_that_of_statsmodels_a_little_wider():
    """Which has residuals as they are, and as many degrees of freedom as all groups give."""
    df = frame(shift=0.5, by_length=1.0)
    row = tk.stats.regress(df, "x").iloc[0]
    length = np.log1p(df.n_tokens)
    again = smf.ols("x ~ C(outcome, Treatment('success')) + length + C(task_set)", df.assign(length=length)).fit(
        cov_type="cluster", cov_kwds={"groups": df.group_id}, use_t=True
    )
    assert (row.level, row.reference, row.n, row.groups) == ("hallucination", "success", 180, 60)
    assert row.coefficient == pytest.approx(again.params.iloc[1])
    wider = (row.high - row.low) / np.ptp(again.conf_int().iloc[1])
    assert 1 < wider < 1.1
    assert row.effect == pytest.approx(row.coefficient / df.x.std(ddof=0))


@pytest.mark.parametrize("few", [10, 25, 40])
def test_of_groups_of_one_level_each_the_cluster_robust_fit_is_welch_s_test_of_their_means(few):
    """With Satterthwaite's degrees of freedom for equal variances."""
    df = frame(n=50, clustered=1.0)
    df["outcome"] = np.where(df.group_id < few, "hallucination", "success")
    row = tk.stats.regress(df, "x", covariates=()).iloc[0]
    means = df.groupby("group_id")["x"].mean().to_numpy()
    rare, rest, others = means[:few], means[few:], 50 - few
    error = np.sqrt(rare.var(ddof=1) / few + rest.var(ddof=1) / others)
    freedom = (1 / few + 1 / others) ** 2 / (1 / (few**2 * (few - 1)) + 1 / (others**2 * (others - 1)))
    assert row.coefficient == pytest.approx(rare.mean() - rest.mean())
    assert row.high - row.coefficient == pytest.approx(t.ppf(0.975, freedom) * error)
    assert row.p == pytest.approx(2 * t.sf(abs(row.coefficient) / error, freedom))


def test_the_mixed_fit_is_that_of_statsmodels():
    df = frame(clustered=1.0, shift=0.5)
    row = tk.stats.regress(df, "x", covariates=("n_tokens",), kind="mixed").iloc[0]
    length = np.log1p(df.n_tokens)
    again = smf.mixedlm(
        "x ~ C(outcome, Treatment('success')) + length", df.assign(length=length), groups="group_id"
    ).fit()
    assert row.coefficient == pytest.approx(again.params.iloc[1], rel=1e-3)
    assert row.p == pytest.approx(again.pvalues.iloc[1], rel=2e-2)
    assert (row.low, row.high) == pytest.approx(tuple(again.conf_int().iloc[1]), abs=1e-2)


def test_a_metric_that_only_grows_with_length_differs_between_outcomes_until_length_is_held_fixed():
    df = frame(by_length=2.0, n=200)
    assert tk.stats.compare(df, "x", n_resamples=200).p_permutation.iloc[0] < 0.01
    held = tk.stats.regress(df, "x").iloc[0]
    assert held.low < 0 < held.high


def test_shared_images_do_not_make_chance_significant():
    """Ten runs an image share its outcome and most of x: taken as independent, half of such worlds differ."""
    hits = {"cluster": 0, "mixed": 0, "as if independent": 0}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        image = np.repeat(np.arange(30), 10)
        outcome = np.where(rng.permutation(30) % 2, "success", "hallucination")[image]
        x, tokens = 2 * rng.normal(size=30)[image] + rng.normal(size=300), rng.integers(20, 60, 300)
        df = pd.DataFrame({"outcome": outcome, "x": x, "n_tokens": tokens, "group_id": image})
        for kind in hits:
            shared = kind != "as if independent"
            of_kind = {"kind": kind} if shared else {}
            runs = df if shared else df.assign(group_id=np.arange(300))
            hits[kind] += tk.stats.regress(runs, "x", covariates=("n_tokens",), **of_kind).iloc[0].p < 0.05
    assert max(hits["cluster"], hits["mixed"]) <= 5  # 1.25 expected; the 99.8th percentile of Binomial(25, 0.05)
    assert hits["as if independent"] > 8


def test_a_covariate_that_says_nothing_new_is_left_out():
    df = frame().assign(same="a")
    df["copy"] = df.n_tokens
    row = tk.stats.regress(df, "x", covariates=("n_tokens", "copy", "same", "task_set")).iloc[0]
    assert row.p == pytest.approx(tk.stats.regress(df, "x").p.iloc[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "y"}, "could not find column 'y'"),
        ({"covariates": ("age",)}, "could not find column 'age'"),
        ({"kind": "bayes"}, "kind must be one of cluster, mixed"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        tk.stats.regress(frame(), **({"metric": "x"} | change))


def test_too_little_to_say_anything_is_refused():
    with pytest.raises(InputError, match="at least 10 groups; got 9"):
        tk.stats.regress(frame(n=9), "x")
    df = frame()
    with pytest.raises(InputError, match="at least two values"):
        tk.stats.regress(df[df.outcome == "success"], "x")
    with pytest.raises(InputError, match="is 1 in all 180 runs"):
        tk.stats.regress(df.assign(x=1.0), "x")


def test_an_outcome_that_follows_from_the_task_cannot_be_held_apart_from_it():
    df = frame()
    df["task_set"] = np.where(df.outcome == "success", "math", "code")
    with pytest.raises(InputError, match="'outcome' cannot be told from n_tokens, task_set"):
        tk.stats.regress(df, "x")


@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_regression_of_groups_without_anything_in_common_is_the_plain_one(seed):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(
        {
            "outcome": rng.choice(["success", "failure"], 200),
            "x": 1e4 * rng.normal(size=200),
            "task_set": "a",
            "group_id": rng.permutation(np.repeat(np.arange(50), 4)),
            "n_tokens": rng.integers(10, 99, 200),
        }
    )
    df["x"] -= 0.99 * df.groupby("group_id")["x"].transform("mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed, plain = (tk.stats.regress(df, "x", kind=kind).iloc[0] for kind in ("mixed", "cluster"))
    assert mixed.coefficient == pytest.approx(plain.coefficient, rel=1e-6)
    y = df["x"].to_numpy()
    design = np.column_stack([np.ones(200), np.log1p(df["n_tokens"]), df["outcome"] == "failure"]).astype(float)
    error = sm.OLS(y, design).fit().bse[2]
    assert mixed.high - mixed.low == pytest.approx(2 * 1.959964 * error, rel=1e-3)


@pytest.mark.parametrize("kind", ["cluster", "mixed"])
def test_a_metric_in_another_unit_has_the_same_effect_and_p(kind):
    df = frame(clustered=1.0, shift=0.5)
    row, other = (tk.stats.regress(df.assign(x=unit * df["x"]), "x", kind=kind).iloc[0] for unit in (1, 1000))
    for name in ("coefficient", "low", "high"):
        assert other[name] == pytest.approx(1000 * row[name], rel=1e-4)
    for name in ("effect", "effect_low", "effect_high", "p"):
        assert other[name] == pytest.approx(row[name], rel=1e-4)
    assert row.low < row.coefficient < row.high


def test_a_mixed_regression_that_does_not_converge_is_refused(monkeypatch):
    from statsmodels.regression.mixed_linear_model import MixedLM

    class Stopped:
        converged = False

    monkeypatch.setattr(MixedLM, "fit", lambda *args, **kwargs: Stopped())
    with pytest.raises(InputError, match="does not converge"):
        tk.stats.regress(frame(), "x", kind="mixed")


def test_a_level_in_few_groups_has_a_difference_and_no_p_and_the_others_keep_theirs():
    """With cluster-robust errors a level of one group in 30 is called significant in two cases of three."""
    chance = []
    for few, told in ((1, False), (9, False), (10, True)):
        for seed in range(20):
            df = frame(seed, n=40, clustered=1.0)
            mine = (df.group_id >= 40 - few) & (np.arange(len(df)) % 3 > 0)
            df["outcome"] = df.outcome.mask(mine, "reasoning_failure")
            found = tk.stats.regress(df, "x", covariates=()).set_index("level")
            row = found.loc["reasoning_failure"]
            assert np.isfinite([row.coefficient, row.effect]).all()
            assert row.level_groups == few
            assert np.isfinite([row.p, row.low, row.high, row.effect_low, row.effect_high]).tolist() == [told] * 5
            chance.append(found.p["hallucination"] < 0.05)
    assert 0 <= np.mean(chance) <= 0.15


def test_a_reference_in_few_groups_is_refused_by_name():
    df = frame(n=40)
    df["outcome"] = np.where(df.group_id < 3, "success", "hallucination")
    with pytest.raises(InputError, match="'success' needs runs of at least 10 groups; got 3"):
        tk.stats.regress(df, "x", covariates=())


def test_rows_without_a_label_are_left_out():
    df = frame()
    df["outcome"] = df.outcome.astype("string").mask(df.group_id < 5)
    row, alone = (tk.stats.regress(d, "x").iloc[0] for d in (df, df[df.outcome.notna()]))
    assert (row.n, row.level) == (165, "hallucination")
    assert row.p == alone.p


def test_the_form_is_held_fixed_where_it_is_known():
    """All that tells the outcomes apart is their form."""
    rng = np.random.default_rng(0)
    hard = rng.random(600) < 0.5
    failed = rng.random(600) < np.where(hard, 0.8, 0.2)
    df = pd.DataFrame(
        {
            "outcome": np.where(failed, "hallucination", "success"),
            "x": rng.normal(size=600) + 2 * hard,
            "n_tokens": 9,
            "task_set": "science",
            "form": np.where(hard, "largest", "count"),
            "group_id": np.arange(600),
        }
    )
    held, mixed = (tk.stats.regress(frame, "x").iloc[0] for frame in (df, df.drop(columns="form")))
    assert held.low < 0 < held.high
    assert mixed.low > 0.5
