"""`trajkit collect` on a user's own folder."""

from __future__ import annotations

import errno
import json
import signal

import pytest

from trajkit.traces.store import read_traces


@pytest.fixture
def collect(cli, model_and_estimator):
    return lambda *arguments: cli("collect", *arguments, *model_and_estimator, "--max-new-tokens", "60")


def test_every_question_gets_its_runs_and_successes_are_counted(collect, questions, tmp_path):
    result = collect(questions(2), "--out", tmp_path / "traces", "--samples", "2")
    assert result.code == 0, result.err
    assert "4 runs of 2 questions" in result.out
    assert "of 4 with a target succeeded" in result.out
    assert sorted(read_traces(tmp_path / "traces").ids) == ["q0-0", "q0-1", "q1-0", "q1-1"]


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


def test_a_line_that_is_no_json_names_the_line(collect, questions, tmp_path):
    path = questions(1)
    path.write_text(path.read_text() + "{broken\n")
    collect(path, "--out", tmp_path / "traces").assert_one_line_error("line 2", "not JSON")


def test_a_full_disk_is_one_line_and_loses_nothing_written(collect, questions, tmp_path, monkeypatch):
    collect(questions(1), "--out", tmp_path / "traces", "--samples", "1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajkit.traces.atomic.os.fsync", full)
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
