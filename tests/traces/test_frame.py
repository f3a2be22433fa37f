"""The frame of prefix features: a row per run and thinking step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trajkit.errors import InputError
from trajkit.traces.frame import RUN_COLUMNS, features
from trajkit.traces.store import read_traces, write_traces
from trajkit.traces.trace import Step
from trajkit.trajectory.features import FEATURE_NAMES, PrefixFeatures

from .factory import make_trace

KNOWN = ((True, "success"), (None, "unknown"), (False, "unknown"))


def test_each_thinking_step_is_a_row_and_the_answer_is_none() -> None:
    runs = [
        make_trace(0),
        make_trace(1, success=None, outcome="unknown"),
        make_trace(2, success=False, outcome="unknown"),
    ]
    frame = features(runs)
    assert list(frame.columns) == [*RUN_COLUMNS, *FEATURE_NAMES]
    assert list(frame["transcript_id"]) == ["run-0000"] * 2 + ["run-0001"] * 3 + ["run-0002"] * 4
    assert list(frame["step"]) == [1, 2, 1, 2, 3, 1, 2, 3, 4]
    assert frame["success"].dtype == "boolean"
    assert frame.groupby("transcript_id")["success"].first().isna().tolist() == [False, True, False]
    assert list(frame["group_id"].unique()) == ["scene-0"]
    assert list(frame.index) == list(range(9))


def test_tokens_are_counted_over_the_steps_so_far() -> None:
    assert list(features([make_trace(1)])["n_tokens"]) == [3, 3 + 4, 3 + 4 + 5]


def test_rows_are_what_was_known_online() -> None:
    """Equal to feeding the steps one by one, so the answer and later steps cannot leak in."""
    run = make_trace(2)
    frame = features([run])
    online = PrefixFeatures()
    n_tokens = 0
    for row, (step, effects) in enumerate(zip(run.steps[:-1], run.effects, strict=False)):
        n_tokens += step.n_tokens
        known = online.update(effects, n_tokens=n_tokens, logprob=step.logprob, entropy=step.entropy)
        for name in FEATURE_NAMES:
            np.testing.assert_allclose(frame[name][row], known[name], rtol=1e-12, err_msg=name)


def test_traces_from_a_file_give_the_same_frame(tmp_path: Path) -> None:
    runs = [make_trace(i) for i in range(6)]
    stored = read_traces(write_traces(runs, tmp_path / "runs.parquet"))
    assert features(stored).equals(features(runs))


def test_no_runs_and_runs_without_thinking_have_no_row() -> None:
    silent = make_trace(0, steps=(Step("yes", "answer", 0, 2, -0.1, 0.2),), effects=np.ones((1, 3), np.float32))
    for runs in ([], [silent]):
        frame = features(runs)
        assert len(frame) == 0
        assert list(frame.columns) == [*RUN_COLUMNS, *FEATURE_NAMES]


def test_a_run_with_one_thinking_step_has_one_row() -> None:
    steps = make_trace(0).steps
    one = make_trace(0, steps=(steps[0], steps[-1]), effects=np.ones((2, 3), np.float32))
    assert list(features([one])["step"]) == [1]


def test_a_run_without_effects_is_refused() -> None:
    bare = make_trace(0, effects=np.zeros((3, 0), np.float32), effects_kind=None)
    with pytest.raises(InputError, match=r"run 'run-0000' has no effects.*replay it with its model"):
        features([bare])
