"""`trajkit collect` on a user's own folder."""

from __future__ import annotations

import errno
import json
import signal

import numpy as np
import pytest

from trajkit.traces.store import read_traces, write_traces


@pytest.fixture
def collect(cli, model_and_estimator):
    return lambda *arguments: cli("collect", *arguments, *model_and_estimator, "--max-new-tokens", "60")


def test_every_question_gets_its_runs_and_successes_are_counted(collect, questions, tmp_path):
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "2")
    assert result.code == 0, result.err
    assert "4 runs of 2 questions" in result.out
    assert "of 4 with a target succeeded" in result.out
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q0-1", "q1-0", "q1-1"]


def test_hidden_states_are_kept_when_asked_for_and_a_folder_holds_one_kind(collect, questions, tmp_path):
    out = tmp_path / "traces"
    assert collect(questions(1), "--out", out, "--samples", "1", "--keep-hidden").code == 0
    trace = read_traces(out)[0]
    assert trace.hidden.shape[0] == trace.n_steps
    assert trace.hidden.shape[1] <= 128
    assert np.ptp(trace.hidden) > 0
    collect(questions(2), "--out", out, "--samples", "1").assert_one_line_error("keep_hidden")


def test_running_again_goes_on_and_doubles_nothing(collect, questions, tmp_path):
    collect(questions(1), "--out", tmp_path / "traces", "--samples", "1")
    first = read_traces(tmp_path / "traces")[0]
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "1")
    assert "2 runs of 2 questions" in result.out
    assert "(1 new)" in result.out
    again = {trace.transcript_id: trace for trace in read_traces(tmp_path / "traces")}
    assert again["q0-0"].steps == first.steps


def test_questions_without_a_target_are_fine(collect, questions, tmp_path):
    result = collect(questions(1, target=None), "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 0
    assert "no targets" in result.out
    assert read_traces(tmp_path / "traces")[0].outcome == "unknown"


def test_a_bad_image_in_the_middle_is_reported_and_the_rest_collected(collect, questions, tmp_path):
    path = questions(3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["image"] = "broken.png"
    path.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 1
    assert "left out question q1" in result.err
    assert "1 of 3 questions could not be used" in result.err
    assert "Traceback" not in result.err
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q2-0"]


def test_a_missing_image_is_left_out_like_a_damaged_one_and_named_by_its_line(collect, questions, tmp_path):
    path = questions(2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join([json.dumps({"image": "gone.png", "question": "how many?"}), *map(json.dumps, rows)]))
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 1
    reported = next(line for line in result.err.splitlines() if "left out question" in line)
    assert "(line 1, gone.png)" in reported
    assert "gone.png does not exist" in reported
    assert "1 of 3 questions could not be used" in result.err
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q1-0"]


def test_a_damaged_image_is_named_by_its_line_too(collect, questions, tmp_path):
    path = questions(2)
    (tmp_path / "scene.png").write_bytes(b"not a picture")
    result = collect(path, "--out", tmp_path / "traces", "--samples", "1")
    assert "left out question q1 (line 2, scene.png): " in result.err


def test_too_few_groups_are_not_sent_to_fit(collect, questions, tmp_path):
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "1")
    assert "Next: trajkit report" in result.out or "Next: trajkit analyze" in result.out
    assert "trajkit fit needs" in result.out


def test_what_is_suggested_next_can_be_run(cli, traces, tmp_path, make_trace):
    from trajkit.cli.collect import _next

    rng = np.random.default_rng(0)

    def suggestion(*failed: bool | None) -> str:
        runs = [make_trace(group, 0, f, rng) for group, f in enumerate(failed)]
        return _next(read_traces(write_traces(runs, tmp_path / "t.parquet")), tmp_path / "t.parquet")

    assert suggestion(None, None).startswith("trajkit report")
    assert suggestion(True, True).startswith("trajkit report")
    assert suggestion(True, False, True).startswith("trajkit analyze")
    assert _next(read_traces(traces), traces) == f"trajkit fit {traces} --out detectors"


def test_a_line_that_is_no_json_names_the_line(collect, questions, tmp_path):
    path = questions(1)
    path.write_text(path.read_text() + "{broken\n")
    collect(path, "--out", tmp_path / "traces").assert_one_line_error("line 2", "not JSON")


def test_a_full_disk_is_one_line_and_loses_nothing_written(collect, questions, tmp_path, monkeypatch):
    collect(questions(1), "--out", tmp_path / "traces", "--samples", "1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajkit.files.os.fsync", full)
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "1")
    monkeypatch.undo()
    errors = [line for line in result.err.splitlines() if line.startswith("trajkit: ")]
    assert result.code == 1
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "free some space" in errors[0]
    assert read_traces(tmp_path / "traces").ids == ["q0-0"]


def test_ctrl_c_keeps_what_was_collected_and_says_how_to_go_on(collect, questions, tmp_path, monkeypatch):
    from trajkit.cli import collect as command

    runs = command._runs

    def stop_at_the_third(vlm, estimator, question, *rest):
        if question.id == "q2":
            signal.raise_signal(signal.SIGINT)
        return runs(vlm, estimator, question, *rest)

    monkeypatch.setattr(command, "_runs", stop_at_the_third)
    result = collect(questions(4), "--out", tmp_path / "traces", "--samples", "1")
    assert result.code == 130
    assert result.err.splitlines()[-1].startswith("trajkit: stopped; 2 runs are safe in ")
    assert "Traceback" not in result.err
    monkeypatch.undo()
    assert "(2 new)" in collect(questions(4), "--out", tmp_path / "traces", "--samples", "1").out
