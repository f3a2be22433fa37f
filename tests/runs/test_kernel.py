"""The kernel: a row a run, each as the run alone would have it, whatever stands in the batch beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.traces.factory import make_trace
from trajkit.runs.columns import METRICS
from trajkit.runs.kernel import NO_EFFECTS, NO_THINKING, Wanted, rows_of
from trajkit.runs.source import batches
from trajkit.traces.trace import Step
from trajkit.trajectory.features import FEATURE_NAMES, prefix_features
from trajkit.trajectory.runs import run_metrics

ALL = Wanted(effects=True, hidden=True, regions=True)


def some_trace(number):
    """A run of its own number of regions and steps; some without effects, without thinking, or with thoughts after the
    answer."""
    rng = np.random.default_rng(number)
    t, k = int(rng.integers(1, 12)), int(rng.integers(1, 7))
    kinds = ["thinking"] * (t - 1) + ["answer"]
    if number % 7 == 3:
        kinds = ["answer"] * t
    if number % 7 == 4:
        kinds = kinds[::-1]
    starts = np.cumsum(rng.integers(1, 9, t + 1))
    steps = tuple(
        Step(f"s {i}", kind, int(starts[i]), int(starts[i + 1]), -float(rng.random()), float(rng.random()))
        for i, kind in enumerate(kinds)
    )
    bare = number % 7 == 5
    return make_trace(
        number,
        steps=steps,
        effects=np.zeros((t, 0), np.float32) if bare else rng.normal(size=(t, k)).astype("f4"),
        effects_kind=None if bare else "measured",
        regions=np.arange(480).reshape(20, 24) % k,
        hidden=rng.normal(size=(t, 3)).astype("f4") if number % 2 else None,
        meta={"kind": f"form {number % 3}", "detail": "wrong step" if number % 5 == 0 else "", "fingerprint": "f0"},
    )


TRACES = [some_trace(number) for number in range(40)]


def rows(traces, wanted=ALL):
    return pa.Table.from_batches([rows_of(batch, wanted) for batch in batches(traces, wanted.reads())])


def test_each_run_is_a_row_in_order_with_what_it_says_of_itself():
    table = rows(TRACES)
    assert table.schema == ALL.schema()
    for name in ("transcript_id", "group_id", "task_set", "model", "success", "outcome", "effects_kind", "n_regions"):
        assert table[name].to_pylist() == [getattr(trace, name) for trace in TRACES]
    assert table["form"].to_pylist() == [trace.meta["kind"] for trace in TRACES]
    assert table["detail"].to_pylist() == [trace.meta["detail"] for trace in TRACES]
    assert table["fingerprint"].to_pylist() == ["f0"] * len(TRACES)
    assert table["n_steps"].to_pylist() == [int(trace.thinking.sum()) for trace in TRACES]


def test_prefix_features_metrics_effects_and_hidden_states_are_each_runs_own():
    table = rows(TRACES)
    for trace, row in zip(TRACES, table.to_pylist(), strict=True):
        thinking = trace.thinking
        bare = trace.effects_kind is None
        why = NO_EFFECTS if bare else "" if thinking.any() else NO_THINKING
        assert row["left_out"] == why
        assert len(row["prefixes"]) == thinking.sum()
        steps = [step for step in trace.steps if step.kind == "thinking"]
        alone = prefix_features(
            trace.effects[thinking],
            n_tokens=np.cumsum([step.n_tokens for step in steps]),
            logprob=[step.logprob for step in steps],
            entropy=[step.entropy for step in steps],
        )
        for name in FEATURE_NAMES:
            np.testing.assert_array_equal([step[name] for step in row["prefixes"]], alone[name], err_msg=name)
        for name, column in run_metrics(trace.effects[thinking], [0, thinking.sum()]).items():
            expected = column[0] if not why or name == "n_steps" else np.nan
            np.testing.assert_array_equal(row[name], expected, err_msg=name)
        np.testing.assert_array_equal(np.float32(row["effects"]), trace.effects[thinking].ravel())
        if trace.hidden is not None:
            np.testing.assert_array_equal(np.float32(row["hidden"]), trace.hidden[thinking].ravel())
        else:
            assert row["hidden"] is None


@pytest.mark.parametrize("size", [1, 3, 7])
def test_how_runs_are_batched_changes_no_bit(size):
    parts = [rows_of(batch, ALL) for batch in batches(TRACES, ALL.reads(), size)]
    assert repr(pa.Table.from_batches(parts).to_pylist()) == repr(rows(TRACES).to_pylist())


def test_no_runs_are_no_rows():
    empty = next(batches(TRACES, ALL.reads())).slice(0, 0)
    assert rows_of(empty, ALL).num_rows == 0


def test_runs_that_all_lack_effects_are_rows_that_say_so():
    bare = [replace(trace, effects=np.zeros((len(trace.steps), 0), "f4"), effects_kind=None) for trace in TRACES]
    table = rows(bare)
    assert table["left_out"].to_pylist() == [NO_EFFECTS] * len(TRACES)
    assert np.isnan([table[field.name].to_numpy() for field in METRICS]).all()
    for trace, prefixes in zip(TRACES, table["prefixes"].to_pylist(), strict=True):
        steps = [step for step in trace.steps if step.kind == "thinking"]
        assert [row["n_tokens"] for row in prefixes] == np.cumsum([step.n_tokens for step in steps]).tolist()
        assert all(np.isnan(row["path_length"]) for row in prefixes)


def test_only_what_is_wanted_is_worked_out():
    assert rows(TRACES, Wanted(metrics=False)).schema.names[-1] == "prefixes"
    assert rows(TRACES, Wanted(prefixes=False, metrics=False)).schema.names[-1] == "left_out"
