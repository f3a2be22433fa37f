"""Figures show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trajkit.plots import auc_by_step, false_alarms, metrics_by_step, outcome_distributions, trajectory_3d
from trajkit.plots.style import plain


def named(figure, name: str):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_trajectory_runs_through_the_projection_from_start_to_end():
    from trajkit.trajectory import project

    effects = np.random.default_rng(0).normal(size=(6, 9))
    figure = trajectory_3d(effects, ["a"] * 6)
    points = np.stack([figure.data[0][axis] for axis in "xyz"], axis=1)
    np.testing.assert_allclose(points, project(effects), atol=1e-5)
    for name, at in (("start", 0), ("end", -1)):
        np.testing.assert_allclose([named(figure, name)[axis][0] for axis in "xyz"], points[at])
    sides = [getattr(figure.layout.scene, f"{axis}axis").range for axis in "xyz"]
    assert figure.layout.scene.aspectmode == "cube"
    np.testing.assert_allclose([high - low for low, high in sides], sides[0][1] - sides[0][0], rtol=1e-3)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (2, 1), (3, 0)])
def test_short_runs_and_few_regions_have_a_trajectory_too(shape):
    assert len(trajectory_3d(np.ones(shape)).data[0].x) == shape[0]


@pytest.mark.parametrize(
    "effects",
    [
        np.outer(np.arange(12), [1.0, 2, 3, 4]),
        np.eye(2, 6),
        np.ones((5, 4)),
        np.ones((1, 4)),
        1e6 * np.eye(9),
        1e-9 * np.eye(4),
    ],
    ids=["line", "two points", "one place", "one point", "wide", "tiny"],
)
def test_the_whole_path_lies_within_the_frame_with_room_around_it(effects):
    figure = trajectory_3d(effects)
    for axis in "xyz":
        low, high = getattr(figure.layout.scene, f"{axis}axis").range
        points, room = np.asarray(named(figure, "steps")[axis]), 0.06 * (high - low)
        assert low + room <= points.min()
        assert points.max() <= high - room


def test_hover_texts_hold_no_markup_of_a_model():
    assert plain("<b>1 & 2</b>") == "&lt;b&gt;1 &amp; 2&lt;/b&gt;"
    assert plain("word " * 400).count("<br>") == 3


def run_frame(risk: list[float] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "step": [1, 2, 3],
            "path_length": [0.0, 1.0, 2.5],
            "tortuosity": [np.nan, 1.0, np.inf],
            "concentration": [0.2, 0.4, np.nan],
        }
    )
    return frame if risk is None else frame.assign(risk=risk)


def test_metrics_leave_gaps_where_they_are_not_defined_and_mark_the_first_alarm():
    figure = metrics_by_step(run_frame([0.1, 0.8, 0.9]), threshold=0.5)
    np.testing.assert_array_equal(named(figure, "tortuosity (path / net)").y, [np.nan, 1.0, np.nan])
    assert set(named(figure, "alarm threshold").y) == {0.5}
    assert list(named(figure, "alarm").x) == [2]


def test_without_risk_or_with_an_infinite_threshold_there_is_no_threshold_line():
    for figure in (metrics_by_step(run_frame()), metrics_by_step(run_frame([0.1, 0.2, 0.3]), threshold=np.inf)):
        assert "alarm threshold" not in {trace.name for trace in figure.data}


def test_distributions_leave_out_what_is_not_finite_and_say_how_many_there_are():
    last = pd.DataFrame(
        {"outcome": ["success"] * 8 + ["hallucination"] * 2, "tortuosity": [*range(1, 8), np.inf, 2, 3]}
    )
    figure = outcome_distributions(last, "tortuosity")
    assert list(figure.layout.xaxis.ticktext) == ["success<br>n = 7", "hallucination<br>n = 2"]
    violin = next(trace for trace in figure.data if trace.type == "violin")
    np.testing.assert_allclose(violin.y, np.log10(np.arange(1, 8)), rtol=1e-6)
    assert sum(trace.type == "violin" for trace in figure.data) == 1  # two runs have no density


def test_auc_has_a_band_per_method_and_dims_what_is_not_compared():
    rows = [
        {"method": m, "step": s, "n_runs": 50 - s, "n_failures": 20, "auc": 0.6, "low": 0.5, "high": 0.7}
        for m in ("ours", "length", "other")
        for s in (1, 2)
    ]
    figure = auc_by_step(pd.DataFrame(rows), main="ours")
    assert figure.data[0].name == "ours"
    assert list(figure.data[0].y) == [0.7, 0.7, 0.5, 0.5]
    lines = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines+markers"]
    assert {trace.name: trace.visible for trace in lines} == {"ours": True, "length": True, "other": "legendonly"}
    assert list(named(figure, "runs").y) == [49, 48]


def test_an_auc_without_an_interval_is_counted_and_not_drawn():
    table = pd.DataFrame({"method": "ours", "step": [1, 2, 3], "n_runs": [50, 20, 4], "n_failures": [20, 8, 2]})
    table[["auc", "low", "high"]] = [(0.6, 0.5, 0.7), (0.7, 0.5, 0.9), (1.0, np.nan, np.nan)]
    figure = auc_by_step(table, main="ours")
    assert list(named(figure, "runs").y) == [50, 20, 4]
    (line,) = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines+markers"]
    assert list(line.y) == [0.6, 0.7]
    assert not figure.layout.annotations
    (said,) = auc_by_step(table[table["step"] == 3], main="ours").layout.annotations
    assert said.text == "too few groups of runs for an interval"


def test_false_alarms_stand_beside_the_promise_with_their_intervals():
    table = pd.DataFrame(
        {"unit": ["per run"], "n": [80], "rate": [0.125], "low": [0.06], "high": [0.2], "alpha": [0.1]}
    )
    lengths = pd.DataFrame({"from_step": [3], "to_step": [5], "n": [40], "rate": [0.05], "low": [0.0], "high": [0.1]})
    figure = false_alarms(table, lengths)
    dots = figure.data[0]
    assert list(dots.y) == ["per run (n = 80)", "3–5 steps (n = 40)"]
    np.testing.assert_allclose(dots.x + np.asarray(dots.error_x.array), [0.2, 0.1])
    np.testing.assert_allclose(dots.x - np.asarray(dots.error_x.arrayminus), [0.06, 0.0])
    assert figure.layout.shapes[0].x0 == 0.1
