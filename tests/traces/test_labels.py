"""Labels of runs: read back as they were given, whoever else gives some meanwhile; a file of something else is said."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from tests.traces.factory import make_trace
from trajkit.errors import InputError, WriteError
from trajkit.files import lock_file
from trajkit.runs.table import run_table
from trajkit.traces import labels
from trajkit.traces.labels import labels_file, read_labels, set_label
from trajkit.traces.store import read_traces, write_traces

GIVE = """
import sys
from trajkit.traces.labels import set_label
for i in range(40):
    set_label(sys.argv[1], f"{sys.argv[2]}-{i}", "hallucination")
"""


def test_a_label_is_read_back_changed_and_taken_away(tmp_path):
    set_label(tmp_path, "run-1", "hallucination")
    set_label(tmp_path, "a/b é\n", "success")
    assert read_labels(tmp_path) == {"run-1": "hallucination", "a/b é\n": "success"}
    set_label(tmp_path, "run-1", "reasoning_failure")
    set_label(tmp_path, "a/b é\n", None)
    set_label(tmp_path, "never there", None)
    assert read_labels(tmp_path) == {"run-1": "reasoning_failure"}
    record = json.loads((tmp_path / "labels.json").read_text())
    assert record["format"] == 1
    assert record["labels"]["run-1"]["at"] > 1e9


def test_labels_are_beside_a_file_and_in_a_folder_and_neither_is_taken_for_runs(tmp_path):
    write_traces([make_trace(0)], tmp_path / "runs.parquet")
    set_label(tmp_path / "runs.parquet", "run-0000", "success")
    set_label(tmp_path, "run-0000", "hallucination")
    assert labels_file(tmp_path / "runs.parquet") == tmp_path / "runs.labels.json"
    assert read_labels(tmp_path / "runs.parquet") == {"run-0000": "success"}
    assert read_labels(tmp_path) == {"run-0000": "hallucination"}
    assert read_traces(tmp_path).ids == ["run-0000"]


def test_there_are_none_where_there_is_no_file(tmp_path):
    assert read_labels(tmp_path) == read_labels(tmp_path / "not there") == {}


def test_processes_and_threads_that_label_at_once_lose_nothing(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", GIVE, str(tmp_path), name]) for name in ("a", "b")]
    threads = [
        threading.Thread(target=lambda n=n: [set_label(tmp_path, f"t{n}-{i}", "success") for i in range(20)])
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert read_labels(tmp_path) == {f"{name}-{i}": "hallucination" for name in "ab" for i in range(40)} | {
        f"t{n}-{i}": "success" for n in range(2) for i in range(20)
    }
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["labels.json"]


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "no format": '{"labels": {}}',
    "a later format": '{"format": 2, "labels": {}}',
    "no labels": '{"format": 1, "labels": []}',
    "another label": '{"format": 1, "labels": {"a": {"label": "fine"}}}',
    "a bare label": '{"format": 1, "labels": {"a": "success"}}',
    "a run that stands twice": '{"format": 1, "labels": {"a": {"label": "success"}, "a": {"label": "success"}}}',
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_of_something_else_is_said_and_left_as_it_is(what, tmp_path):
    (tmp_path / "labels.json").write_text(BROKEN[what])
    for work in (lambda: read_labels(tmp_path), lambda: set_label(tmp_path, "a", "success")):
        with pytest.raises(InputError, match=r"labels\.json does not hold labels of runs .* Correct it"):
            work()
    assert (tmp_path / "labels.json").read_text() == BROKEN[what]


def test_a_label_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="one of success, hallucination, reasoning_failure, or null"):
        set_label(tmp_path, "a", "fine")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not be written"):
        set_label(tmp_path / "file" / "traces", "a", "success")


def test_whoever_waits_too_long_for_another_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "_PATIENCE", 0.05)
    with lock_file(tmp_path / ".labels.json.lock", 0) as ours:
        assert ours
        with pytest.raises(InputError, match="another process has been writing"):
            set_label(tmp_path, "a", "success")
    set_label(tmp_path, "a", "success")


def test_a_table_of_runs_takes_labels_in_place_of_outcome_and_success():
    traces = [
        make_trace(0),
        make_trace(1, success=False, outcome="hallucination", meta={"detail": "misread"}),
        make_trace(2, success=None, outcome="unknown", meta={"detail": "none"}),
        make_trace(3, success=False, outcome="hallucination", meta={"detail": "misread"}),
        make_trace(4),
    ]
    given = {
        "run-0000": "hallucination",
        "run-0001": "reasoning_failure",
        "run-0002": "success",
        "run-0003": "hallucination",
        "of no run": "success",
    }
    before = run_table(traces)
    after = before.labelled(given)
    assert after.table["outcome"].tolist() == [
        "hallucination",
        "reasoning_failure",
        "success",
        "hallucination",
        "success",
    ]
    assert after.table["success"].tolist() == [False, False, True, False, True]
    assert after.table["failed"].tolist() == [1, 1, 0, 1, 0]
    assert after.table["detail"].tolist() == ["", "", "", "misread", ""]
    assert after.frame.groupby("transcript_id")["outcome"].first()["run-0000"] == "hallucination"
    assert set(after.by_hand) == set(given) - {"of no run"}
    assert after.rows.schema == before.rows.schema
    assert before.labelled({"of no run": "success"}) is before
    assert before.table["outcome"][0] == "success"
