"""trajkit export: which runs, in which form, with what labels and detectors say of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from trajkit.detection.store import load_detectors
from trajkit.live.verdicts import Judge
from trajkit.traces.labels import labels_file, set_label
from trajkit.traces.store import read_traces, write_traces


@pytest.fixture
def copied(traces, tmp_path):
    """Runs that may be labelled."""
    return write_traces(read_traces(traces), tmp_path / "runs.parquet")


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.mark.parametrize(
    ("name", "form", "opened"),
    [
        ("runs.jsonl", None, "jq . "),
        ("runs.eval", None, "inspect view start --log-dir "),
        ("logs", "inspect", "inspect view start --log-dir "),
        ("db", "scout", "scout scan SCANNER.py -T "),
        ("set", "hf", "datasets.load_dataset('"),
        ("tables", "csv", "pandas.read_csv('"),
    ],
)
def test_every_format_is_written_and_the_last_lines_say_where_and_how_to_open_it(
    cli, traces, tmp_path, name, form, opened
):
    out = tmp_path / name
    result = cli("export", traces, "--out", out, *(("--format", form) if form else ()))
    assert (result.code, out.exists()) == (0, True), result.err
    said = result.out.splitlines()
    assert said[0].startswith(f"Wrote 240 runs to {out} (")
    assert said[1].startswith(f"Open it with: {opened}")
    assert str(tmp_path) in said[1]


def test_where_chooses_runs_as_it_does_in_the_report(cli, traces, tmp_path):
    out = tmp_path / "runs.jsonl"
    asked = ("--where", "outcome=hallucination", "--where", "task=math")
    result = cli("export", traces, "--out", out, *asked)
    expected = read_traces(traces).filter(outcome="hallucination", task_set="math")
    assert [line["transcript_id"] for line in lines(out)] == list(expected.ids)
    assert f"Wrote {len(expected)} of 240 runs to" in result.out
    result = cli("export", traces, "--out", out, "--where", "search=zebra")
    result.assert_one_line_error("none of 240 runs is what was asked for")
    cli("export", traces, "--out", out, "--where", "colour=red").assert_one_line_error("expected KEY=VALUE")


def test_detectors_say_the_risk_and_alarm_that_the_page_shows(cli, traces, detectors, tmp_path):
    out, alarmed = tmp_path / "runs.jsonl", tmp_path / "alarmed.jsonl"
    assert cli("export", traces, "--out", out, "--detectors", detectors).code == 0
    asked = ("--detectors", detectors, "--where", "alarmed=yes")
    assert cli("export", traces, "--out", alarmed, *asked).code == 0
    judge = Judge(load_detectors(detectors))
    for trace, line in list(zip(read_traces(traces), lines(out), strict=True))[::8]:
        shown = judge.verdicts(trace)
        said = [np.nan if step["risk"] is None else step["risk"] for step in line["steps"]]
        np.testing.assert_allclose(said, shown.risks)
        assert [at for at, step in enumerate(line["steps"]) if step["alarm"]] == [shown.alarm] * (
            shown.alarm is not None
        )
    raised = [line["transcript_id"] for line in lines(out) if any(step["alarm"] for step in line["steps"])]
    assert 0 < len(raised) < 240
    assert [line["transcript_id"] for line in lines(alarmed)] == raised


def test_a_run_that_detectors_cannot_judge_has_no_risk(cli, traces, detectors, tmp_path):
    first, other = read_traces(traces)[:2]
    bare = replace(other, effects=np.zeros((other.n_steps, 0), np.float32), effects_kind=None)
    mixed = write_traces([first, bare], tmp_path / "mixed.parquet")
    assert cli("export", mixed, "--out", tmp_path / "m.jsonl", "--detectors", detectors).code == 0
    judge = Judge(load_detectors(detectors))
    for trace, line in zip((first, bare), lines(tmp_path / "m.jsonl"), strict=True):
        said = [np.nan if step["risk"] is None else step["risk"] for step in line["steps"]]
        np.testing.assert_allclose(said, judge.verdicts(trace).risks)


def test_runs_that_nobody_watched_have_no_alarms_to_ask_for(cli, traces, tmp_path):
    result = cli("export", traces, "--out", tmp_path / "r.jsonl", "--where", "alarmed=no")
    result.assert_one_line_error("no monitor watched them", "--detectors")


def test_detectors_of_another_model_are_refused(cli, tmp_path, detectors, make_trace):
    other = write_traces([make_trace(0, 0, False, np.random.default_rng(0), model="other")], tmp_path / "o.parquet")
    result = cli("export", other, "--out", tmp_path / "o.jsonl", "--detectors", detectors)
    result.assert_one_line_error("other")
    assert not (tmp_path / "o.jsonl").exists()


def test_labels_take_the_place_of_outcomes(cli, copied, tmp_path):
    set_label(copied, "g0-0", "reasoning_failure")
    set_label(copied, "not here", "success")
    assert labels_file(copied).exists()
    result = cli("export", copied, "--out", tmp_path / "db", "--format", "scout")
    assert "1 run labelled by hand, in place of its outcome." in result.err
    row = pq.read_table(tmp_path / "db" / "transcripts.parquet").to_pylist()[0]
    assert (row["transcript_id"], row["outcome"], row["success"]) == ("g0-0", "reasoning_failure", False)
    assert json.loads(row["meta"])["label"] == "reasoning_failure"
    asked = ("--where", "label=reasoning_failure")
    assert cli("export", copied, "--out", tmp_path / "one.jsonl", *asked).code == 0
    assert [line["transcript_id"] for line in lines(tmp_path / "one.jsonl")] == ["g0-0"]


def test_lines_go_through_a_pipe_alone(traces):
    import subprocess
    import sys

    command = [sys.executable, "-m", "trajkit", "export", str(traces), "--out", "/dev/stdout", "--format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 240


def test_a_path_that_tells_no_format_asks_for_one(cli, traces, tmp_path):
    cli("export", traces, "--out", tmp_path / "out").assert_one_line_error("does not tell its format", "scout")
