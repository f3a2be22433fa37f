"""Runs with effects and without: what is read of them, and what a predictor says of those that lack what it reads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.traces.bare import without_effects, without_uncertainty
from trajkit.detection import EarlyFailurePredictor, Monitor
from trajkit.detection.kinds import judgeable, known_risks, reduced, told_alike
from trajkit.detection.lines import LineMonitor
from trajkit.detection.splits import failures
from trajkit.detection.store import load_monitor
from trajkit.errors import InputError
from trajkit.events import Failure
from trajkit.runs.features import features
from trajkit.trajectory.features import FEATURE_NAMES

from .world import live_steps, make_frame, make_runs, make_trace

RUNS = make_runs(40, seed=3)
TEXT = "uncertainty+length"
FULL = "trajectory+concentration+uncertainty+length"


def some_bare(every: int, traces=None) -> pd.DataFrame:
    """The feature frame of all runs, every so-manieth without effects."""
    traces = traces or [make_trace(run) for run in RUNS]
    return features([without_effects(trace) if at % every == 0 else trace for at, trace in enumerate(traces)])


BARE = some_bare(1)


def fitted(sets: str, frame: pd.DataFrame) -> EarlyFailurePredictor:
    return EarlyFailurePredictor(sets).fit(frame, failures(frame))


@pytest.fixture(scope="module")
def full() -> Monitor:
    frame = make_frame(RUNS)
    return Monitor.calibrate(fitted(FULL, frame), make_frame(make_runs(40, seed=4)), model="demo")


@pytest.fixture(scope="module")
def of_text() -> Monitor:
    """Fitted and calibrated on runs without effects."""
    bare = features([without_effects(make_trace(run)) for run in make_runs(40, seed=4)])
    return Monitor.calibrate(fitted(TEXT, BARE), bare, model="demo")


def test_of_runs_that_all_have_effects_all_is_read_and_nothing_said():
    frame = make_frame(RUNS)
    told = told_alike(frame)
    assert told.frame is frame
    assert (told.sets, told.note) == (("trajectory", "concentration", "uncertainty", "length", "task"), "")


def test_where_half_have_effects_the_others_are_left_out_and_where_fewer_have_no_effects_are_read():
    most, few, none = (told_alike(some_bare(every)) for every in (2, 1, 1))
    assert "60 runs of 120 have no effects and are left out." in most.note
    assert most.frame["path_length"].notna().all()
    assert most.frame["transcript_id"].nunique() == 60
    assert "trajectory" in most.sets
    few = told_alike(pd.concat([some_bare(2), BARE.assign(transcript_id=BARE["transcript_id"] + "b")]))
    assert "180 of 240 runs have no effects, so none are read: `trajkit attribute` gets them" in few.note
    for told in (few, none):
        assert told.sets == ("uncertainty", "length", "task")
    assert few.frame["transcript_id"].nunique() == 240
    assert none.note.startswith("No run has effects")


def test_uncertainty_that_no_run_has_is_not_read():
    told = told_alike(features([without_uncertainty(without_effects(make_trace(run))) for run in RUNS]))
    assert told.sets == ("length", "task")
    assert "No run has log-probabilities" in told.note


def test_sets_are_reduced_to_those_that_are_there_and_others_stay_to_be_refused():
    assert reduced("trajectory+uncertainty+length", ("uncertainty", "length")) == "uncertainty+length"
    assert reduced("trajectory + concentration", ("length",)) == ""
    assert reduced("hidden+trajectory+length", ("length",)) == "hidden+length"


def test_a_predictor_of_text_judges_runs_with_and_without_effects_alike(of_text):
    predictor = of_text.predictor
    np.testing.assert_array_equal(predictor.risks(BARE), predictor.risks(make_frame(RUNS)))
    np.testing.assert_array_equal(known_risks(predictor, BARE), predictor.risks(BARE))
    np.testing.assert_array_equal(of_text.scores(BARE), of_text.scores(make_frame(RUNS)))


def test_a_predictor_of_effects_says_nothing_of_runs_without_and_says_why(full):
    frame = some_bare(3)
    judged, why = judgeable(full.predictor, frame)
    assert judged["transcript_id"].nunique() == 80
    assert why.startswith("40 of 120 runs are left out: these detectors read trajectory, concentration and uncertainty")
    assert "without effects they cannot: `trajkit attribute` gets them" in why
    risks = known_risks(full.predictor, frame)
    assert np.isnan(risks).sum() == frame["path_length"].isna().sum() > 0
    np.testing.assert_array_equal(risks[~np.isnan(risks)], full.predictor.risks(judged))
    with pytest.raises(InputError, match=r"none of 120 runs can be judged: these detectors read"):
        judgeable(full.predictor, BARE)
    with pytest.raises(InputError, match="of the runs of this frame 40 of 120 runs are left out"):
        full.scores(frame)


def test_runs_that_a_calibration_cannot_judge_are_left_out_of_it_with_a_warning(full):
    traces = [make_trace(run) for run in RUNS]
    mixed = [without_effects(trace) if at % 3 == 0 else trace for at, trace in enumerate(traces)]
    with pytest.warns(UserWarning, match="40 of 120 runs are left out"):
        found = Monitor.calibrate(full.predictor, mixed)
    alone = Monitor.calibrate(full.predictor, [trace for at, trace in enumerate(traces) if at % 3])
    assert (found.threshold, found.n, found.calibration) == (alone.threshold, alone.n, alone.calibration)
    assert found.calibration.regions == (6, 6)


def test_runs_without_effects_have_no_number_of_regions_to_be_beyond(of_text):
    bare = [without_effects(make_trace(run)) for run in RUNS]
    monitor = Monitor.calibrate(of_text.predictor, bare)
    assert monitor.calibration.regions is None
    assert monitor.beyond(1, 0) == monitor.beyond(1, 6) == {}


def bare_steps(run):
    return [replace(step, effects=np.zeros(0)) for step in live_steps(run)]


def test_a_running_monitor_of_text_says_what_stored_runs_are_told(of_text, tmp_path):
    of_text.save(tmp_path)
    for monitor in (of_text, load_monitor(tmp_path)):
        for run in RUNS[:10]:
            risks = monitor.predictor.risks(BARE[BARE["transcript_id"] == run.transcript_id])
            for steps in (bare_steps(run), live_steps(run)):
                watch = monitor.start()
                assert [watch.update(step).risk for step in steps] == risks.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"effects": np.zeros(0)}, "this run cannot be judged: these detectors read trajectory.* without effects"),
        ({"logprob": None}, "without log-probabilities and entropies of every step they cannot: fit detectors on runs"),
        ({"entropy": None}, "without log-probabilities and entropies"),
    ],
)
def test_a_running_monitor_refuses_what_it_cannot_judge_and_keeps_nothing_of_it(full, tmp_path, change, message):
    full.save(tmp_path)
    steps = live_steps(next(run for run in RUNS if len(run.tokens) > 2))
    for monitor in (full, load_monitor(tmp_path)):
        watch, other = monitor.start(), monitor.start()
        watch.update(steps[0])
        before = watch.to_state()
        with pytest.raises(InputError, match=message):
            watch.update(replace(steps[1], **change))
        assert watch.to_state() == before
        other.update(steps[0])
        assert watch.update(steps[1]) == other.update(steps[1])


def test_what_varied_among_the_training_runs_may_be_missing():
    """Runs of several tools: some told no entropies."""
    frame = make_frame(RUNS)
    some = frame["transcript_id"].isin(frame["transcript_id"].unique()[::4])
    predictor = fitted(TEXT, frame.assign(entropy_mean=frame["entropy_mean"].mask(some)))
    assert predictor.required == ("logprob_mean",)
    assert not predictor.lacks(frame.assign(entropy_mean=np.nan)).any()
    assert predictor.lacks(frame.assign(logprob_mean=np.nan)).all()


def test_a_predictor_of_concentration_alone_needs_effects_too():
    predictor = fitted("concentration", make_frame(RUNS))
    assert predictor.required == ("path_length",)
    assert predictor.lacks(BARE).all()
    assert set(predictor.required) < set(FEATURE_NAMES)


def test_lines_may_leave_out_what_the_monitor_does_not_read(of_text, full):
    step = {"run": "a", "n_tokens": 7, "logprob": -0.5, "entropy": 0.5}
    said = [
        answer.what
        for given in (step, step | {"effects": None}, step | {"effects": []})
        for answer in LineMonitor(of_text).answer(json.dumps(given).encode())
    ]
    assert not any(isinstance(one, Failure) for one in said)
    assert len({one.risk for one in said}) == 1
    [failure] = (answer.what for answer in LineMonitor(of_text).answer(json.dumps(step | {"logprob": None}).encode()))
    assert '"logprob" must be a number' in str(failure)
    [failure] = (answer.what for answer in LineMonitor(full).answer(json.dumps(step).encode()))
    assert '"effects" must be a list of numbers' in str(failure)
