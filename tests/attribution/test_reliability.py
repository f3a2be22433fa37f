"""Reliability of a run metric is its rank correlation over runs between estimated and measured effects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from trajkit.attribution.reliability import OF_EFFECTS, metric_reliability
from trajkit.attribution.verdict import reliable_metrics
from trajkit.errors import InputError
from trajkit.trajectory.geometry import path_length

RNG = np.random.default_rng(0)
MEASURED = [RNG.gamma(0.5, 1, (int(RNG.integers(3, 9)), int(RNG.choice([5, 8])))) for _ in range(40)]
ESTIMATED = [run + RNG.normal(size=run.shape) for run in MEASURED]
GROUPS = [f"g{i // 2}" for i in range(40)]


@pytest.fixture(scope="module")
def table():
    return metric_reliability(ESTIMATED, MEASURED, GROUPS, n_boot=100).set_index("metric")


def test_it_is_spearman_over_runs_whatever_their_numbers_of_regions(table):
    ours, theirs = ([path_length(run) for run in runs] for runs in (ESTIMATED, MEASURED))
    np.testing.assert_allclose(table.loc["path_length", "value"], spearmanr(ours, theirs)[0])
    assert list(table.index) == list(OF_EFFECTS)
    assert "n_steps" not in table.index


def test_intervals_hold_the_value_and_need_ten_groups(table):
    known = table.dropna()
    assert len(known) > 20
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    few = metric_reliability(ESTIMATED[:18], MEASURED[:18], GROUPS[:18], n_boot=50)
    assert few["low"].isna().all()


def test_a_metric_of_few_groups_or_whose_resamples_agree_has_no_interval():
    """Of twelve groups three have a path of more than one step; and ranks that are the same in all runs stay so."""
    few = [run[: len(run) if i < 6 else 1] for i, run in enumerate(MEASURED[:24])]
    noisy = [run + RNG.normal(size=run.shape) for run in few]
    table = metric_reliability(noisy, few, GROUPS[:24], n_boot=100).set_index("metric")
    assert table.loc["tortuosity", "runs"] == 6
    assert np.isnan(table.loc["tortuosity", ["low", "high"]].to_numpy(float)).all()
    assert np.isfinite(table.loc["hhi_level", ["low", "high"]].to_numpy(float)).all()
    same = metric_reliability(MEASURED, MEASURED, GROUPS, n_boot=50).set_index("metric")
    assert same.loc["path_length", "value"] == pytest.approx(1)
    assert np.isnan(same.loc["path_length", ["low", "high"]].to_numpy(float)).all()
    assert "tortuosity" not in reliable_metrics(table.reset_index(), ["tortuosity", "hhi_level"])


def test_a_run_whose_metric_is_not_defined_by_both_is_left_out():
    nothing = [-np.ones(MEASURED[0].shape), *MEASURED[1:]]  # no region supports a step: no concentration
    table = metric_reliability(nothing, MEASURED, GROUPS, n_boot=10).set_index("metric")
    assert table.loc["hhi_level", "runs"] == 39
    assert table.loc["hhi_level", "value"] == pytest.approx(1)


def test_a_metric_that_does_not_vary_has_none():
    still = [np.tile(run[:1], (len(run), 1)) for run in MEASURED]
    table = metric_reliability(still, MEASURED, GROUPS, n_boot=10).set_index("metric")
    assert np.isnan(table.loc["switch_rate", "value"])


def test_runs_that_do_not_fit_each_other_are_refused():
    with pytest.raises(InputError, match=r"effects of run 1 must be \(T, K\) alike"):
        metric_reliability([MEASURED[0], MEASURED[0][:1]], MEASURED[:2], GROUPS[:2])
    with pytest.raises(InputError, match="as many estimated as measured"):
        metric_reliability(ESTIMATED, MEASURED[:2], GROUPS)
