"""Runs are taken out whole or not at all, into folders in which nothing of anybody else's is lost."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trajkit as tk
from trajkit.errors import InputError
from trajkit.strict_json import parse_json
from trajkit.traces.exporters import FORMATS, export_traces
from trajkit.traces.exporters.folder import MARK
from trajkit.traces.store import Traces, read_traces, write_traces

from ..factory import make_trace
from ..test_store import any_trace

RUNS = [make_trace(i) for i in range(4)]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_takes_files_selections_and_runs_in_memory(tmp_path: Path, format: str) -> None:
    saved = write_traces(RUNS, tmp_path / "runs.parquet")
    traces = read_traces(saved)
    seen: list[int] = []
    for number, source in enumerate((saved, traces, traces[1:3], Traces.of(RUNS), iter(RUNS))):
        out = tk.export_traces(
            source, tmp_path / format / str(number), format=format, advance=lambda _, n: seen.append(n)
        )
        assert out.exists()
    assert len(seen) == 4 + 4 + 2 + 4 + 4


@pytest.mark.parametrize("format", ["scout", "csv", "hf", "inspect"])
def test_a_folder_is_filled_again_and_what_others_put_there_is_kept(tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    export_traces(RUNS, out, format=format)
    first = sorted(path.relative_to(out) for path in out.rglob("*"))
    export_traces(RUNS[:2], out, format=format)
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == first
    (out / "LICENSE").write_text("mine")
    with pytest.raises(InputError, match="holds another file, LICENSE; name a new or empty folder"):
        export_traces(RUNS, out, format=format)
    (out / "LICENSE").unlink()
    changed = next(path for path in sorted(out.rglob("*")) if path.is_file() and path.name != MARK)
    before = changed.read_bytes()
    changed.write_bytes(before + b"mine")
    with pytest.raises(InputError, match="was changed after it was exported, and would be lost"):
        export_traces(RUNS, out, format=format)
    assert changed.read_bytes() == before + b"mine"


def test_another_format_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    export_traces(RUNS, tmp_path / "out", format="hf")
    export_traces(RUNS, tmp_path / "out", format="csv")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        MARK,
        "runs.csv",
        "steps.csv",
    ]


def test_a_list_of_files_that_is_damaged_frees_nothing(tmp_path: Path) -> None:
    export_traces(RUNS, tmp_path / "out", format="csv")
    for text in ("", "[]", '{"runs.csv": 3, "steps.csv": null}'):
        (tmp_path / "out" / MARK).write_text(text)
        with pytest.raises(InputError):
            export_traces(RUNS, tmp_path / "out", format="csv")


def test_a_link_in_the_folder_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    export_traces(RUNS, tmp_path / "out", format="csv")
    os.replace(tmp_path / "out" / "runs.csv", tmp_path / "mine")
    (tmp_path / "out" / "runs.csv").symlink_to(tmp_path / "mine")
    export_traces(RUNS[:1], tmp_path / "out", format="csv")  # the content is as it was written
    assert len((tmp_path / "mine").read_text().splitlines()) == 5
    assert not (tmp_path / "out" / "runs.csv").is_symlink()


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    export_traces(RUNS, out, format=format)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def failing(trace: tk.Trace) -> tk.Trace:
        if trace.transcript_id == "run-0002":
            raise RuntimeError("no")
        return replace(trace, question="other")

    with pytest.raises(RuntimeError):
        export_traces(RUNS, out, format=format, change=failing)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_written_may_be_changed_on_the_way(tmp_path: Path) -> None:
    path = export_traces(RUNS, tmp_path / "r.jsonl", change=lambda trace: replace(trace, question="other"))
    assert {json.loads(line)["question"] for line in path.read_text().splitlines()} == {"other"}


@pytest.mark.parametrize(
    ("path", "format", "message"),
    [
        ("out", None, "out does not tell its format; say format: scout, inspect, hf, jsonl, csv"),
        ("out.txt", "jsnol", r"got 'jsnol': did you mean 'jsonl'\?"),
        ("file", "scout", "file is a file; name a folder"),
        ("folder", "jsonl", "it is a folder, and a file is expected"),
        ("folder", "hf", "holds another file, mine"),
    ],
)
def test_what_cannot_be_is_said_before_any_run_is_read(tmp_path: Path, path: str, format: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("")
    with pytest.raises(InputError, match=message):
        export_traces(tmp_path / "no such runs", tmp_path / path, format=format)


def test_no_run_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run to export"):
        export_traces([], tmp_path / "runs.jsonl")
    assert not (tmp_path / "runs.jsonl").exists()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(any_trace(), min_size=1, max_size=3, unique_by=lambda trace: trace.transcript_id))
def test_every_format_takes_whatever_a_trace_can_hold(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tk.Trace]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    runs = [replace(run, model="one") for run in runs]
    for name in ("r.jsonl", "r.eval", "r.json"):
        export_traces(runs, folder / name)
    for format in ("scout", "csv", "hf"):
        export_traces(runs, folder / format, format=format)
    lines = [parse_json(line) for line in (folder / "r.jsonl").read_text(encoding="ascii").splitlines()]
    assert [line["transcript_id"] for line in lines] == [run.transcript_id for run in runs]
    assert len(parse_json((folder / "r.json").read_text(encoding="ascii"))["samples"]) == len(runs)
    assert len(pd.read_csv(folder / "csv" / "runs.csv")) == len(runs)


@pytest.mark.parametrize("format", FORMATS)
def test_what_no_file_could_hold_is_refused_by_name(tmp_path: Path, format: str) -> None:
    for change in ({"meta": {"x": object()}}, {"question": "half \ud800"}, {"transcript_id": ""}):
        with pytest.raises(InputError, match="run"):
            export_traces([make_trace(0, **change)], tmp_path / "out", format=format)
    assert list(tmp_path.iterdir()) == []
    numbers = make_trace(0, meta={"x": np.float32(0.5), "seed": np.int64(3)}, score=float("nan"), success=None)
    export_traces([replace(numbers, outcome="unknown")], tmp_path / "out", format=format)


def test_one_run_is_exported_and_changed_places_are_told(tmp_path):
    run = tk.read_traces("data/demo/traces")[0]
    assert len(tk.export_traces(run, tmp_path / "one.jsonl").read_text().splitlines()) == 1
    with pytest.raises(InputError, match="runs, then a path"):
        tk.export_traces(tmp_path / "two.jsonl", tk.Traces.of([run]))  # type: ignore[arg-type]
