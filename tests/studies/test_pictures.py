"""Pictures of studies: axes hold what they plot, and no path is fitted for a picture again."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.world import make_runs, make_trace
from trajkit.errors import InputError
from trajkit.studies import fixation, trajectories
from trajkit.studies.runs import read_runs
from trajkit.trajectory import Space, project


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn."""
    figures = []
    for module in (trajectories, fixation):
        monkeypatch.setattr(module, "svg", lambda figure: figures.append(figure) or "<svg/>")
    return figures


def within(values, limits):
    low, high = sorted(limits)
    return bool(np.all((np.asarray(values) >= low) & (np.asarray(values) <= high)))


def test_axes_hold_every_path_of_the_longest_run_too(drawn):
    runs = read_runs([make_trace(run) for run in make_runs(12)])
    trajectories._picture(runs, [project(path) for path in runs.paths])
    [figure] = drawn
    lines = [(ax, line) for ax in figure.axes for line in ax.lines]
    assert len(lines) > 100
    for ax, line in lines:
        for values, limits in zip(line.get_data_3d(), (ax.get_xlim(), ax.get_ylim(), ax.get_zlim()), strict=True):
            assert within(values, limits)


def test_the_plane_holds_every_run_and_needs_one(drawn):
    rng = np.random.default_rng(0)
    labels = np.array(["success", "hallucination"] * 20)
    level, spread = rng.random(40), rng.random(40) / 2
    border = np.tile([0.5, 0.2], (40, 1))
    fixation.plane(labels, level, spread, border)
    [figure] = drawn
    assert sum(len(ax.lines[0].get_xdata()) for ax in figure.axes) == 40
    for ax in figure.axes:
        for line in ax.lines:
            assert within(line.get_xdata(), ax.get_xlim())
            assert within(line.get_ydata(), ax.get_ylim())
    with pytest.raises(InputError, match="no run has a level and a spread"):
        fixation.plane(labels, level, np.full(40, np.nan), border)


def test_the_paper_s_space_is_fitted_once_a_run(monkeypatch):
    runs = read_runs([make_trace(run) for run in make_runs(12)])
    fitted, whole = [], Space.fit.__func__

    def fit(cls, effects, *, top=None, dims=3):
        fitted.append(top)
        return whole(cls, effects, top=top, dims=dims)

    monkeypatch.setattr(Space, "fit", classmethod(fit))
    trajectories.trajectories(runs, 10, lambda note: None)
    assert fitted.count(32) == len(runs)
