"""Many runs watched by lines of JSON: what a line is answered, and what no line can do."""

from __future__ import annotations

import json
import logging
import math
import random
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.detection import EarlyFailurePredictor, Monitor, Verdict
from trajkit.detection.lines import LONGEST_LINE, LineMonitor
from trajkit.detection.policies import Decision, Policy
from trajkit.events import Failure, WatchEnd, WatchStart, as_line

from .world import Run, live_steps, make_frame, make_runs, make_trace

STEP = {"effects": [1.0, 0.0, -2, 0.5, 0, 0.25], "logprob": -0.5, "entropy": 0.5, "n_tokens": 7}


@pytest.fixture(scope="module")
def calibration() -> list[Run]:
    return make_runs(40, seed=11)


@pytest.fixture(scope="module")
def monitor(predictor: EarlyFailurePredictor, calibration: list[Run]) -> Monitor:
    calibrated = Monitor.calibrate(predictor, make_frame(calibration), alpha=0.1, model="demo", fingerprint="f00")
    return replace(calibrated, threshold=0.5)


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def step_lines(run: Run) -> list[bytes]:
    return [
        line(
            run=run.transcript_id, effects=s.effects.tolist(), logprob=s.logprob, entropy=s.entropy, n_tokens=s.n_tokens
        )
        for s in live_steps(run)
    ]


def interleaved(streams: list[list[bytes]], seed: int) -> list[bytes]:
    rng, left, mixed = random.Random(seed), [s[:] for s in streams if s], []
    while left:
        stream = rng.choice(left)
        mixed.append(stream.pop(0))
        left = [s for s in left if s]
    return mixed


def failures(lines: LineMonitor, *given: bytes) -> list[str]:
    said = [answer.what for one in given for answer in lines.answer(one)]
    return [what.message for what in said if isinstance(what, Failure)]


def test_runs_that_are_interleaved_get_the_verdicts_that_each_gets_alone(monitor, calibration):
    lines = LineMonitor(monitor)
    told: dict[object, list[Verdict]] = {}
    for one in interleaved([step_lines(run) for run in calibration], seed=0):
        ((verdict, (name, _)),) = lines.answer(one)
        told.setdefault(name, []).append(verdict)
    for run in calibration:
        alone = monitor.start()
        assert told[run.transcript_id] == [alone.update(step) for step in live_steps(run)]
    assert any(v.alarm for verdicts in told.values() for v in verdicts)


def test_a_step_as_stream_and_traces_tell_it_is_read_whatever_else_it_holds(monitor, calibration):
    trace = make_trace(calibration[0])
    lines, alone = LineMonitor(monitor), monitor.start()
    for step, effects in zip(trace.steps, trace.effects, strict=True):
        full = step.to_dict() | {"event": "step", "effects": effects.tolist(), "half_width": None, "verdict": None}
        ((verdict, (name, _)),) = lines.answer(line(**full))
        assert name == ""
        if step.kind == "thinking":
            assert verdict == alone.update(live_steps(calibration[0])[verdict.step - 1])
    assert verdict == replace(alone.verdict, alarm=False)  # the answer changes nothing


def test_an_end_sums_the_run_up_and_forgets_it(monitor):
    lines = LineMonitor(replace(monitor, threshold=0.0))
    lines.answer(line(run="a", **STEP))
    ((verdict, _),) = lines.answer(line(run="a", **STEP))
    ((end, (name, row)),) = lines.answer(line(event="end", run="a", answered=True))
    assert (name, row) == ("a", 0)
    assert end == WatchEnd(
        closed=True,
        n_steps=2,
        n_tokens=14,
        max_risk=verdict.max_risk,
        threshold=0.0,
        alarmed=True,
        alarm_step=1,
        drift_p=None,
    )
    assert len(lines) == 0
    assert failures(lines, line(event="end", run="a")) == ["no run 'a' is open."]
    ((again, _),) = lines.answer(line(run="a", **STEP))
    assert (again.step, again.alarm) == (1, True)


def test_a_start_says_the_threshold_and_ends_what_was_open_under_its_name(monitor):
    lines = LineMonitor(monitor)
    assert lines.answer(line(event="start", run=7)) == [
        (WatchStart(threshold=0.5, alpha=0.1, watches="failure"), (7, 0))
    ]
    lines.answer(line(run=7, **STEP))
    (end, _), (start, _) = lines.answer(line(event="start", run=7, task_set="math", question="?", regions=[]))
    assert (end.n_steps, end.closed) == (1, False)
    assert isinstance(start, WatchStart)
    mute = LineMonitor(replace(monitor, threshold=math.inf))
    assert mute.answer(line(event="start"))[0].what.threshold is None


def test_a_number_and_a_text_are_two_names(monitor):
    lines = LineMonitor(monitor)
    for name in ("7", 7, ""):
        lines.answer(line(run=name, **STEP))
    assert len(lines) == 3


def test_rows_that_are_generated_together_are_runs_of_their_own(monitor):
    lines = LineMonitor(monitor)
    for row in (0, 1, 1):
        ((verdict, about),) = lines.answer(line(run="a", row=row, **STEP))
        assert about == ("a", row)
    assert verdict.step == 2
    assert json.loads(as_line(verdict, *about))["row"] == 1
    assert failures(lines, line(event="end", run="a", row=2)) == ["no run 'a row 2' is open."]


def test_a_run_of_another_model_is_not_watched_and_says_so_at_every_line(monitor):
    lines = LineMonitor(monitor)
    said = failures(
        lines, line(event="start", run="a", model="other"), line(run="a", **STEP), line(event="end", run="a")
    )
    assert len(said) == 3
    assert all("'other'" in message for message in said)
    assert not failures(lines, line(event="start", run="a", model="demo"), line(run="a", **STEP))
    assert not failures(lines, line(event="start", run="b", model="a/copy", fingerprint="f00"))  # by weights


def test_scores_that_are_unlike_the_calibration_are_told_by_group(monitor):
    def end_of(lines: LineMonitor, group: int, **fields: object) -> WatchEnd:
        lines.answer(line(event="start", run="a", group=f"g{group}"))
        lines.answer(line(run="a", **STEP | fields))
        return lines.answer(line(event="end", run="a"))[0].what

    lines = LineMonitor(monitor)
    assert end_of(lines, 0).drift_p is not None
    before = end_of(lines, 1, logprob=-9.0, entropy=9.0).drift_p
    assert end_of(lines, 1, logprob=-9.0, entropy=9.0).drift_p == before  # of one group the first counts
    with pytest.warns(UserWarning, match="THE SCORES HAVE DRIFTED"):
        last = [end_of(lines, n, logprob=-9.0, entropy=9.0).drift_p for n in range(2, 40)][-1]
    assert last < 0.01


def test_another_attempt_begins_the_run_anew(monitor):
    lines = LineMonitor(monitor)
    steps = [lines.answer(line(run="a", attempt=n, **STEP))[0].what.step for n in (0, 0, 1, 1, 2)]
    assert steps == [1, 2, 1, 2, 1]


def test_a_policy_decides_once_a_generation_and_asks_again_at_most_so_often(monitor):
    lines = LineMonitor(replace(monitor, threshold=0.0), Policy("ask again", tries=1))
    said = [lines.answer(line(run="a", attempt=n, **STEP)) for n in (0, 0, 1, 2)]
    told = [[getattr(answer.what, "action", "verdict") for answer in each] for each in said[:3]]
    assert told == [["verdict", "ask again"], ["verdict"], ["verdict", "flag"]]
    assert isinstance(said[0][1].what, Decision)
    assert "no attempt number 2" in said[3][0].what.message


@pytest.mark.parametrize("tokens", [[{"n_tokens": n} for n in (7, 5, 9)], [{}] * 3], ids=["counted", "placed"])
def test_the_tokens_that_the_next_try_keeps_are_counted_from_the_runs_beginning(monitor, tokens):
    bare = {name: value for name, value in STEP.items() if name != "n_tokens"}
    places = [(0, 7), (7, 12), (12, 21)]
    steps = [
        bare | (own or {"token_start": start, "token_end": end}) | {"logprob": logprob, "entropy": -logprob}
        for own, (start, end), logprob in zip(tokens, places, (-0.5, -0.01, -9.0), strict=True)
    ]
    risks = [LineMonitor(monitor).answer(line(**step))[0].what.risk for step in steps]
    assert risks[1] < risks[0] < risks[2]
    lines = LineMonitor(replace(monitor, threshold=0.48), Policy("ask again", start="last good step"))
    told = [answer.what for step in steps for answer in lines.answer(line(**step))]
    decision = next(what for what in told if isinstance(what, Decision))
    kept = decision.keep_steps
    assert 0 < kept < 3
    assert decision.keep_tokens == places[kept - 1][1]


def test_the_lines_of_other_commands_that_ask_for_nothing_are_answered_with_nothing(monitor):
    lines = LineMonitor(monitor)
    for event in ("verdict", "decision", "error"):
        assert lines.answer(line(event=event, run="a")) == []
    assert lines.answer(b"\n") == lines.answer(b"   \r\n") == []
    assert len(lines) == 0


HUGE = "1" + "0" * 400
BAD = {
    b"nonsense": "no JSON",
    b'{"run": "a", "run": "b"}': "twice",
    b"[1, 2]": "must be a JSON object",
    b"\xff\xfe": "no JSON",
    b"[" * 100_000: "nested too deeply",
    b'{"effects": ' + b"[" * 900 + b"]" * 900 + b', "logprob": -1, "entropy": 1, "n_tokens": 1}': '"effects" must be',
    b"{" + b" " * LONGEST_LINE + b"}": "longer than",
    b'{"run": true}': '"run" must be',
    b'{"run": 1.5}': '"run" must be',
    line(run="x" * 201, **STEP): '"run" must be',
    line(event="begin"): '"event" must be',
    line(event=["start"]): '"event" must be',
    line(event="start", task_set=3): '"task_set" must be a text',
    line(**STEP | {"kind": "musing"}): '"kind" must be',
    line(**STEP | {"n_tokens": -1}): '"n_tokens" must be',
    line(**STEP | {"n_tokens": 1.5}): '"n_tokens" must be',
    line(**STEP | {"n_tokens": None}): '"n_tokens" must be',
    line(**STEP | {"attempt": "1"}): '"attempt" must be',
    line(effects=[1.0], logprob=-1, entropy=1): '"n_tokens" must be',
    line(effects=[1.0], logprob=-1, entropy=1, token_end=3): '"token_start" must be',
    line(score=0.5): 'give "effects", "logprob", "entropy" and "n_tokens"',
    line(effects=[1.0], logprob=-1, entropy=1, token_start=5, token_end=3): "[5, 3)",
    line(**STEP | {"logprob": 0.5}): "logprob must be",
    line(**STEP | {"entropy": -1}): "entropy must be",
    line(**STEP | {"entropy": "1"}): '"entropy" must be',
    line(**STEP | {"logprob": None}): '"logprob" must be',
    line(**STEP).replace(b"-0.5", b"NaN"): "no JSON",
    line(**STEP).replace(b"-0.5", b"-1e999"): "no JSON",
    line(**STEP).replace(b"-0.5", f"-{HUGE}".encode()): '"logprob" must be',
    line(**STEP | {"effects": []}): '"effects" must be',
    line(**STEP | {"effects": None}): '"effects" must be',
    line(**STEP | {"effects": {"0": 1}}): '"effects" must be',
    line(**STEP | {"effects": ["1"] * 6}): '"effects" must be',
    line(**STEP | {"effects": [True] * 6}): '"effects" must be',
    line(**STEP | {"effects": [[1.0] * 6]}): '"effects" must be',
    line(**STEP | {"effects": [1e300] * 6}): '"effects" must be',
    line(**STEP).replace(b"1.0", HUGE.encode()): '"effects" must be',
    line(**STEP | {"effects": [1.0] * 5}): "6 numbers, as in the first step",
}


def test_a_first_line_that_is_no_good_opens_no_run(monitor):
    lines = LineMonitor(monitor)
    assert failures(lines, line(run="a", score=0.5)) == [
        'these detectors work out the score themselves: give "effects", "logprob", "entropy" and "n_tokens" in place '
        'of "score".'
    ]
    assert len(lines) == 0


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_line_that_is_no_good_is_said_to_be_and_changes_no_run(bad, monitor):
    lines, clean = LineMonitor(monitor), LineMonitor(monitor)
    for each in (lines, clean):
        each.answer(line(**STEP))
    ((failure, _),) = lines.answer(bad)
    assert isinstance(failure, Failure)
    assert failure.line == 2
    assert BAD[bad] in failure.message
    assert len(failure.message) < 400
    assert len(lines) == 1
    assert lines.answer(line(**STEP)) == clean.answer(line(**STEP))
    assert list(lines.end_all()) == list(clean.end_all())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_keys = ("event", "run", "effects", "logprob", "entropy", "n_tokens", "token_start", "kind", "attempt", "model")


@given(st.lists(st.binary(max_size=20) | st.dictionaries(st.sampled_from(_keys), _json).map(lambda d: line(**d))))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_is_answered_with_standard_json(monitor, given_lines):
    lines = LineMonitor(monitor, Policy("stop"))
    for one in [line(**STEP), *given_lines]:
        for what, about in lines.answer(one):
            json.loads(as_line(what, *about), parse_constant=pytest.fail)


def test_numbers_of_any_size_that_is_read_give_a_risk(monitor):
    lines = LineMonitor(monitor)
    for value in (9e99, -9e99, 0, 5e-324, 3):
        ((verdict, _),) = lines.answer(line(effects=[value, 1, 2], logprob=-9e99, entropy=9e99, n_tokens=2**31 - 1))
        assert 0 <= verdict.risk <= 1


def test_two_thousand_open_runs_take_kilobytes_each_and_are_let_go(monitor):
    lines, bare = LineMonitor(replace(monitor, threshold=1.0)), {k: v for k, v in STEP.items() if k != "effects"}
    lines.answer(line(run="warm", effects=[1.0] * 64, **bare))
    tracemalloc.start()
    try:
        for n in range(2_000):
            lines.answer(line(run=n, effects=[1.0] * 64, **bare))
        opened = tracemalloc.get_traced_memory()[0]
        for n in range(0, 2_000, 20):
            lines.answer(line(run=n, effects=[float(n)] * 64, **bare))
        again = tracemalloc.get_traced_memory()[0]
        for n in range(2_000):
            lines.answer(line(event="end", run=n))
        ended = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert opened < 2_000 * 5_000
    assert again < 1.05 * opened
    assert ended < 0.3 * opened
    assert len(lines) == 1


def test_runs_beyond_the_most_are_refused_until_one_ends(monitor):
    lines = LineMonitor(monitor, most_runs=2)
    said = failures(lines, *(line(run=n, **STEP) for n in range(3)))
    assert len(said) == 1
    assert "2 runs are open" in said[0]
    assert not failures(lines, line(event="end", run=0), line(run=2, **STEP), line(event="start", run=2))


def test_alarms_are_warnings_steps_are_for_debugging_and_a_name_stays_on_its_line(monitor, caplog):
    lines = LineMonitor(replace(monitor, threshold=0.0), Policy("stop"))
    with caplog.at_level(logging.DEBUG, "trajkit"):
        lines.answer(line(run="a\nb\x1b[2J", **STEP))
        lines.answer(line(run="a\nb\x1b[2J", **STEP))
    alarm, decision, step = caplog.records
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO", "DEBUG"]
    assert {r.name for r in caplog.records} == {"trajkit.detection.lines"}
    assert alarm.getMessage().startswith("run a b: alarm at step 1: risk 0.")
    assert (alarm.event, alarm.run, alarm.step, alarm.alarm) == ("verdict", "a\nb\x1b[2J", 1, True)
    assert (decision.event, decision.action) == ("decision", "stop")
    assert (step.step, step.alarm, step.alarmed) == (2, False, True)
