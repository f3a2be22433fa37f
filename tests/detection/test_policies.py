from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from trajkit.detection import Monitor, Policy, PolicyRun, Verdict
from trajkit.detection.policies import Decision
from trajkit.errors import EstimatorMismatchError, InputError

from .world import Run, live_steps, make_frame, make_runs

THRESHOLD = 0.6


@dataclass(frozen=True)
class Judged:
    """A step as a program has it: what a monitor reads of it, where it ends, and what the monitor said."""

    verdict: Verdict | None
    token_end: int
    kind: str = "thinking"
    effects: np.ndarray = field(default_factory=lambda: np.ones(6))
    logprob: float = -0.1
    entropy: float = 0.2
    n_tokens: int = 7


def judged(risks: list[float], answers: bool = False) -> list[Judged]:
    """A step of 7 tokens for each risk, with the verdict of a monitor whose threshold is 0.6."""
    most = np.maximum.accumulate([0.0, *risks])
    steps = [
        Judged(Verdict(t + 1, risk, float(most[t + 1]), THRESHOLD, bool(most[t] <= THRESHOLD < most[t + 1])), 7 * t + 7)
        for t, risk in enumerate(risks)
    ]
    if answers:
        steps.append(Judged(replace(steps[-1].verdict, alarm=False), 7 * len(risks) + 3, kind="answer"))
    return steps


def decisions(run: PolicyRun, steps: list[Judged]) -> list[Decision | None]:
    return [run.update(step) for step in steps]


def of_steps(run: Run, verdicts: list[Verdict | None]) -> list[Judged]:
    """The steps of a made-up run, with these verdicts."""
    ends = np.cumsum(run.tokens).tolist()
    return [
        Judged(verdict, end, "thinking", step.effects, step.logprob, step.entropy, step.n_tokens)
        for step, end, verdict in zip(live_steps(run), ends, verdicts, strict=True)
    ]


@pytest.fixture(scope="module")
def success(predictor) -> Monitor:
    """A monitor that watches for success."""
    return Monitor.calibrate(predictor, make_frame(make_runs(60, seed=3)), 0.3, model="demo", watches="success")


@pytest.fixture(scope="module")
def sure(success: Monitor) -> tuple[Run, int]:
    """A run of which the monitor of success speaks after a step that is neither its first nor its last; that step."""
    for run in make_runs(60, seed=4):
        watch = success.start()
        spoke = [watch.update(step).alarm for step in live_steps(run)]
        if True in spoke[1:-1]:
            return run, spoke.index(True) + 1
    raise AssertionError("no such run")


@pytest.mark.parametrize("action", ["flag", "stop", "answer now"])
def test_an_alarm_is_answered_once_after_the_step_that_raised_it(action):
    found = decisions(Policy(action).start_run(), judged([0.3, 0.7, 0.9, 0.2, 0.8]))
    assert [decision is not None for decision in found] == [False, True, False, False, False]
    assert (found[1].action, found[1].step) == (action, 2)
    assert found[1].reason == "the monitor alarmed after step 2 (0.70 is above 0.60)"


def test_no_alarm_no_decision():
    assert decisions(Policy("stop").start_run(), judged([0.3, 0.6, 0.2], answers=True)) == [None] * 4


def test_an_alarm_twice_is_acted_on_once():
    steps = judged([0.7, 0.8])
    again = [steps[0], replace(steps[1], verdict=replace(steps[1].verdict, alarm=True))]
    assert [d is not None for d in decisions(Policy("stop").start_run(), again)] == [True, False]


def test_an_alarm_in_the_answer_does_nothing():
    late = Judged(Verdict(1, 0.9, 0.9, THRESHOLD, True), 12, kind="answer")
    run = Policy("stop").start_run()
    assert run.update(late) is None
    assert run.to_state()["acted"] is False


def test_asking_again_begins_anew_and_ends_with_the_tries():
    policy, steps = Policy("ask again", tries=2), judged([0.1, 0.3, 0.7])
    for attempt, action in enumerate(["ask again", "ask again", "flag"]):
        last = decisions(policy.start_run(attempt=attempt), steps)[-1]
        assert (last.action, last.keep_tokens, last.keep_steps) == (action, 0, 0)
    assert "no try is left" in last.reason
    with pytest.raises(InputError, match="no attempt number 3"):
        policy.start_run(attempt=3)
    with pytest.raises(InputError, match="no attempt number 1"):
        Policy("stop").start_run(attempt=1)


def test_the_last_good_step_is_the_latest_of_those_with_the_lowest_risk():
    policy = Policy("ask again", start="last good step")
    for risks, kept in ([0.3, 0.2, 0.4, 0.2, 0.5, 0.7], 4), ([0.2, 0.5, 0.7], 1), ([0.9], 0):
        last = decisions(policy.start_run(), judged(risks))[-1]
        assert (last.keep_steps, last.keep_tokens) == (kept, 7 * kept)


def test_a_generation_that_goes_on_is_given_the_steps_that_were_kept():
    policy, steps = Policy("ask again", tries=2, start="last good step"), judged([0.3, 0.2, 0.4, 0.7])
    first = decisions(policy.start_run(), steps)[-1]
    second = policy.start_run(attempt=1)
    assert decisions(second, steps[: first.keep_steps]) == [None] * 2
    later = judged([0.3, 0.2, 0.5, 0.3, 0.8])[2:]
    assert decisions(second, later)[-1].keep_steps == 2


def test_enough_ends_the_thinking_when_the_monitor_of_success_speaks(success, sure):
    run, at = sure
    found = decisions(Policy(enough=success).start_run(), of_steps(run, [None] * len(run.tokens)))
    assert [i + 1 for i, decision in enumerate(found) if decision] == [at]
    assert (found[at - 1].action, found[at - 1].step) == ("enough", at)
    assert found[at - 1].verdict.threshold == success.threshold
    assert "success is as good as certain after step" in found[at - 1].reason


def test_of_an_alarm_and_enough_after_one_step_the_alarm_counts(success, sure):
    run, at = sure
    quiet = Verdict(1, 0.2, 0.2, THRESHOLD, False)
    alarm = Verdict(at, 0.7, 0.7, THRESHOLD, True)
    steps = of_steps(run, [alarm if t + 1 == at else quiet for t in range(len(run.tokens))])
    found = [d for d in decisions(Policy("stop", enough=success).start_run(), steps) if d]
    assert [(d.action, d.step) for d in found] == [("stop", at)]


@pytest.mark.parametrize("first", ["alarm", "enough"])
def test_after_one_decision_neither_monitor_is_listened_to(success, sure, first):
    run, at = sure
    alarms_at = at - 1 if first == "alarm" else at + 1
    quiet, alarm = Verdict(1, 0.2, 0.2, THRESHOLD, False), Verdict(1, 0.7, 0.7, THRESHOLD, True)
    steps = of_steps(run, [alarm if t + 1 == alarms_at else quiet for t in range(len(run.tokens))])
    found = [d.action for d in decisions(Policy("flag", enough=success).start_run(), steps) if d]
    assert found == ["flag" if first == "alarm" else "enough"]


def test_a_run_saved_after_any_step_goes_on_as_if_it_had_not_been():
    policy, steps = Policy("ask again", tries=2, start="last good step"), judged([0.3, 0.2, 0.4, 0.7, 0.9])
    steps.append(steps[3])  # its alarm again
    whole = decisions(policy.start_run(attempt=1), steps)
    for cut in range(len(steps) + 1):
        run = policy.start_run(attempt=1)
        before = decisions(run, steps[:cut])
        resumed = PolicyRun.from_state(json.loads(json.dumps(run.to_state())), policy)
        assert before + decisions(resumed, steps[cut:]) == whole


def test_a_run_saved_with_its_monitor_of_success_goes_on_as_if_it_had_not_been(success, sure):
    run, at = sure
    policy, steps = Policy(enough=success), of_steps(run, [None] * len(run.tokens))
    whole = decisions(policy.start_run(), steps)
    for cut in range(len(steps) + 1):
        first = policy.start_run()
        before = decisions(first, steps[:cut])
        resumed = PolicyRun.from_state(json.loads(json.dumps(first.to_state())), policy)
        assert before + decisions(resumed, steps[cut:]) == whole
    assert whole[at - 1].action == "enough"


def test_a_saved_run_is_refused_under_another_policy_or_with_a_part_missing(success):
    policy = Policy("ask again", tries=2)
    state = policy.start_run(attempt=2).to_state()
    with pytest.raises(InputError, match="no attempt number 2"):
        PolicyRun.from_state(state, Policy("stop"))
    with pytest.raises(InputError, match="this is another"):
        PolicyRun.from_state(state, replace(policy, enough=success))
    for part in ("attempt", "acted", "kept", "lowest", "enough"):
        with pytest.raises(InputError, match=part):
            PolicyRun.from_state({name: value for name, value in state.items() if name != part}, policy)
    with pytest.raises(InputError, match="whole numbers from 0"):
        PolicyRun.from_state(state | {"kept": [3]}, policy)


def test_a_decision_is_written_as_json():
    run = Policy("stop").start_run()
    decision = run.update(judged([0.7])[0])
    written = json.loads(json.dumps(decision.to_dict()))
    assert (written["action"], written["verdict"]["alarm"]) == ("stop", True)
    endless = Decision(1, "flag", "", replace(decision.verdict, threshold=math.inf))
    assert json.loads(json.dumps(endless.to_dict(), allow_nan=False))["verdict"]["threshold"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"on_alarm": "panic"}, "'on_alarm' parameter must be one of 'flag', 'stop', 'answer now', 'ask again'"),
        ({"on_alarm": "ask again", "start": "later"}, "'start' parameter must be one of 'anew', 'last good step'"),
        ({"on_alarm": "ask again", "tries": 0}, "'tries' parameter must be a whole number from 1 on. Got 0"),
        ({"on_alarm": "ask again", "tries": True}, "Got True"),
        ({"on_alarm": "stop", "tries": 2}, "say how to ask again, and this policy's answer to an alarm is 'stop'"),
        ({"hint": "look again."}, "say how to ask again"),
        ({"on_alarm": "ask again", "hint": "\x1b[2J"}, "the hint must be plain text"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Policy(**settings)


def test_enough_takes_a_monitor_of_success_alone(success, predictor):
    frame = make_frame(make_runs(60, seed=3))
    own = Monitor.of_scores(frame.assign(score=0.5), watches="success")
    for other in (Monitor.calibrate(predictor, frame), own):
        with pytest.raises(InputError, match="must be a monitor that reads steps and watches for success"):
            Policy(enough=other)


def test_a_policy_is_checked_against_the_monitor_and_the_model(success):
    Policy().check(None, "demo")
    Policy("stop").check(replace(success, watches="failure"), "demo")
    with pytest.raises(InputError, match="watches for success"):
        Policy("stop").check(success, "demo")
    with pytest.raises(InputError, match="needs a monitor"):
        Policy("stop").check(None, "demo")
    with pytest.raises(EstimatorMismatchError):
        Policy(enough=success).check(None, "another")
