"""What the study of early failure says where runs are told apart wholly, bins are few, and curves lie low."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.detection.world import make_frame, make_runs, make_trace
from trajkit.plots import auc_by_step
from trajkit.plots.detection import auc_range
from trajkit.studies.early_failure import _told, _wide, early_failure
from trajkit.studies.early_measures import TORTUOSITY, sets_to_fit
from trajkit.studies.early_words import missed
from trajkit.studies.runs import read_runs
from trajkit.tables import words


@pytest.fixture(scope="module")
def told_apart():
    """Failing runs move a hundred times as far; nothing else tells them."""
    world = [
        replace(run, effects=run.effects * (100 if run.outcome != "success" else 1))
        for run in make_runs(40, seed=1, signal=0)
    ]
    return early_failure(read_runs([make_trace(run) for run in world]), 400, lambda note: None)


def test_runs_that_are_told_apart_wholly_are_said_to_be(told_apart):
    by_step = next(iter(told_apart.tables.values())).frame.set_index(["method", "step"])
    area = by_step.loc[("trajectory", 2), "auc"]
    assert (area.value, area.high) == (1, 1)
    assert 0 < area.low < 1
    assert "Trajectory and concentration add to uncertainty, length and task at step" in told_apart.reading[0]


def test_only_bins_that_have_an_interval_can_miss():
    bins = pd.DataFrame({"off_low": [0.1, -0.1, np.nan, np.nan], "off_high": [0.2, 0.1, np.nan, np.nan]})
    assert missed(bins) == "1 of 2 bins that have an interval misses what happened"
    assert missed(bins[:2]) == "1 of 2 bins misses what happened"
    assert missed(bins[1:2]) == "0 of 1 bin miss what happened"
    assert missed(bins[2:]) == "no bin has an interval"


def test_axes_hold_every_curve_and_band():
    row = {"method": "m", "step": 1, "n_runs": 30, "n_failures": 9, "auc": 0.1, "low": np.nan, "high": np.nan}
    table = pd.DataFrame(
        [row, row | {"step": 2, "auc": 0.6, "low": 0.3, "high": 0.9}, row | {"step": 3, "auc": np.nan}]
    )
    low, high = auc_range(table)
    assert 0 <= low < 0.1
    assert high > 1
    assert auc_range(table[2:]) == auc_range(table[:0]) == pytest.approx((0.37, 1.02))
    drawn = auc_range(table[1:])  # an AUC without an interval is not
    assert auc_by_step(table, main="m").layout.yaxis.range == pytest.approx(drawn) != pytest.approx((low, high))


def some_steps(failures):
    """AUCs and scores of one method at a step that 30 runs have reached, of which so many failed."""
    row = {"method": "m", "step": 1, "n_runs": 30, "n_failures": failures, "n_scored": 30, "auc": np.nan, "low": np.nan}
    scores = {f"{name}{end}": 1.0 for name in ("average_precision", "brier") for end in ("", "_low", "_high")}
    return pd.DataFrame([row | {"high": np.nan} | scores])


@pytest.mark.parametrize(("failures", "counts"), [(30, "30 (all)"), (0, "30 (none)"), (9, "30 (9)")])
def test_a_step_that_all_runs_end_alike_after_has_a_dash_and_a_word_and_no_perfect_score(failures, counts):
    for name in ("average_precision", "brier"):
        shown = _wide(_told(some_steps(failures)), "step", name, words.estimate)
        assert [row[1] for row in shown.shown.rows] == ["1.00 (1.00–1.00)" if failures == 9 else "–", counts]
        assert ("nothing to tell apart" in shown.note) == (failures != 9)


def test_a_method_that_has_no_score_of_some_runs_says_of_how_many_it_has():
    table = some_steps(9).assign(method=TORTUOSITY, n_scored=12, auc=0.5)
    assert _wide(table, "step").note == "Tortuosity alone has a value of 12 runs at step 1 only."
    assert _wide(some_steps(9), "step").note == ""


def test_the_task_alone_is_no_method_where_there_is_one_task():
    frame = make_frame(make_runs(2))
    assert {"task", "length+task"} <= set(sets_to_fit(frame))
    assert not {"task", "length+task"} & set(sets_to_fit(frame.assign(task_set="math")))
