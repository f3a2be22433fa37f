"""Outcomes by classifiers that have not seen a run's group, and thresholds that were not chosen on it either."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.world import make_runs, make_trace
from trajkit.detection.outcome import OutcomeClassifier
from trajkit.judging.held_out_outcomes import ALL, TARGET_ERROR, held_out_outcomes
from trajkit.runs.table import last_steps
from trajkit.stats.resampling import group_draws, interval, weighted_mean
from trajkit.studies.make import make
from trajkit.studies.runs import read_runs


@pytest.fixture(scope="module")
def runs():
    return read_runs([make_trace(run) for run in make_runs(60)])


@pytest.fixture(scope="module")
def held(runs):
    ends = last_steps(runs.frame[runs.frame["outcome"] != "unknown"]).reset_index(drop=True)
    return held_out_outcomes(ends, lambda note: None)


def test_how_sure_a_run_s_classifier_is_of_it_is_measured_on_other_groups_alone(held):
    fit, test = held.fold != 0, held.fold == 0
    own = OutcomeClassifier(ALL, target_error=TARGET_ERROR).fit(held.ends[fit], held.labels[fit])
    surest = own.predict_proba(held.ends[test]).max(1)
    less = (own.held_out_ < surest[:, None]).mean(1)
    np.testing.assert_allclose(held.sureness[test], less)
    assert not set(held.ends["group_id"][fit]) & set(held.ends["group_id"][test])
    assert (held.sureness >= 0.5).mean() == pytest.approx(0.5, abs=0.2)


def test_the_error_among_the_answered_has_an_interval_that_allows_for_other_models(runs, held):
    table = (
        make("outcomes")(runs, 200, lambda note: None)
        .tables["Error among the answered, by a threshold that was chosen on other runs"]
        .frame.set_index("threshold_to")
    )
    assert list(table.index) == ["answer 25 %", "answer 50 %", "answer 75 %", "answer 100 %", "err in 20 %"]
    value, low, high = table.loc["answer 100 %", "error"]
    wrong = (held.answered != held.labels).astype(float)
    alone = interval(weighted_mean(wrong, group_draws(held.ends["group_id"], 200, 0)))
    assert value == pytest.approx(alone[0])
    assert high - low == pytest.approx(1.5 * (alone[2] - alone[1]), rel=0.15)  # √(1 + 5/4), Nadeau and Bengio
