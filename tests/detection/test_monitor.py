from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from time import process_time

import numpy as np
import pandas as pd
import pytest

from trajkit.detection import EarlyFailurePredictor, Monitor, Verdict, max_score_threshold
from trajkit.detection.calibration import run_maxima
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.judging.alarms import monitor_runs

from .world import Run, live_steps, make_frame, make_runs, make_trace


@pytest.fixture(scope="module")
def calibration() -> list[Run]:
    return make_runs(80, seed=11)


@pytest.fixture(scope="module")
def monitor(predictor: EarlyFailurePredictor, calibration: list[Run]) -> Monitor:
    return Monitor.calibrate(predictor, make_frame(calibration), alpha=0.1, model="demo")


def _verdicts(monitor: Monitor, run: Run) -> list[Verdict]:
    watch = monitor.start()
    return [watch.update(step) for step in live_steps(run)]


def test_a_live_run_gets_the_risks_of_the_stored_run(monitor: Monitor, calibration: list[Run]) -> None:
    for run in calibration[:30]:
        live = [verdict.risk for verdict in _verdicts(monitor, run)]
        np.testing.assert_array_equal(live, monitor.predictor.risks(make_frame([run])))


def test_a_live_run_is_told_its_family_and_form(calibration: list[Run]) -> None:
    world = [replace(run, form=f"form {i % 3}") for i, run in enumerate(calibration)]
    frame = make_frame(world)
    predictor = EarlyFailurePredictor("uncertainty+task").fit(frame, (frame["outcome"] != "success").to_numpy(int))
    monitor = Monitor.calibrate(predictor, frame, model="demo")
    for run in world[:20]:
        watch = monitor.start(run.task_set, run.form)
        live = [watch.update(step).risk for step in live_steps(run)]
        np.testing.assert_allclose(live, predictor.risks(make_frame([run])), rtol=0, atol=1e-9)


def test_a_task_that_the_predictor_does_not_know_is_said_to_have_no_promise(calibration: list[Run]) -> None:
    world = [replace(run, form="sum") for run in calibration]
    frame = make_frame(world)
    predictor = EarlyFailurePredictor("uncertainty+task").fit(frame, (frame["outcome"] != "success").to_numpy(int))
    monitor = Monitor.calibrate(predictor, frame, model="demo")
    with pytest.warns(UserWarning, match=r"not fitted on 'an unknown one' but on document · sum, math · sum; the prom"):
        unknown = monitor.start()
    with pytest.warns(UserWarning, match="'math · product'"):
        monitor.start("math", "product")
    risks = [unknown.update(step).risk for step in live_steps(world[0])]
    bare = make_frame([replace(world[0], task_set="", form="")])
    np.testing.assert_allclose(risks, predictor.risks(bare), rtol=0, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.start("math", "sum")


def test_a_predictor_that_does_not_read_the_task_asks_for_none(monitor: Monitor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.start("any", "thing")


def test_the_alarm_is_raised_once_when_the_maximum_first_exceeds_the_threshold(
    monitor: Monitor, calibration: list[Run]
) -> None:
    low = replace(monitor, threshold=0.5)
    seen = 0
    for run in calibration[:60]:
        verdicts = _verdicts(low, run)
        risks = np.array([verdict.risk for verdict in verdicts])
        np.testing.assert_array_equal([v.max_risk for v in verdicts], np.maximum.accumulate(risks))
        over = np.flatnonzero(risks > 0.5)
        assert [v.step for v in verdicts if v.alarm] == ([over[0] + 1] if len(over) else [])
        assert [v.alarmed for v in verdicts] == list(np.maximum.accumulate(risks) > 0.5)
        seen += len(over) > 1
    assert seen > 0


def test_a_risk_equal_to_the_threshold_is_no_alarm(monitor: Monitor, calibration: list[Run]) -> None:
    run = calibration[0]
    highest = max(verdict.risk for verdict in _verdicts(monitor, run))
    assert not any(v.alarm for v in _verdicts(replace(monitor, threshold=highest), run))
    assert any(v.alarm for v in _verdicts(replace(monitor, threshold=np.nextafter(highest, 0)), run))


def test_an_answer_step_changes_nothing_and_repeats_no_alarm(monitor: Monitor, calibration: list[Run]) -> None:
    watch = replace(monitor, threshold=0.0).start()
    step = live_steps(calibration[0])[0]
    answer = replace(step, kind="answer")
    assert watch.update(answer) == Verdict(step=0, risk=0.0, max_risk=0.0, threshold=0.0, alarm=False)
    first = watch.update(step)
    assert first.alarm
    assert watch.update(answer) == replace(first, alarm=False)
    assert watch.verdict.alarmed


def test_it_is_calibrated_on_one_successful_run_per_group(
    predictor: EarlyFailurePredictor, frame: pd.DataFrame
) -> None:
    maxima = run_maxima(frame, predictor.risks(frame))
    good = maxima[maxima["failure"] == 0]
    monitor = Monitor.calibrate(predictor, frame, alpha=0.2)
    assert 0 < monitor.n < good["group_id"].nunique() < len(good)
    assert monitor.threshold in set(good["max_score"])
    assert good["max_score"].min() <= monitor.score_min <= monitor.score_max <= good["max_score"].max()


def test_repeats_of_a_run_do_not_move_the_threshold(predictor: EarlyFailurePredictor, frame: pd.DataFrame) -> None:
    one = frame[frame["transcript_id"].str.endswith("-0")]
    copies = [one.assign(transcript_id=one["transcript_id"] + f"-{i}") for i in range(4)]
    monitors = [Monitor.calibrate(predictor, data, alpha=0.1) for data in (one, pd.concat(copies, ignore_index=True))]
    assert monitors[0].n == monitors[1].n
    assert monitors[0].threshold == monitors[1].threshold


def test_the_run_of_a_group_is_drawn_by_the_seed_not_by_the_order_of_rows(
    predictor: EarlyFailurePredictor, frame: pd.DataFrame
) -> None:
    ids = frame["transcript_id"].unique()[::-1]
    turned = frame.set_index("transcript_id").loc[ids].reset_index()
    one, two = (Monitor.calibrate(predictor, data, alpha=0.2, seed=4) for data in (frame, turned))
    assert one.threshold == two.threshold
    assert len({Monitor.calibrate(predictor, frame, alpha=0.2, seed=s).threshold for s in range(6)}) > 1


def test_new_successful_runs_raise_false_alarms_at_most_at_alpha(predictor: EarlyFailurePredictor) -> None:
    """Over the draw of calibration sets, as the guarantee says."""
    frame = make_frame(make_runs(500, per_group=1, seed=5))
    maxima = run_maxima(frame, predictor.risks(frame))
    scores = maxima.loc[maxima["failure"] == 0, "max_score"].to_numpy()
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        drawn = rng.permutation(scores)
        rates.append((drawn[29:] > max_score_threshold(drawn[:29], 0.1)).mean())
    assert abs(np.mean(rates) - 0.1) < 0.015


def test_with_too_few_groups_it_cannot_alarm_and_says_how_many_it_needs(
    predictor: EarlyFailurePredictor, calibration: list[Run]
) -> None:
    good = [run for run in calibration if run.outcome == "success"]
    groups = sorted({run.group_id for run in good})
    for alpha, needed in [(0.1, 9), (0.05, 19)]:
        few = [run for run in good if run.group_id in groups[: needed - 1]]
        enough = [run for run in good if run.group_id in groups[:needed]]
        monitor = Monitor.calibrate(predictor, make_frame(few), alpha=alpha)
        assert not monitor.can_alarm
        assert monitor.threshold == math.inf
        assert f"at least {needed} groups" in monitor.message
        assert f"there were {needed - 1}" in monitor.message
        assert not any(v.alarmed for run in calibration[:20] for v in _verdicts(monitor, run))
        assert Monitor.calibrate(predictor, make_frame(enough), alpha=alpha).can_alarm


def test_no_successful_run_at_all_is_a_monitor_that_cannot_alarm(
    predictor: EarlyFailurePredictor, frame: pd.DataFrame
) -> None:
    monitor = Monitor.calibrate(predictor, frame[frame["outcome"] != "success"])
    assert (monitor.n, monitor.can_alarm) == (0, False)


def test_the_confident_mode_has_a_higher_threshold(predictor: EarlyFailurePredictor, calibration: list[Run]) -> None:
    data = make_frame(calibration)
    plain, sure = (Monitor.calibrate(predictor, data, alpha=0.2, delta=delta) for delta in (None, 0.05))
    assert sure.threshold > plain.threshold
    assert "95 % confidence" in sure.message


def test_a_verdict_is_frozen_and_json_able(monitor: Monitor, calibration: list[Run]) -> None:
    verdict = _verdicts(replace(monitor, threshold=math.inf), calibration[0])[-1]
    data = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert data["threshold"] is None
    assert data["max_risk"] == verdict.max_risk
    with pytest.raises(FrozenInstanceError):
        verdict.risk = 0.0  # type: ignore[misc]


def test_a_run_with_no_positive_effect_has_finite_risks(monitor: Monitor) -> None:
    step = replace(live_steps(make_runs(1, 1)[0])[0], effects=np.zeros(6))
    watch = monitor.start()
    assert all(np.isfinite(watch.update(step).risk) for _ in range(4))


@pytest.mark.parametrize("effects", [np.array([0.1, np.nan]), np.zeros((2, 2)), np.array([np.inf])])
def test_effects_that_are_no_finite_vector_are_an_input_error(monitor: Monitor, effects: np.ndarray) -> None:
    step = replace(live_steps(make_runs(1, 1)[0])[0], effects=effects)
    with pytest.raises(InputError, match="finite effects"):
        monitor.start().update(step)


def test_two_runs_at_once_do_not_meet(monitor: Monitor, calibration: list[Run]) -> None:
    one, two = monitor.start(), monitor.start()
    steps_a, steps_b = live_steps(calibration[1]), live_steps(calibration[2])
    n = min(len(steps_a), len(steps_b))
    mixed = [(one.update(a).risk, two.update(b).risk) for a, b in zip(steps_a[:n], steps_b[:n], strict=True)]
    alone = [v.risk for v in _verdicts(monitor, calibration[1])][:n]
    assert [a for a, _ in mixed] == alone


def test_traces_calibrate_as_their_frame_does_and_the_answer_is_not_looked_at(
    predictor: EarlyFailurePredictor, calibration: list[Run], monitor: Monitor
) -> None:
    by_traces = Monitor.calibrate(predictor, [make_trace(run) for run in calibration], alpha=0.1)
    assert by_traces.calibration == replace(monitor.calibration, regions=(6, 6))  # which a frame does not say
    assert by_traces.to_state() | {"calibration": None} == monitor.to_state() | {"calibration": None}
    assert by_traces.model == "demo"


def test_traces_of_two_models_are_an_input_error(predictor: EarlyFailurePredictor, calibration: list[Run]) -> None:
    mixed = [make_trace(run, model) for run, model in zip(calibration, ["one", "two"] * 9, strict=False)]
    with pytest.raises(InputError, match="one, two"):
        Monitor.calibrate(predictor, mixed)


def test_it_refuses_another_model(monitor: Monitor) -> None:
    monitor.check("demo")
    with pytest.raises(EstimatorMismatchError, match=r"'demo'.*'other'"):
        monitor.check("other")


def test_what_it_did_on_stored_runs_is_what_it_does_live(monitor: Monitor, calibration: list[Run]) -> None:
    table = monitor_runs(monitor, make_frame(calibration)).set_index("transcript_id")
    assert table["alarmed"].any()
    for run in calibration:
        verdicts = _verdicts(monitor, run)
        row = table.loc[run.transcript_id]
        alarm = next((v.step for v in verdicts if v.alarm), 0)
        assert row["alarm_step"] == alarm
        tokens = run.tokens
        assert row["saved"] == pytest.approx(1 - tokens[:alarm].sum() / tokens.sum() if alarm else 0.0)


@pytest.mark.parametrize(
    "look", [lambda _, frame: run_maxima(frame, np.zeros(len(frame))), lambda *given: Monitor.calibrate(*given)]
)
def test_runs_that_are_of_no_group_or_of_two_are_an_input_error_that_says_so(
    predictor: EarlyFailurePredictor, frame: pd.DataFrame, look: Callable[[EarlyFailurePredictor, pd.DataFrame], object]
) -> None:
    none = frame["group_id"].where(frame["group_id"] != "scene-003", None)
    two = frame["group_id"].where(frame["step"] != 2, "elsewhere")
    for broken, message in [
        (frame.drop(columns="group_id"), "missing columns: group_id"),
        (frame.assign(group_id=none), "rows lack one, the first with transcript_id 'run-003-0'"),
        (frame.assign(group_id=two), "is of the groups 'elsewhere', 'scene-000'"),
    ]:
        with pytest.raises(InputError, match=message):
            look(predictor, broken)


def test_a_replay_needs_groups_too(monitor: Monitor, frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="missing columns: group_id"):
        monitor_runs(monitor, frame.drop(columns="group_id"))


def _shortest(work: Callable[[], object], repeats: int = 15) -> float:
    def seconds() -> float:
        start = process_time()
        work()
        return process_time() - start

    return min(seconds() for _ in range(repeats))


def test_a_step_costs_no_more_than_some_seventy_small_array_operations(monitor: Monitor) -> None:
    """Of 64 regions; beside a reference in the same process, as times by themselves say nothing of the code."""
    rng = np.random.default_rng(0)
    step = live_steps(make_runs(1, 1)[0])[0]
    steps = [replace(step, effects=rng.normal(size=64).astype(np.float32)) for _ in range(200)]
    a, b = rng.normal(size=(1, 64)), rng.normal(size=(1, 64))

    quiet = replace(monitor, calibration=None)  # so many steps and regions were not in it

    def watch() -> None:
        run = quiet.start()
        for one in steps:
            run.update(one)

    def reference() -> None:
        for _ in steps:
            for _ in range(10):
                np.where(a > b, np.maximum(a, b), a - b)
                (a * b).sum(axis=1)
                np.sqrt(np.einsum("tk,tk->t", a, a))

    assert _shortest(watch) < 0.95 * _shortest(reference)
