from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from tests.detection.world import live_steps, make_frame, make_runs, make_trace
from trajkit.detection import EarlyFailurePredictor, Monitor, Policy, Verdict
from trajkit.errors import InputError
from trajkit.judging.policies import (
    SEEN_AFTER,
    SavedRuns,
    Stops,
    ask_again,
    ends,
    majority,
    random_alarms,
    random_stops,
    stop,
    stops,
    windowed_entropy,
)

RUNS = [  # question, answer, right, tokens of each step, tokens in all
    ("a", "4", True, (10, 10), 23),
    ("a", "5", False, (10, 10, 10), 33),
    ("a", "4", True, (10,), 13),
    ("b", "no", False, (20, 20), 43),
    ("b", "", False, (20,), 40),
    ("b", "yes", True, (20, 20, 20), 63),
]


def saved_of(runs=RUNS) -> tuple[SavedRuns, pd.DataFrame]:
    """The runs in the order of the list, and their frame, whose rows are shuffled."""
    frame = pd.DataFrame(
        [
            (f"run-{i}", f"scene-{question}", right, step + 1, sum(tokens[: step + 1]))
            for i, (question, _, right, tokens, _) in enumerate(runs)
            for step in range(len(tokens))
        ],
        columns=["transcript_id", "group_id", "success", "step", "n_tokens"],
    ).sample(frac=1, random_state=0, ignore_index=True)
    ended = pd.DataFrame(
        [(f"run-{i}", question, answer, tokens) for i, (question, answer, _, _, tokens) in enumerate(runs)],
        columns=["transcript_id", "question", "answer", "tokens"],
    )
    return SavedRuns.of(frame, ended), frame


def risks_of(frame: pd.DataFrame, of_run: dict[int, list[float]]) -> np.ndarray:
    """Risks of the frame's rows: those given of some runs, and 0."""
    numbers = frame["transcript_id"].str.removeprefix("run-").astype(int)
    return np.array([of_run.get(i, [0.0] * 9)[t - 1] for i, t in zip(numbers, frame["step"], strict=True)])


@pytest.fixture(scope="module")
def alarmed() -> tuple[SavedRuns, np.ndarray]:
    """The runs, with alarms after the second step of run 1, the first of run 3, and the last of run 5."""
    saved, frame = saved_of()
    risks = risks_of(frame, {1: [0.1, 0.8, 0.9], 3: [0.9, 0.1], 5: [0.2, 0.5, 0.6]})
    return saved, saved.alarms(risks, 0.5)


def test_runs_of_a_question_stand_behind_one_another_with_their_steps_in_order(alarmed):
    saved, alarms = alarmed
    assert saved.runs["transcript_id"].tolist() == [f"run-{i}" for i in range(6)]
    assert saved.step.tolist() == [1, 2, 1, 2, 3, 1, 1, 2, 1, 1, 2, 3]
    assert saved.step[alarms[alarms >= 0]].tolist() == [2, 1, 3]
    assert (alarms >= 0).tolist() == [False, True, False, True, False, True]


def test_a_stopped_run_gives_no_answer_and_costs_what_was_generated_until_then(alarmed):
    saved, alarms = alarmed
    play = stop(saved, stops(saved, alarms))
    assert play.right.tolist() == [1, 0, 1, 0, 0, 0]
    assert play.answered.tolist() == [1, 0, 1, 0, 0, 0]
    assert play.tokens.tolist() == [23, 20 + SEEN_AFTER, 13, 20 + SEEN_AFTER, 40, 60 + SEEN_AFTER]


def test_asking_again_goes_through_the_other_runs_of_the_question(alarmed):
    saved, alarms = alarmed
    once = ask_again(saved, stops(saved, alarms))
    assert once.right.tolist() == [1, 1, 1, 0, 0, 0]  # run 1 → 2, 3 → 4, 5 → 3, which is alarmed and goes on
    assert once.answered.tolist() == [1, 1, 1, 0, 0, 1]
    assert once.tokens.tolist() == [23, 21 + 13, 13, 21 + 40, 40, 61 + 43]
    twice = ask_again(saved, stops(saved, alarms), tries=2)
    assert twice.answered.tolist() == [1, 1, 1, 0, 0, 0]  # run 5 → 3 → 4
    assert twice.tokens.tolist() == [23, 34, 13, 61, 40, 61 + 21 + 40]


def test_asking_again_needs_that_many_runs_of_each_question(alarmed):
    saved, alarms = alarmed
    with pytest.raises(InputError, match="4 runs of each question are needed, and 2 questions have fewer"):
        ask_again(saved, stops(saved, alarms), tries=3)


def test_random_stops_keep_the_rate_after_each_step_and_know_nothing_of_the_run():
    saved, frame = saved_of()
    alarms = saved.alarms(risks_of(frame, {0: [0.9, 0.0], 1: [0.0, 0.9, 0.0], 2: [0.9], 3: [0.0, 0.9]}), 0.5)
    at = random_stops(saved, alarms)
    first, second = 2 / 6, 2 / 3  # stopped of those that come so far: 6 after step 1, runs 1, 3 and 5 after step 2
    both = 1 - (1 - first) * (1 - second)
    np.testing.assert_allclose(at.chance, [both, both, first, both, first, both])
    of_run_1 = first * 11 + (1 - first) * second * 21 + (1 - both) * 33
    np.testing.assert_allclose(at.used[1], of_run_1)


def test_random_stops_are_what_drawing_them_comes_to(alarmed):
    saved, alarms = alarmed
    at, rng = random_stops(saved, alarms), np.random.default_rng(0)
    chance = {1: 1 / 6, 2: 1 / 3, 3: 1.0}  # runs 0, 1 and 5 come to the second step unalarmed, run 5 to the third
    drawn = rng.random((20_000, len(saved.step))) < [chance[step] for step in saved.step]
    for run, (low, high) in enumerate(zip(saved.starts, [*saved.starts[1:], len(saved.step)], strict=True)):
        hit = drawn[:, low:high]
        used = np.where(hit.any(1), saved.used[low:high][hit.argmax(1)], saved.tokens[run])
        np.testing.assert_allclose(at.chance[run], hit.any(1).mean(), atol=0.02)
        np.testing.assert_allclose(at.used[run], used.mean(), rtol=0.02)


def test_random_alarms_come_as_often_as_random_stops_expect(alarmed):
    saved, alarms = alarmed
    expected = random_stops(saved, alarms)
    found = np.array([random_alarms(saved, alarms, seed) for seed in range(2000)])
    np.testing.assert_allclose((found >= 0).mean(0), expected.chance, atol=0.04)
    used = np.where(found >= 0, saved.used[found], saved.tokens)
    np.testing.assert_allclose(used.mean(0), expected.used, rtol=0.03)


def test_asking_again_at_random_is_the_mean_of_asking_again_or_not(alarmed):
    saved, _ = alarmed
    half = Stops(np.full(6, 0.5), np.full(6, 7.0))
    play = ask_again(saved, half)
    other = saved.further(1)
    np.testing.assert_allclose(play.right, 0.5 * saved.right + 0.5 * saved.right[other])
    np.testing.assert_allclose(play.tokens, 7 + 0.5 * saved.tokens[other])


def test_the_commonest_answer_is_given_and_of_several_the_first(alarmed):
    saved, _ = alarmed
    assert majority(saved, 1).right.tolist() == saved.right.tolist()
    two = majority(saved, 2)  # 4 5, 5 4, 4 4; no –, – yes, yes no
    assert two.right.tolist() == [1, 0, 1, 0, 1, 1]
    assert two.answered.tolist() == [1] * 6
    three = majority(saved, 3)
    assert three.right.tolist() == [1, 1, 1, 0, 1, 1]
    assert three.tokens.tolist() == [69] * 3 + [146] * 3


@dataclass(frozen=True)
class Judged:
    """A step of a made-up run with what the monitor said of it."""

    step: object
    verdict: Verdict
    token_end: int
    kind: str = "thinking"


@pytest.mark.parametrize("tries", [1, 2])
def test_a_replay_is_what_the_rule_does_step_by_step(tries):
    runs = make_runs(30, per_group=3, seed=5)
    frame = make_frame(runs)
    predictor = EarlyFailurePredictor().fit(frame, (frame["outcome"] != "success").to_numpy(int))
    monitor = Monitor(predictor, threshold=0.55, alpha=0.1, n=20, score_min=0.1, score_max=0.9)
    ended = [(run.transcript_id, "?", "x", run.tokens.sum() + 3.0) for run in runs]
    saved = SavedRuns.of(frame, pd.DataFrame(ended, columns=["transcript_id", "question", "answer", "tokens"]))
    alarms = saved.alarms(predictor.risks(frame), monitor.threshold)
    policy = Policy("ask again", tries=tries)
    played = ask_again(saved, stops(saved, alarms), tries)
    assert 10 < (alarms >= 0).sum() < 80
    for i, run in enumerate(runs):
        used, now = 0.0, run
        for attempt in range(tries + 1):
            watch, rule, end = monitor.start(), policy.start_run(attempt=attempt), 0
            for step in live_steps(now):
                end += step.n_tokens
                decision = rule.update(Judged(step, watch.update(step), end))
                if decision and decision.action == "ask again":
                    used += end + SEEN_AFTER
                    now = runs[i - i % 3 + (i + attempt + 1) % 3]
                    break
            else:
                used += now.tokens.sum() + 3.0
                break
        assert played.tokens[i] == used
        assert played.right[i] == (now.outcome == "success")


def test_the_entropy_of_the_last_tokens_is_that_of_a_pass_over_the_tokens():
    runs = make_runs(5, seed=2)
    frame = make_frame(runs)
    for window in (1, 12, 10_000):
        expected = []
        for run in runs:
            tokens = np.repeat(run.entropy, run.tokens)
            expected += [tokens[max(0, end - window) : end].mean() for end in np.cumsum(run.tokens)]
        np.testing.assert_allclose(windowed_entropy(frame, window), expected, rtol=1e-9)


def test_how_saved_runs_ended_is_read_from_their_traces():
    trace = replace(make_trace(make_runs(1)[0]), answer=" Draw  4 Red. ", question="what?")
    unanswered = replace(trace, transcript_id="b", answer="", steps=trace.steps[:-1], effects=trace.effects[:-1])
    found = ends([trace, unanswered]).set_index("transcript_id")
    assert found.loc[trace.transcript_id].tolist() == ["what?", "draw 4 red", trace.steps[-1].token_end + 1]
    assert found.loc["b"].tolist() == ["what?", "", trace.steps[-2].token_end]
    assert ends([]).empty


def test_what_a_replay_cannot_do_without_is_asked_for():
    saved, frame = saved_of()
    ended = saved.runs.assign(question="?")
    with pytest.raises(InputError, match="the ends of runs need the columns answer"):
        SavedRuns.of(frame, ended.drop(columns="answer"))
    with pytest.raises(InputError, match="of 1 run it is not told how they ended"):
        SavedRuns.of(frame, ended[1:])
    unknown = frame.assign(success=frame["success"].astype(object).where(frame["transcript_id"] != "run-0", None))
    assert len(SavedRuns.of(unknown, ended)) == 5
