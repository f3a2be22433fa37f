"""Runs plot themselves: with effects or without, watched or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import trajkit as tk
from tests.notebook.conftest import bare, traces, watched
from trajkit.errors import InputError


def names(figure) -> list[str]:
    return [axis.title.text for axis in figure.select_yaxes()]


def test_a_run_shows_what_was_known_after_each_step():
    run = traces()[1]
    figure = run.plot()
    assert names(figure) == ["path length", "tortuosity", "concentration"]
    np.testing.assert_allclose(figure.data[0].y, tk.features([run])["path_length"], atol=1e-5)


def test_a_watched_run_shows_its_risk_with_the_threshold_and_the_alarm():
    run = watched(traces()[2], alarm=None, threshold=0.61)
    figure = run.plot()
    assert names(figure)[-1] == "risk"
    limit = next(line for line in figure.data if line.name == "alarm threshold")
    assert set(limit.y) == {0.61}
    first = next(at for at, step in enumerate(run.steps, 1) if step.risk > 0.61)
    assert list(next(line for line in figure.data if line.name == "alarm").x) == [first]


def test_a_run_without_effects_shows_its_uncertainty_and_has_no_trajectory():
    run = traces()[1]
    without = replace(run, effects=np.zeros((run.n_steps, 0), np.float32), effects_kind=None)
    figure = without.plot()
    assert names(figure) == ["log-probability", "entropy"]
    kept = [step.logprob for step in run.steps if step.kind == "thinking"]
    np.testing.assert_allclose(figure.data[0].y, kept, atol=1e-5)
    with pytest.raises(InputError, match="has no effects, so there is no trajectory"):
        without.plot("trajectory")


def test_a_run_of_which_nothing_but_text_is_known_says_so():
    with pytest.raises(InputError, match="nothing but its text is known"):
        bare(traces()[1]).plot()


def test_the_trajectory_is_of_the_thoughts_with_what_they_say():
    run = traces()[1]
    figure = run.plot("trajectory")
    assert len(figure.data[0].x) == run.thinking.sum()
    assert run.steps[0].text[:20] in figure.data[0].hovertext[0]


def test_another_kind_is_refused():
    with pytest.raises(InputError, match=r"must be 'steps' or 'trajectory'. Got 'path'"):
        traces()[1].plot("path")


def test_runs_are_plotted_by_outcome_by_path_length_or_what_is_asked():
    some = traces()[:60]
    assert names(some.plot()) == ["path length (nats)"]
    assert names(some.plot("n_steps")) == ["thinking steps"]
    with pytest.raises(InputError, match=r"no run has a value of 'path_lenght'; known are .*path_length"):
        some.plot("path_lenght")


def test_plots_are_there_under_their_name():
    assert tk.plots.plot_run is not None
    assert "plots" in tk.__all__


def test_runs_without_effects_say_what_makes_them():
    run = bare(traces()[1])
    with pytest.raises(InputError, match=r"'path_length'.*trajkit attribute"):
        tk.Traces.of([run]).plot("path_length")
