"""The frame of prefix features: a row per run and thinking step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.traces.bare import without_effects, without_uncertainty
from tests.traces.factory import make_trace
from trajkit.errors import InputError, TraceFormatError
from trajkit.runs.features import features
from trajkit.runs.table import RUN_COLUMNS
from trajkit.traces.store import read_traces, write_traces
from trajkit.traces.trace import Step
from trajkit.trajectory.features import FEATURE_NAMES, PrefixFeatures

KNOWN = ((True, "success"), (None, "unknown"), (False, "unknown"), (False, "failure"))


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


UNCERTAINTY = ["logprob_mean", "entropy_mean", "logprob_low", "entropy_high"]
TOLD = ["step", "n_tokens", *UNCERTAINTY]
"""What is known of a run without effects."""


def test_of_a_run_without_effects_what_needs_none_is_known_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    runs = [make_trace(i) for i in range(6)]
    mixed = [without_effects(run) if i in (1, 4) else run for i, run in enumerate(runs)]
    expected, found = features(runs), features(mixed)
    bare = found["transcript_id"].isin(["run-0001", "run-0004"])
    assert found[~bare].equals(expected[~bare])
    assert found[[*RUN_COLUMNS, *TOLD]].equals(expected[[*RUN_COLUMNS, *TOLD]])
    assert found[bare].drop(columns=[*RUN_COLUMNS, *TOLD]).isna().all(axis=None)
    out = features(write_traces(mixed, tmp_path / "runs.parquet"), out=tmp_path / "features")
    pd.testing.assert_frame_equal(pd.read_parquet(out), found, check_dtype=False)


def test_uncertainty_that_a_source_did_not_tell_is_nan_and_online_too() -> None:
    run = without_uncertainty(without_effects(make_trace(2)))
    frame, online, n_tokens = features([run]), PrefixFeatures(), 0
    assert frame[UNCERTAINTY].isna().all(axis=None)
    for row, step in enumerate(run.steps[:-1]):
        n_tokens += step.n_tokens
        known = online.update([], n_tokens=n_tokens, logprob=np.nan, entropy=np.nan)
        np.testing.assert_array_equal([known[name] for name in FEATURE_NAMES], frame.loc[row, list(FEATURE_NAMES)])
        online = PrefixFeatures.from_state(json.loads(json.dumps(online.to_state(), allow_nan=False)))


def many(path: Path, times: int) -> Path:
    """A file of 1,000 runs, `times` over under other names, 5,000 runs in a row group."""
    table = pq.read_table(write_traces([make_trace(i) for i in range(1000)], path.with_name("few.parquet")))
    at, ids = table.column_names.index("transcript_id"), table["transcript_id"].to_pylist()
    with pq.ParquetWriter(path, table.schema) as writer:
        for first in range(0, times, 5):
            own = [pa.array([f"{time} {name}" for name in ids]) for time in range(first, min(first + 5, times))]
            writer.write_table(
                pa.concat_tables([table.set_column(at, table.schema.field(at), names) for names in own]),
                row_group_size=5000,
            )
    return path


def test_features_in_files_are_those_in_memory_and_a_call_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    runs = many(tmp_path / "runs.parquet", 12)
    out = features(runs, out=tmp_path / "features")
    parts = sorted(out.glob("part-*.parquet"))
    assert len(parts) > 1
    expected = features(runs)
    pd.testing.assert_frame_equal(pd.read_parquet(out), expected, check_dtype=False)
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    done: list[int] = []
    features(runs, out=out, advance=lambda note, steps: done.append(steps))
    assert (parts[0].stat().st_mtime_ns, len(done)) == (kept, 1)
    pd.testing.assert_frame_equal(pd.read_parquet(out), expected, check_dtype=False)


def test_files_of_other_traces_are_not_gone_on_with(tmp_path: Path) -> None:
    out = features(write_traces([make_trace(0)], tmp_path / "runs.parquet"), out=tmp_path / "features")
    write_traces([make_trace(0), make_trace(1)], tmp_path / "runs.parquet")
    with pytest.raises(InputError, match="features of other traces, or they have changed; name a new folder"):
        features(tmp_path / "runs.parquet", out=out)


def test_an_id_that_comes_twice_is_refused_before_any_work(tmp_path: Path) -> None:
    write_traces([make_trace(0)], tmp_path / "a.parquet")
    write_traces([make_trace(0)], tmp_path / "b.parquet")
    for out in (None, tmp_path / "features"):
        with pytest.raises(TraceFormatError, match="transcript_id must be unique; 'run-0000' comes twice"):
            features(tmp_path, **({} if out is None else {"out": out}))


@pytest.mark.slow
def test_memory_is_that_of_a_part_and_not_of_all_runs(tmp_path: Path) -> None:
    """A hundred times as many runs, within a fifth of the same peak."""
    code = (
        "import sys, resource; from trajkit.runs.features import features; "
        "features(sys.argv[1], out=sys.argv[2]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for times in (5, 500):
        path = many(tmp_path / f"{times}.parquet", times)
        command = [sys.executable, "-c", code, str(path), str(tmp_path / f"out {times}")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.2 * peaks[0], f"{peaks[1] / peaks[0]:.2f} times the memory"
