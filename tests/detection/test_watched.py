"""Runs that are ended at their alarm, or that go on side by side, are no drift."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trajkit.detection import Drift, Monitor
from trajkit.detection.lines import LineMonitor
from trajkit.detection.policies import Policy
from trajkit.detection.watched import FirstRuns
from trajkit.events import WatchEnd

STREAMS = 12


def groups(rng: np.random.Generator, n: int, runs: int) -> list[list[tuple[bool, np.ndarray]]]:
    """Of n groups, unlike in difficulty, so many runs each: whether it failed, and the scores of its steps. Runs that
    fail are longer and score higher."""
    found = []
    for hardness in rng.normal(size=n):
        failed = rng.random(runs) < 1 / (1 + np.exp(1 - hardness))
        found.append([(bool(f), rng.normal(f, 1, 1 + rng.poisson(4 + 4 * f))) for f in failed])
    return found


def monitor(rng: np.random.Generator) -> Monitor:
    rows = [
        (f"{g}-{r}", g, not failed, score)
        for g, runs in enumerate(groups(rng, 100, 3))
        for r, (failed, scores) in enumerate(runs)
        for score in scores
    ]
    return Monitor.of_scores(pd.DataFrame(rows, columns=["transcript_id", "group_id", "success", "score"]))


def one_by_one(runs: list[tuple[bool, np.ndarray]], name: str, lines: LineMonitor) -> Iterator[dict]:
    """The first run, as a program that does what the policy says tells it."""
    yield {"event": "start", "run": name, "group": name}
    for score in runs[0][1]:
        yield {"run": name, "score": float(score)}
        alarmed = lines._open[next(iter(lines._open))].watch.verdict.alarmed
        if alarmed and lines._policy:
            if lines._policy.on_alarm == "ask again":
                yield from ({"run": name, "score": float(score), "attempt": 1} for score in runs[1][1])
            break
    yield {"event": "end", "run": name}


def side_by_side(runs: list[tuple[bool, np.ndarray]], name: str, lines: LineMonitor) -> Iterator[dict]:
    """All of them, a step of each in turn."""
    for r in range(len(runs)):
        yield {"event": "start", "run": f"{name}-{r}", "group": name}
    for step in range(max(len(scores) for _, scores in runs)):
        for r, (_, scores) in enumerate(runs):
            if step < len(scores):
                yield {"run": f"{name}-{r}", "score": float(scores[step])}
            if step == len(scores) - 1:
                yield {"event": "end", "run": f"{name}-{r}"}


def all_told(lines: LineMonitor, runs: list[list[tuple[bool, np.ndarray]]], told: Any = one_by_one) -> WatchEnd:
    """Every group in turn; the end of the last run."""
    for g, own in enumerate(runs):
        for record in told(own, f"g{g}", lines):
            last = lines.answer(json.dumps(record).encode())
    assert isinstance(last[0].what, WatchEnd)
    return last[0].what


@pytest.mark.parametrize("policy", [None, "stop", "ask again", "side by side"])
def test_runs_like_those_of_the_calibration_are_no_drift_whatever_becomes_of_them(policy: str | None) -> None:
    """Alarmed runs that were left out, and the first run to end of several, were told to drift nearly always."""
    told = side_by_side if policy == "side by side" else one_by_one
    small = 0
    for stream in range(STREAMS):
        rng = np.random.default_rng([7, stream])
        lines = LineMonitor(monitor(rng), Policy(policy) if policy in ("stop", "ask again") else None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            end = all_told(lines, groups(rng, 120, 8), told)
        assert end.drift_p is not None
        small += end.drift_p <= 0.05
    assert small <= 2


def test_alarmed_runs_are_still_told_to_drift_where_more_are_alarmed_than_were() -> None:
    rng = np.random.default_rng(1)
    lines = LineMonitor(monitor(rng), Policy("stop"))
    riskier = [[(failed, scores + 1) for failed, scores in runs] for runs in groups(rng, 120, 1)]
    with pytest.warns(UserWarning, match="THE SCORES HAVE DRIFTED"):
        all_told(lines, riskier)


def test_drift_cannot_be_told_where_other_runs_than_alarmed_ones_end_early(predictor, frame) -> None:
    enough = Monitor.calibrate(predictor, frame, alpha=0.3, watches="success")
    lines = LineMonitor(Monitor.calibrate(predictor, frame), Policy(enough=enough))
    lines.answer(b'{"event": "start", "run": 1, "group": "a"}')
    lines.answer(b'{"run": 1, "effects": [0.5, 0.1], "logprob": -1, "entropy": 1, "n_tokens": 5}')
    assert lines.answer(b'{"event": "end", "run": 1}')[0].what.drift_p is None


def test_runs_are_told_in_the_order_in_which_they_began_one_a_group() -> None:
    drift = Drift([0.0, 1.0])
    first = FirstRuns(drift)
    a, b, c = first.begin("a"), first.begin("b"), first.begin("c")
    assert first.begin("a") is None
    assert first.begin("") is None
    first.end(c, 0.3)
    first.end(b, None)
    assert first.p_value is None
    first.end(a, 0.1)
    first.end(a, 0.9)
    assert (drift.state.n, sorted(drift.to_state()["maxima"])) == (2, [0.0, 0.1, 0.3, 1.0])


def test_a_run_that_nobody_ends_keeps_the_others_waiting_for_so_long_only() -> None:
    drift = Drift([0.0, 1.0])
    first = FirstRuns(drift, most_waiting=3)
    stuck = first.begin("stuck")
    for name in "ab":
        first.end(first.begin(name), 0.5)
    assert drift.state.n == 0
    first.end(first.begin("c"), 0.5)
    assert drift.state.n == 3
    first.end(stuck, 0.5)
    assert drift.state.n == 3


def test_what_a_run_comes_to_beyond_the_cap_does_not_count() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=60), rng.normal(size=40)
    whole, cut = Drift(old, cap=0.5), Drift(np.minimum(old, 0.5), cap=0.5)
    for value in new:
        assert whole.update(value) == cut.update(min(value, 0.5))
    again = Drift.from_state(json.loads(json.dumps(whole.to_state(), allow_nan=False)))
    assert again.update(7.0) == cut.update(0.6)
