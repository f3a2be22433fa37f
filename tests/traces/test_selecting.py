"""Some of many runs: by number, id, value, mask or function; from files or memory alike, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from trajkit.errors import InputError, TraceFormatError
from trajkit.runs.table import run_table
from trajkit.traces.file import REST, TraceFile
from trajkit.traces.store import Traces, read_traces, write_traces

from .factory import assert_same, make_trace
from .test_store import GOLDEN

WRONG = {"outcome": "hallucination", "success": False, "score": 0.0}
NO_EFFECTS = {"success": None, "score": None, "outcome": "unknown", "effects_kind": None, "effects": np.zeros((3, 0))}
RUNS = [
    make_trace(
        i,
        task_set="math" if i % 2 else "general",
        **(WRONG if i in (1, 4, 8) else {}),
        **(NO_EFFECTS if i == 9 else {}),
    )
    for i in range(10)
]


@pytest.fixture(params=["file", "folder", "memory"])
def traces(request: pytest.FixtureRequest, tmp_path: Path) -> Traces:
    """The same ten runs: of one file in row groups of three, of a folder of two files, and in memory."""
    if request.param == "memory":
        return Traces.of(RUNS)
    if request.param == "file":
        table = pq.read_table(write_traces(RUNS, tmp_path / "whole.parquet"))
        pq.write_table(table, tmp_path / "runs.parquet", row_group_size=3)
        return read_traces(tmp_path / "runs.parquet")
    write_traces(RUNS[:6], tmp_path / "a.parquet")
    write_traces(RUNS[6:], tmp_path / "b.parquet")
    return read_traces(tmp_path)


def numbers(traces: Traces) -> list[int]:
    return [int(name.removeprefix("run-")) for name in traces.ids]


def test_a_run_is_had_by_its_number_or_its_id(traces: Traces) -> None:
    assert_same(traces[7], RUNS[7])
    assert_same(traces[np.int64(-1)], RUNS[9])
    assert_same(traces["run-0007"], RUNS[7])
    assert "run-0007" in traces
    assert "run-0007" not in traces[:7]
    with pytest.raises(IndexError):
        traces[10]


def test_an_id_that_no_run_has_is_answered_with_the_nearest(traces: Traces) -> None:
    with pytest.raises(InputError, match=r"no run 'run-007' in these 10 runs; did you mean 'run-0007'\?"):
        traces["run-007"]
    with pytest.raises(InputError, match="no run 'x' in these 2 runs; known: 'run-0003', 'run-0004'"):
        traces[3:5]["x"]


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (lambda t: t[2:5], [2, 3, 4]),
        (lambda t: t[::-3], [9, 6, 3, 0]),
        (lambda t: t[5:][1:3], [6, 7]),
        (lambda t: t[4:4], []),
        (lambda t: t[[8, 0, -1]], [8, 0, 9]),
        (lambda t: t[["run-0003", "run-0001"]], [3, 1]),
        (lambda t: t[np.array([True, False] * 5)], [0, 2, 4, 6, 8]),
        (lambda t: t.filter(outcome="hallucination"), [1, 4, 8]),
        (lambda t: t.filter(outcome=["hallucination", "unknown"], task_set="math"), [1, 9]),
        (lambda t: t.filter(outcome="failure"), []),
        (lambda t: t.filter(success=None), [9]),
        (lambda t: t.filter(effects_kind=None), [9]),
        (lambda t: t.filter(n_steps=[4, np.int64(5)], success=True), [2, 5, 7]),
        (lambda t: t.filter(score=0), [1, 4, 8]),
        (lambda t: t.filter(outcome="hallucination").filter(task_set="math"), [1]),
        (lambda t: t[1:3].filter(group_id="scene-1"), []),
        (lambda t: t.where(lambda run: run.n_steps == 3), [0, 3, 6, 9]),
        (lambda t: t[::-1].where(lambda run: run.n_steps == 3), [9, 6, 3, 0]),
        (lambda t: t.where([i > 6 for i in range(10)]), [7, 8, 9]),
        (lambda t: t.where(t.to_pandas()["n_steps"] == 3), [0, 3, 6, 9]),
        (lambda t: t.where(t.to_pandas()["success"]), [0, 2, 3, 5, 6, 7]),
        (lambda t: t.where(t.to_pandas().sort_values("n_steps")["n_steps"] == 3), [0, 3, 6, 9]),
        (lambda t: t[5:].where(t[5:].to_pandas()["n_steps"] == 3), [6, 9]),
        (lambda t: t.where(t[5:].to_pandas().set_index("transcript_id")["n_steps"] == 3), [6, 9]),
    ],
)
def test_runs_are_selected(traces: Traces, select: Callable[[Traces], Traces], expected: list[int]) -> None:
    some = select(traces)
    assert isinstance(some, Traces)
    assert numbers(some) == expected
    assert len(some) == len(expected)
    for run, i in zip(some, expected, strict=True):
        assert_same(run, RUNS[i])
    values, offsets = some.effects
    for at, i in enumerate(expected):
        np.testing.assert_array_equal(values[offsets[at] : offsets[at + 1]], RUNS[i].effects.ravel())
    assert some.column("question") == [RUNS[i].question for i in expected]


def test_a_selection_is_read_as_any_runs_are_in_its_own_order(traces: Traces) -> None:
    for some in (traces.filter(success=[True, False]), traces[[8, 0, 3]], traces[9:2:-2], traces[:0]):
        rows = run_table(some).table
        assert rows["transcript_id"].tolist() == list(some.ids)
        expected = run_table(list(some)).table
        pd.testing.assert_frame_equal(rows, expected)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.filter(outcom="success"), r"no column 'outcom' that filter could read; did you mean 'outcome'\?"),
        (
            lambda t: t.filter(outcome="halucination"),
            r"no run has outcome 'halucination'; did you mean 'hallucination'",
        ),
        (lambda t: t.filter(task_set="maths"), r"no run has task_set 'maths'; did you mean 'math'\?"),
        (lambda t: t.filter(task_set=["math", "x"]), r"no run has task_set 'x'; known: 'general', 'math'"),
        (lambda t: t.filter(n_steps="3"), "n_steps is a whole number; got '3'"),
        (lambda t: t.filter(success="yes"), "success is True or False, or None; got 'yes'"),
        (lambda t: t.filter(question=None), "question is a text; got None"),
        (lambda t: t.filter(n_steps=lambda n: n > 3), "give a function of a run to where"),
        (lambda t: t.where(lambda run: run.n_steps), "of 'run-0000' it said '3', a int"),
        (lambda t: t.where([True]), r"one True or False for each of 10 runs; got shape \(1,\)"),
        (lambda t: t.where(range(10)), r"where must have True or False for each run; got .*traces\[\[…\]\]"),
        (lambda t: t.where(t[5:].to_pandas()["n_steps"] == 3), "each of 10 runs; got a Series of 5.*transcript_id"),
        (lambda t: t[5:].where(t.to_pandas().set_index("transcript_id")["n_steps"] == 3), "goes by the index"),
        (lambda t: t[[3, "run-0003"]], "each run once; got run 'run-0003' twice"),
        (lambda t: t.to_pandas(["effect"]), r"no column 'effect' that to_pandas could read"),
    ],
)
def test_what_cannot_be_asked_for_is_named(traces: Traces, ask: Callable[[Traces], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(traces)


def test_an_id_may_not_come_twice_in_memory() -> None:
    with pytest.raises(TraceFormatError, match="'run-0001' comes twice"):
        Traces.of([make_trace(1), make_trace(1)])


def test_a_frame_has_a_row_a_run(traces: Traces) -> None:
    frame = traces.to_pandas()
    assert frame["transcript_id"].tolist() == list(traces.ids)
    assert frame["n_steps"].tolist() == [run.n_steps for run in RUNS]
    assert str(frame["success"].dtype) == "boolean"
    assert frame["success"].isna().tolist() == [False] * 9 + [True]
    steps = traces[2:4].to_pandas(["transcript_id", "steps", "meta"])
    assert [step["text"] for step in steps["steps"][0]] == [step.text for step in RUNS[2].steps]
    assert steps["meta"][1] == '{"temperature": 1.0, "seed": 3}'


def test_any_column_but_long_lists_is_had_from_files_of_any_version(traces: Traces) -> None:
    first = read_traces(GOLDEN)
    for name in REST:
        assert len(first.column(name)) == 3
        assert len(traces.column(name)) == 10
    with pytest.raises(InputError, match="no column 'tokens' that column could read"):
        first.column("tokens")


def test_a_filter_and_a_frame_read_short_columns_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = read_traces(write_traces(RUNS, tmp_path / "runs.parquet"))
    read: list[str] = []
    whole = TraceFile._read
    monkeypatch.setattr(
        TraceFile, "_read", lambda self, columns, *group: [read.extend(columns), whole(self, columns, *group)][1]
    )
    traces.filter(outcome="hallucination", task_set="math").to_pandas(["transcript_id", "answer"])
    assert read == ["outcome", "task_set", "transcript_id", "answer"]


def test_a_function_sees_images_where_it_asks_for_them(tmp_path: Path) -> None:
    traces = read_traces(write_traces(RUNS, tmp_path / "runs.parquet"))
    assert not len(traces.where(lambda run: run.image is not None))
    assert len(traces.where(lambda run: run.image is not None, images=True)) == len(RUNS)


def test_an_image_is_found_that_a_run_outside_the_selection_carries(tmp_path: Path) -> None:
    traces = read_traces(write_traces(RUNS, tmp_path / "runs.parquet"))
    assert traces[2:3][0].image == RUNS[0].image
    write_traces(traces[2:4], tmp_path / "some.parquet")
    assert read_traces(tmp_path / "some.parquet")[1].image == RUNS[0].image


def test_what_traces_are_is_said_in_a_line(traces: Traces) -> None:
    where = {1: "in 1 file", 2: "in 2 files"}.get(len(getattr(traces._backing, "files", ())), "in memory")
    assert repr(traces) == f"Traces(10 runs {where})"
    assert repr(traces[2:5]) == f"Traces(3 of 10 runs {where})"


def test_runs_that_are_held_may_be_changed_and_written(tmp_path: Path) -> None:
    changed = Traces.of(replace(run, outcome="unknown", success=None) for run in Traces.of(RUNS)[:3])
    assert read_traces(write_traces(changed, tmp_path / "runs.parquet")).column("outcome") == ["unknown"] * 3


def test_no_runs_at_all_are_runs_too(tmp_path: Path) -> None:
    for none in (Traces.of([]), read_traces(write_traces([], tmp_path / "none.parquet"))):
        assert (len(none), list(none), list(none.ids)) == (0, [], [])
        assert none.filter(outcome="success").to_pandas().empty
        assert len(none.effects[0]) == 0
        assert isinstance(none[:1], Traces)
