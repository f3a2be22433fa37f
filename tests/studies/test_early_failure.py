"""What the study of early failure says where runs are told apart wholly, bins are few, and curves lie low."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.detection.world import make_runs, make_trace
from trajkit.plots import auc_by_step
from trajkit.plots.detection import auc_range
from trajkit.studies.early_failure import _missed, early_failure
from trajkit.studies.runs import read_runs


@pytest.fixture(scope="module")
def told_apart():
    """Failing runs move a hundred times as far; nothing else tells them."""
    world = [replace(run, effects=run.effects * (100 if run.outcome != "success" else 1))
             for run in make_runs(40, seed=1, signal=0)]  # fmt: skip
    return early_failure(read_runs([make_trace(run) for run in world]), 400, lambda note: None)


def test_runs_that_are_told_apart_wholly_are_said_to_be(told_apart):
    by_step = next(iter(told_apart.tables.values())).set_index("method")
    assert by_step.loc["trajectory", "step 2"].startswith("1.00 (0.")
    assert by_step.loc["trajectory", "step 2"].endswith("–1.00)")
    assert "Trajectory and concentration add to uncertainty, length and task at step" in told_apart.reading[0]


def test_only_bins_that_have_an_interval_can_miss():
    bins = pd.DataFrame({"off_low": [0.1, -0.1, np.nan, np.nan], "off_high": [0.2, 0.1, np.nan, np.nan]})
    assert _missed(bins) == "1 of 2 bins that have an interval misses what happened"
    assert _missed(bins[:2]) == "1 of 2 bins misses what happened"
    assert _missed(bins[1:2]) == "0 of 1 bin miss what happened"
    assert _missed(bins[2:]) == "no bin has an interval"


def test_axes_hold_every_curve_and_band():
    row = {"method": "m", "step": 1, "n_runs": 30, "n_failures": 9, "auc": 0.1, "low": np.nan, "high": np.nan}
    table = pd.DataFrame(
        [row, row | {"step": 2, "auc": 0.6, "low": 0.3, "high": 0.9}, row | {"step": 3, "auc": np.nan}]
    )
    low, high = auc_range(table)
    assert 0 <= low < 0.1
    assert high > 1
    assert auc_range(table[2:]) == auc_range(table[:0]) == pytest.approx((0.37, 1.02))
    assert auc_by_step(table, main="m").layout.yaxis.range == pytest.approx((low, high))
