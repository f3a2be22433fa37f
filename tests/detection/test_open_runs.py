"""Runs under watch: saved and resumed, many at once, of constant memory; and what is beyond their calibration."""

from __future__ import annotations

import json
import math
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest

from trajkit.detection import EarlyFailurePredictor, Monitor, MonitorRun, Verdict
from trajkit.errors import InputError

from .world import LiveStep, Run, live_steps, make_frame, make_runs, make_trace

RNG = np.random.default_rng(0)
STEPS = [LiveStep(RNG.normal(0.3, 1, 64).astype(np.float32), -0.3, 0.5, 9) for _ in range(40)]


@pytest.fixture(scope="module")
def calibration() -> list[Run]:
    return make_runs(80, seed=11)


@pytest.fixture(scope="module")
def monitor(predictor: EarlyFailurePredictor, calibration: list[Run]) -> Monitor:
    return Monitor.calibrate(predictor, make_frame(calibration), alpha=0.1, model="demo")


def _quiet(monitor: Monitor) -> Monitor:
    """Without what its calibration was like, so that it warns of nothing."""
    return replace(monitor, calibration=None)


def _saved(run: MonitorRun) -> dict:
    return json.loads(json.dumps(run.to_state(), allow_nan=False))


@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_run_goes_on_from_its_state_with_equal_bits(monitor: Monitor, at: int) -> None:
    monitor = _quiet(monitor)
    whole, begun = monitor.start("math", "sum"), monitor.start("math", "sum")
    expected = [whole.update(step) for step in STEPS]
    assert [begun.update(step) for step in STEPS[:at]] == expected[:at]
    again = monitor.resume(_saved(begun))
    assert again.verdict == begun.verdict
    assert [again.update(step) for step in STEPS[at:]] == expected[at:]
    assert again.to_state() == whole.to_state()


def test_an_alarm_before_the_state_was_saved_is_not_raised_again(monitor: Monitor) -> None:
    low = replace(_quiet(monitor), threshold=0.0)
    run = low.start()
    assert run.update(STEPS[0]).alarm
    assert not low.resume(_saved(run)).update(STEPS[1]).alarm


def test_a_run_of_scores_and_one_of_an_infinite_threshold_go_on_too(monitor: Monitor) -> None:
    for one in (Monitor(None, 1.5, 0.1, 20, 0.0, 2.0), Monitor(None, math.inf, 0.1, 2, 0.0, 2.0)):
        run = one.start()
        assert one.resume(_saved(run)).update_score(1.0) == run.update_score(1.0)
        assert one.resume(_saved(run)).update_score(2.0) == run.update_score(2.0)


def test_a_state_that_is_damaged_or_of_another_monitor_is_an_input_error(monitor: Monitor) -> None:
    run = _quiet(monitor).start()
    run.update(STEPS[0])
    state = _saved(run)
    with pytest.raises(InputError, match="resume it with the monitor that it was begun with"):
        replace(monitor, threshold=0.123).resume(state)
    for other in ({}, json.dumps(state)):
        with pytest.raises(InputError, match=r"must be what `MonitorRun.to_state` gave"):
            monitor.resume(other)  # type: ignore[arg-type]
    damaged = [
        {key: value for key, value in state.items() if key != "prefix"},
        state | {"task": ["math"]},
        state | {"prefix": state["prefix"] | {"last": [0.0]}},
        state | {"prefix": state["prefix"] | {"sums": [0.0]}},
        state | {"prefix": state["prefix"] | {"first": "x"}},
        state | {"step": "one"},
        state | {"risk": "high"},
    ]
    for wrong in damaged:
        with pytest.raises(InputError):
            monitor.resume(wrong)


def test_ten_thousand_runs_at_once_do_not_meet(monitor: Monitor) -> None:
    monitor = _quiet(monitor)
    many = [monitor.start() for _ in range(10_000)]
    for number, run in enumerate(many):
        run.update(STEPS[number % 40])
    alone = [monitor.start() for _ in range(40)]
    for number, run in enumerate(alone):
        run.update(STEPS[number])
    for number in range(0, 10_000, 617):
        step = STEPS[(number + 1) % 40]
        assert many[number].update(step) == _copy(alone[number % 40], monitor).update(step)


def _copy(run: MonitorRun, monitor: Monitor) -> MonitorRun:
    return monitor.resume(run.to_state())


def test_a_run_holds_two_vectors_of_effects_however_long_it_goes_on(monitor: Monitor) -> None:
    monitor = _quiet(monitor)

    def bytes_of_a_run(n_steps: int, k: int) -> float:
        steps = [replace(step, effects=np.resize(step.effects, k)) for step in STEPS]
        tracemalloc.start()
        open_runs = [monitor.start() for _ in range(50)]
        for number in range(n_steps):
            for run in open_runs:
                run.update(steps[number % 40])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held / len(open_runs)

    bytes_of_a_run(40, 64)  # what all runs share is made once
    short, long = bytes_of_a_run(2, 64), bytes_of_a_run(40, 64)
    assert long < 1.1 * short
    wide = bytes_of_a_run(2, 1024)
    assert wide - short == pytest.approx(2 * 8 * (1024 - 64), rel=0.1)


# Beyond the calibration


def test_a_run_longer_than_any_of_the_calibration_and_one_of_other_regions_warn_once_each(
    predictor: EarlyFailurePredictor, calibration: list[Run]
) -> None:
    monitor = Monitor.calibrate(predictor, [make_trace(run) for run in calibration])
    assert monitor.calibration is not None
    longest = max(len(run.tokens) for run in calibration)
    assert (monitor.calibration.steps, monitor.calibration.regions) == (longest, (6, 6))
    six = [replace(step, effects=step.effects[:6]) for step in STEPS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = monitor.start()
        for step in six[:longest]:
            run.update(step)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for steps in (six[: longest + 5], STEPS[:2], six[: longest + 5], STEPS[:2]):
            run = monitor.start()
            for step in steps:
                run.update(step)
    assert [str(one.message) for one in said] == [
        f"the monitor is used beyond its calibration: a run is at step {longest + 1}, and the longest of the "
        f"calibration had {longest}. Its promise is untried there.",
        "the monitor is used beyond its calibration: a run has 64 image regions, and those of the calibration had 6. "
        "Its promise is untried there.",
    ]


def test_a_frame_does_not_say_how_many_regions_and_of_them_it_does_not_warn(monitor: Monitor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.start().update(STEPS[0])


def test_a_monitor_knows_the_maxima_of_all_drawn_runs_whatever_came_of_them(
    monitor: Monitor, predictor: EarlyFailurePredictor, calibration: list[Run]
) -> None:
    assert monitor.calibration is not None
    assert len(monitor.calibration.maxima) == 80 > monitor.n
    one = [run for run in calibration if run.transcript_id.endswith("-0")]
    alone = Monitor.calibrate(predictor, make_frame(one))
    assert alone.calibration is not None
    frame = make_frame(one)
    most = frame.assign(risk=predictor.risks(frame)).groupby("transcript_id")["risk"].max()
    assert alone.calibration.maxima == tuple(sorted(most))
    assert alone.watchdog().state.n == 0
    with pytest.raises(InputError, match="fit the detectors again"):
        _quiet(monitor).watchdog()


# A monitor of success


def test_a_monitor_of_success_speaks_when_the_risk_is_low(
    predictor: EarlyFailurePredictor, calibration: list[Run]
) -> None:
    frame = make_frame(calibration)
    enough = Monitor.calibrate(predictor, frame, alpha=0.2, watches="success")
    risks = frame.assign(risk=predictor.risks(frame)).groupby("transcript_id")["risk"].min()
    said = 0
    for run in calibration:
        watch = enough.start()
        verdicts = [watch.update(step) for step in live_steps(run)]
        assert verdicts[-1].max_risk == 1 - risks[run.transcript_id]
        said += verdicts[-1].alarmed
        assert verdicts[-1].alarmed == (1 - risks[run.transcript_id] > enough.threshold)
    assert said > 0
    assert "the probability of success first exceeds" in enough.message
    assert "of failing runs" in enough.message
    few = Monitor.calibrate(predictor, frame.groupby("group_id").filter(lambda rows: rows.name < "scene-009"), 0.1)
    assert "whose run drawn for calibration succeeded" in few.message
    none = Monitor.calibrate(predictor, frame[frame["outcome"] == "success"], watches="success")
    assert "whose run drawn for calibration failed, and there were 0" in none.message


def test_a_monitor_says_what_it_watches_when_it_is_read_again(
    predictor: EarlyFailurePredictor, calibration: list[Run], tmp_path: object
) -> None:
    enough = Monitor.calibrate(predictor, make_frame(calibration), watches="success", alpha=0.2)
    enough.save(tmp_path)  # type: ignore[arg-type]
    again = Monitor.load(tmp_path)  # type: ignore[arg-type]
    assert again.to_state() == enough.to_state()
    step = live_steps(calibration[0])[0]
    assert again.start().update(step) == enough.start().update(step)
    assert isinstance(again.start().verdict, Verdict)


def test_a_state_from_before_monitors_of_success_is_read(monitor: Monitor) -> None:
    old = {key: value for key, value in monitor.to_state().items() if key not in ("watches", "higher", "calibration")}
    again = Monitor.from_state(old, monitor.predictor)
    assert (again.watches, again.calibration, again.threshold) == ("failure", None, monitor.threshold)
    for part, value in (("watches", "all"), ("higher", "up"), ("calibration", {"steps": 3})):
        with pytest.raises(InputError):
            Monitor.from_state(monitor.to_state() | {part: value}, monitor.predictor)
