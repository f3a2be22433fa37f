"""One alarm rule: told step by step, over stored runs, on the page of a run and in its picture."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.detection.alarm import alarm_rows
from trajkit.detection.monitor import Monitor, MonitorRun
from trajkit.detection.store import Detectors, load_detectors
from trajkit.errors import InputError
from trajkit.judging.alarms import monitor_runs
from trajkit.live.documents import document
from trajkit.live.verdicts import verdicts_of
from trajkit.plots import metrics_by_step

from .world import live_steps, make_frame, make_runs, make_trace

RUN = make_runs(1, 1)[0]
RISK = st.sampled_from([0.0, 0.1, 0.3, float(np.nextafter(0.3, 1)), 0.5, 1.0])  # many equal to a threshold
RUNS = st.lists(st.lists(RISK, min_size=1, max_size=8), min_size=1, max_size=6)
THRESHOLD = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, math.inf])


class Told:
    """A predictor of risks that are given: one after another, or those of a column."""

    required = ()

    def lacks(self, frame: pd.DataFrame) -> np.ndarray:
        return np.zeros(len(frame), bool)

    def __init__(self, risks: list[float]) -> None:
        self._left = iter(risks)

    def risk(self, row: object, task_set: str, form: str) -> float:
        return next(self._left)

    def risks(self, frame: pd.DataFrame) -> np.ndarray:
        return frame["told"].to_numpy(float)


def _monitor(risks: list[float], threshold: float) -> Monitor:
    return Monitor(Told(risks), threshold, 0.1, 20, 0.0, 1.0)  # type: ignore[arg-type]


def _online(risks: list[float], threshold: float) -> list[int]:
    """The steps, from 1, on which a running monitor raises an alarm."""
    watch, step = MonitorRun(_monitor(risks, threshold)), live_steps(RUN)[0]
    return [number for number in range(1, len(risks) + 1) if watch.update(step).alarm]


def _frame(runs: list[list[float]]) -> pd.DataFrame:
    one = make_frame([RUN]).iloc[0]
    rows = [
        {"transcript_id": f"run-{i}", "step": t, "told": risk}
        for i, run in enumerate(runs)
        for t, risk in enumerate(run, 1)
    ]
    return pd.DataFrame([{**one, **row, "n_tokens": 10 * row["step"]} for row in rows])


@settings(max_examples=150, deadline=None)
@given(RUNS, THRESHOLD)
def test_a_running_monitor_and_stored_runs_are_alarmed_at_the_same_steps(
    runs: list[list[float]], threshold: float
) -> None:
    live = [_online(run, threshold) for run in runs]
    starts = np.cumsum([0, *map(len, runs)])[:-1]
    rows = alarm_rows(np.concatenate(runs), threshold, starts)
    assert [[row - start + 1] if row >= 0 else [] for row, start in zip(rows, starts, strict=True)] == live
    assert [[row + 1] if row >= 0 else [] for run in runs for row in alarm_rows(run, threshold)] == live


@settings(max_examples=15, deadline=None)
@given(RUNS, THRESHOLD, st.randoms(use_true_random=False))
def test_a_replay_tells_the_steps_of_a_running_monitor_whatever_the_order_of_rows(
    runs: list[list[float]], threshold: float, random: object
) -> None:
    order = list(range(sum(map(len, runs))))
    random.shuffle(order)  # type: ignore[attr-defined]
    replayed = monitor_runs(_monitor([], threshold), _frame(runs).iloc[order])
    assert replayed["alarm_step"].tolist() == [next(iter(_online(run, threshold)), 0) for run in runs]
    assert replayed["alarmed"].tolist() == [bool(_online(run, threshold)) for run in runs]
    assert replayed["max_risk"].tolist() == [max(run) for run in runs]


@pytest.mark.parametrize("risks", [[0.2, 0.3, 0.6, 0.1, 0.9], [0.1, 0.3, 0.3, 0.2, 0.3], [0.9, 0.1, 0.1, 0.1, 0.1]])
def test_the_page_and_the_picture_of_a_run_mark_the_step_of_a_running_monitor(risks: list[float]) -> None:
    live = _online(risks, 0.3)
    trace = make_trace(replace(next(run for run in make_runs(20) if len(run.tokens) > 5), group_id="g"))
    kept = [i for i, step in enumerate(trace.steps) if step.kind == "thinking"][: len(risks)]
    thinking = replace(trace, steps=tuple(trace.steps[i] for i in kept), effects=trace.effects[kept])
    frame = make_frame([RUN]).iloc[[0] * len(risks)].assign(step=np.arange(1, len(risks) + 1), risk=risks)
    detectors = Detectors(Told([]), None, _monitor([], 0.3))  # type: ignore[arg-type]
    shown = document(thinking, {"label": None}, verdicts_of(thinking, frame, detectors, None))  # type: ignore[typeddict-item]
    assert [number for number, step in enumerate(shown["steps"], 1) if step["alarm"]] == live
    marks = [mark for mark in metrics_by_step(frame, 0.3).data if mark.name == "alarm"]
    assert [list(mark.x) for mark in marks] == [[step] for step in live]


def test_no_step_is_above_an_infinite_threshold_and_no_steps_raise_no_alarm() -> None:
    assert alarm_rows([1.0, 1.0], math.inf).tolist() == [-1]
    assert alarm_rows([], 0.5).tolist() == [-1]
    assert alarm_rows([math.nan, 0.6], 0.5).tolist() == [1]


def test_detectors_in_place_of_their_monitor_are_told() -> None:
    detectors = load_detectors("data/demo/detectors")
    with pytest.raises(InputError, match=r"takes a Monitor, then a frame; got Detectors\..*detectors\.monitor"):
        monitor_runs(detectors, make_frame(make_runs(1, 1)))  # type: ignore[arg-type]
