"""Saved runs as the page reads them: numbers as everywhere, one run decoded at a time, labels, and files that come."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.traces.factory import make_trace, png
from trajkit.demo import paths
from trajkit.detection.store import load_detectors
from trajkit.errors import EstimatorMismatchError, InputError, TraceFormatError
from trajkit.live.query import Query, find
from trajkit.live.saved import SavedRuns
from trajkit.runs.table import run_table
from trajkit.traces.file import TraceFile
from trajkit.traces.labels import read_labels, set_label
from trajkit.traces.store import read_traces, write_traces
from trajkit.traces.trace import Step
from trajkit.traces.writer import TraceWriter


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.01)


@pytest.fixture
def opened():
    """Open runs, and leave off at the end."""
    runs = []

    def open_(path) -> SavedRuns:
        runs.append(SavedRuns(path))
        return runs[-1]

    yield open_
    for one in runs:
        one.close()


@pytest.fixture(scope="module")
def demo():
    """The demo's saved runs, and what its detectors say of all of them."""
    runs = SavedRuns(paths.TRACES)
    runs.ask(lambda: load_detectors(paths.DETECTORS))
    until(lambda: not runs.live)
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def demo_table():
    return run_table(paths.TRACES)


def watched_steps(*verdicts: tuple[float | None, bool | None]) -> tuple[Step, ...]:
    made = [Step(f"s{i}.", "thinking", 2 * i, 2 * i + 2, -0.1, 0.1, 0, *two) for i, two in enumerate(verdicts)]
    return (*made, Step("yes", "answer", 2 * len(made), 2 * len(made) + 1, -0.1, 0.1))


def test_rows_say_what_the_table_of_runs_says_in_the_order_of_the_file(demo, demo_table):
    rows, table = demo.rows(), demo_table.table
    for name, column in (
        ("id", "transcript_id"),
        ("question", "question"),
        ("task", "task_set"),
        ("group", "group_id"),
        ("model", "model"),
        ("outcome", "outcome"),
    ):
        assert [row[name] for row in rows] == table[column].tolist()
    saved = read_traces(paths.TRACES)
    for row, trace in zip(rows[::400], saved[::400], strict=True):
        assert row["n_steps"] == trace.n_steps
        assert row["n_tokens"] == trace.steps[-1].token_end
        assert (row["answer"], row["target"]) == (trace.answer, trace.target)
        assert (row["source"], row["state"], row["label"]) == ("saved", "saved", None)


def test_detectors_give_each_run_its_largest_risk_and_the_alarm_that_the_monitor_raises(demo, demo_table):
    detectors = load_detectors(paths.DETECTORS)
    frame = demo_table.frame.assign(risk=detectors.predictor.risks(demo_table.frame))
    largest = frame.groupby("transcript_id", sort=False)["risk"].max()
    rows = [row for row in demo.rows() if row["id"] in largest.index]
    np.testing.assert_allclose([row["risk"] for row in rows], largest[[row["id"] for row in rows]], atol=5e-5)
    alarmed = [row for row in rows if row["alarm"] is not None]
    assert len(alarmed) == (largest > detectors.monitor.threshold).sum() > 10
    by_run = frame.groupby("transcript_id", sort=False)["risk"]
    for row in alarmed[::20]:
        risks = by_run.get_group(row["id"]).to_numpy()
        assert risks[row["alarm"]] > detectors.monitor.threshold >= risks[: row["alarm"]].max(initial=0)


def test_a_document_holds_its_row_and_what_its_trace_holds(demo):
    for at in (0, 1234, 3599):
        trace, row = read_traces(paths.TRACES)[at], demo.rows()[at]
        found = json.loads(json.dumps(demo.document(row["id"]), allow_nan=False))
        assert {name: found[name] for name in row} == row
        assert [step["text"] for step in found["steps"]] == [step.text for step in trace.steps]
        assert [step["index"] for step in found["steps"]] == list(range(trace.n_steps))
        assert [step["tokens"] for step in found["steps"]] == [[s.token_start, s.token_end] for s in trace.steps]
        raw = np.frombuffer(base64.b64decode(found["effects"]["values"]), "<i2") * found["effects"]["unit"]
        np.testing.assert_allclose(raw.reshape(trace.effects.shape), trace.effects, atol=found["effects"]["unit"])
        assert found["image"]["url"].startswith("data:image/png;base64,")
        assert found["n_regions"] == trace.n_regions
        assert [step["alarm"] for step in found["steps"]].count(True) == (row["alarm"] is not None)
        risks = [step["risk"] for step in found["steps"] if step["risk"] is not None]
        assert max(risks) == row["risk"]
        assert found["threshold"] == round(load_detectors(paths.DETECTORS).monitor.threshold, 6)
        assert (found["watches"], found["notes"]) == ("failure", [])
        assert "The outcome classifier" in found["reading"]


def test_words_are_not_counted_as_tokens(opened, tmp_path):
    trace = read_traces(paths.TRACES)[0]
    write_traces(
        [replace(trace, meta={"counted_in": "words"}), replace(trace, transcript_id="other")], tmp_path / "two"
    )
    runs = opened(tmp_path / "two")
    assert runs.document(trace.transcript_id)["n_tokens"] == 0
    assert runs.document("other")["n_tokens"] == trace.steps[-1].token_end


def test_an_alarm_says_its_reason_on_the_step_that_raises_it_alone(demo):
    row = next(row for row in demo.rows() if row["alarm"])
    steps = demo.document(row["id"])["steps"]
    assert [step["alarm"] for step in steps] == [at == row["alarm"] for at in range(len(steps))]
    assert steps[row["alarm"]]["reason"].startswith("risk 0.")
    assert not any(step["reason"] for step in steps if not step["alarm"])


def test_a_run_that_the_detectors_were_made_from_is_said_to_be_seen(demo):
    card = load_detectors(paths.DETECTORS).card
    groups = {row["group"]: row["id"] for row in demo.rows()}
    for part, seen in (("fit_groups", True), ("test_groups", False)):
        group = next(name for name in card[part] if name in groups)
        assert demo.document(groups[group])["seen"] is seen


def test_a_run_is_decoded_from_its_own_row_group_alone_and_rows_decode_none(opened, tmp_path, monkeypatch):
    write_traces([make_trace(i) for i in range(200)], tmp_path / "runs.parquet")
    read, whole = [], TraceFile._read

    def reading(self, columns, group=None):
        read.append((tuple(columns), group))
        return whole(self, columns, group)

    monkeypatch.setattr(TraceFile, "_read", reading)
    runs = opened(tmp_path)
    assert len(runs.rows()) == 200
    assert read == []
    assert runs.document("run-0150")["answer"] == "yes"
    assert [group for columns, group in read if columns != ("image_sha256",)] == [2]


def test_a_run_comes_back_as_it_was_saved_with_half_widths_and_a_picture_of_another_row_or_file(opened, tmp_path):
    widths = np.full((4, 3), 0.25, np.float32)
    with_image = [make_trace(i, half_widths=widths if i == 1 else None) for i in range(4)]  # one picture for all four
    write_traces(with_image[:3], tmp_path / "a.parquet")
    write_traces([make_trace(3, image=None, image_sha256=with_image[0].image_sha256)], tmp_path / "b.parquet")
    runs = opened(tmp_path)
    found = [runs.document(f"run-{i:04d}") for i in range(4)]
    shown = Image.open(io.BytesIO(base64.b64decode(found[3]["image"]["url"].removeprefix("data:image/png;base64,"))))
    assert shown.tobytes() == Image.open(io.BytesIO(png(0))).tobytes()
    assert len({one["image"]["url"] for one in found}) == 1
    assert [one["half_widths"] is not None for one in found] == [False, True, False, False]
    raw = base64.b64decode(found[1]["half_widths"]["values"])
    np.testing.assert_allclose(np.frombuffer(raw, "<i2") * found[1]["half_widths"]["unit"], 0.25, rtol=1e-4)


def test_verdicts_that_were_saved_are_shown_where_no_detectors_are_asked(opened, tmp_path):
    steps = watched_steps((0.2, False), (0.7, True), (0.9, False))
    effects = np.zeros((4, 3), np.float32)
    plain = make_trace(1)
    write_traces([make_trace(0, steps=steps, effects=effects), plain], tmp_path / "runs.parquet")
    runs = opened(tmp_path)
    first, second = runs.rows()
    assert runs.watched
    assert (first["risk"], first["alarm"]) == (0.9, 1)
    assert (second["risk"], second["alarm"]) == (None, None)
    found = runs.document("run-0000")
    assert [step["risk"] for step in found["steps"]] == [0.2, 0.7, 0.9, None]
    assert [step["alarm"] for step in found["steps"]] == [False, True, False, False]
    assert found["steps"][1]["reason"] == "the monitor that watched the run raised its alarm here"
    assert found["threshold"] is found["seen"] is None
    assert runs.document("run-0001")["watches"] is None


def test_what_a_policy_did_stands_on_its_step_and_in_the_row(opened, tmp_path):
    decided = [
        {"step": 1, "action": "ask again", "reason": "first"},
        {"step": 2, "action": "answer now", "reason": "failure is likely after step 2 (0.70 is above 0.65)"},
    ]
    meta = {"decisions": decided, "attempt": 1, "began": 1_700_000_000.5, "first_wrong": 2}
    steps = watched_steps((0.2, False), (0.7, True), (0.9, False))
    write_traces([make_trace(0, steps=steps, effects=np.zeros((4, 3), np.float32), meta=meta)], tmp_path / "r.parquet")
    runs = opened(tmp_path / "r.parquet")
    (row,) = runs.rows()
    assert (row["decision"], row["began"]) == ("answer now", 1_700_000_000.5)
    steps = runs.document("run-0000")["steps"]
    assert [step["decision"] and step["decision"]["action"] for step in steps] == [None, "answer now", None, None]
    assert steps[1]["reason"] == decided[1]["reason"]
    assert [step["attempt"] for step in steps] == [1, 1, 1, 1]
    assert [step["wrong"] for step in steps] == [False, False, True, False]
    assert runs.set_label(runs.rows()[0]["id"], "success")
    assert not any(step["wrong"] for step in runs.document(runs.rows()[0]["id"])["steps"])


def test_a_label_takes_the_place_of_the_outcome_and_gives_it_back(opened, tmp_path):
    write_traces([make_trace(0), make_trace(1, success=False, outcome="unknown")], tmp_path / "runs.parquet")
    runs = opened(tmp_path)
    assert [row["outcome"] for row in runs.rows()] == ["success", "failure"]
    assert runs.set_label("run-0001", "hallucination")
    assert [(row["outcome"], row["label"]) for row in runs.rows()] == [
        ("success", None),
        ("hallucination", "hallucination"),
    ]
    assert runs.document("run-0001")["outcome"] == "hallucination"
    assert read_labels(tmp_path) == {"run-0001": "hallucination"}
    assert [row["id"] for row in find(runs.rows(), Query.where(["label=hallucination"])).rows] == ["run-0001"]
    assert runs.set_label("run-0001", None)
    assert runs.rows()[1]["outcome"] == "failure"
    assert not runs.set_label("not there", "success")
    with pytest.raises(InputError, match="a label must be"):
        runs.set_label("run-0001", "fine")


def test_labels_of_runs_that_are_not_there_are_kept(opened, tmp_path):
    write_traces([make_trace(0)], tmp_path / "runs.parquet")
    set_label(tmp_path, "gone", "success")
    runs = opened(tmp_path)
    assert (runs.given, runs.labelled) == (1, 0)
    runs.set_label("run-0000", "success")
    assert set(read_labels(tmp_path)) == {"gone", "run-0000"}
    assert (runs.given, runs.labelled) == (2, 1)


def test_runs_and_labels_that_come_while_they_are_looked_at_are_seen(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("trajkit.live.saved._LOOK", 0.01)
    folder = tmp_path / "runs"
    runs = opened(folder)
    assert runs.rows() == []
    with TraceWriter(folder) as writer:
        for i in range(3):
            writer.add(make_trace(i))
            writer.flush()
            until(lambda n=i + 1: len(runs.rows()) == n)
    assert runs.live
    set_label(folder, "run-0002", "hallucination")
    until(lambda: runs.rows()[2]["label"] == "hallucination")
    assert runs.document("run-0002")["label"] == "hallucination"
    shutil.rmtree(folder)
    until(lambda: runs.rows() == [])


def test_a_file_that_is_damaged_later_leaves_the_runs_that_are_known(opened, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("trajkit.live.saved._LOOK", 0.01)
    write_traces([make_trace(0)], tmp_path / "a.parquet")
    runs = opened(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    until(lambda: runs.rows() and "b.parquet" in caplog.text)
    write_traces([make_trace(1)], tmp_path / "c.parquet")
    until(lambda: len(runs.rows()) == 2)
    assert caplog.text.count("not a Parquet file") == 1
    assert "b.parquet: not a Parquet file" in runs.trouble
    write_traces([make_trace(2)], tmp_path / "b.parquet")
    until(lambda: len(runs.rows()) == 3)
    assert runs.trouble == ""


def test_ids_that_come_twice_and_damage_are_refused_at_once(tmp_path):
    write_traces([make_trace(0)], tmp_path / "a.parquet")
    write_traces([make_trace(0)], tmp_path / "b.parquet")
    with pytest.raises(TraceFormatError, match="'run-0000' comes twice"):
        SavedRuns(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(TraceFormatError, match=r"b\.parquet"):
        SavedRuns(tmp_path)


def test_detectors_of_another_model_say_nothing_and_that_is_said(opened, tmp_path):
    write_traces([make_trace(0)], tmp_path / "runs.parquet")
    runs, detectors = opened(tmp_path), load_detectors(paths.DETECTORS)
    with pytest.raises(EstimatorMismatchError, match="these traces hold runs of 'demo'"):
        runs.check(detectors)
    runs.ask(lambda: detectors)
    until(lambda: not runs.live)
    assert runs.rows()[0]["risk"] is None
    assert "this run is not, so no risk is shown" in runs.document("run-0000")["notes"][-1]


def test_detectors_that_cannot_be_loaded_are_said_once_and_runs_are_shown_without(opened, tmp_path, caplog):
    write_traces([make_trace(0)], tmp_path / "runs.parquet")
    runs = opened(tmp_path)
    runs.ask(lambda: load_detectors(tmp_path))
    assert runs.document("run-0000")["steps"][0]["risk"] is None
    until(lambda: not runs.live)
    assert caplog.text.count("no detectors in") == 1
    assert runs.trouble.startswith("No risk is shown: no detectors in")


def test_neither_a_model_nor_a_server_is_loaded():
    code = (
        "import sys, trajkit.live.saved, trajkit.live.query, trajkit.live.documents; "
        "print({'torch', 'transformers', 'starlette', 'sklearn', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
