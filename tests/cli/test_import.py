"""`trajkit import` on the logs of other tools."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trajkit.traces.store import read_traces

GOLDEN = Path(__file__).parents[1] / "traces" / "importers" / "golden" / "inspect"


@pytest.fixture
def bring(cli, tmp_path):
    return lambda log, *options: cli("import", log, "--out", tmp_path / "traces", *options)


def test_a_log_becomes_traces_and_the_next_command_is_said(bring, tmp_path):
    result = bring(GOLDEN / "digits.eval")
    assert result.code == 0, result.err
    assert "2 runs of 1 question" in result.out
    assert "(2 new): 2 with log-probabilities, 2 with an image, 0 cut off." in result.out
    assert "2 of 2 with a known outcome succeeded." in result.out
    assert f"Next: trajkit report {tmp_path / 'traces'} --out report" in result.out
    assert f"trajkit attribute {tmp_path / 'traces'} --out" in result.out
    assert read_traces(tmp_path / "traces").ids == ["s02-0-1", "s02-0-2"]


def test_what_cannot_be_used_is_left_out_with_its_reason_and_the_code_is_1(bring, tmp_path):
    result = bring(GOLDEN / "shapes.eval")
    assert result.code == 1
    lines = [line for line in result.err.splitlines() if "left out run" in line]
    assert len(lines) == 2
    assert "left out run fails-1: the sample failed: RuntimeError('the sandbox is gone" in lines[0]
    assert "2 of 11 runs could not be used; see above." in result.err
    assert "9 runs of 9 questions" in result.out
    assert "1 cut off." in result.out
    assert len(read_traces(tmp_path / "traces")) == 9


def test_running_again_goes_on_and_doubles_nothing(bring, tmp_path):
    bring(GOLDEN / "unfinished.eval")
    again = bring(GOLDEN / "unfinished.eval")
    assert again.code == 0, again.err
    assert "2 runs of 2 questions" in again.out
    assert "(0 new)" in again.out


def test_another_log_with_the_same_ids_is_not_taken_for_the_same_runs(bring, tmp_path):
    bring(GOLDEN / "unfinished.eval")
    other = bring(GOLDEN / "deflated.eval")
    assert other.code == 1
    assert "another log" in other.err
    assert len(read_traces(tmp_path / "traces")) == 2


def test_a_judge_labels_questions_and_a_name_are_taken(bring, tmp_path):
    (tmp_path / "labels.jsonl").write_text(json.dumps({"transcript_id": "tags-1", "outcome": "hallucination"}))
    result = bring(GOLDEN / "shapes.json", "--labels", tmp_path / "labels.jsonl", "--judge", "exact", "--model", "mine")
    assert result.code == 0, result.err
    found = {trace.task_id: (trace.outcome, trace.model) for trace in read_traces(tmp_path / "traces")}
    assert found == {
        "reasoning": ("success", "mine"),
        "tags": ("hallucination", "mine"),
        "summary": ("success", "mine"),
    }


def test_runs_that_are_there_are_not_judged_anew_and_that_is_said(bring, tmp_path):
    bring(GOLDEN / "digits.eval")
    label = tmp_path / "labels.csv"
    label.write_text("transcript_id,outcome\ns02-0-1,hallucination\n")
    for options, runs in (("--judge", "exact"), "2 runs"), (("--labels", label), "1 run"), (("--model", "x"), "2 runs"):
        again = bring(GOLDEN / "digits.eval", *options)
        assert again.code == 1
        assert f"{runs} in {tmp_path / 'traces'} had been imported in another way" in again.err
    assert bring(GOLDEN / "digits.eval").code == 0


def test_going_on_with_the_same_judge_and_labels_is_no_other_way(bring, tmp_path):
    label = tmp_path / "labels.csv"
    label.write_text("transcript_id,outcome\ns02-0-1,hallucination\n")
    for _ in range(2):
        result = bring(GOLDEN / "digits.eval", "--judge", "exact", "--labels", label)
        assert (result.code, result.err) == (0, "")


def test_labels_and_questions_of_no_run_are_told(bring, tmp_path):
    label, questions = tmp_path / "labels.csv", tmp_path / "questions.jsonl"
    label.write_text("transcript_id,outcome\ns02-0-1,hallucination\ns02-0,success\n")
    questions.write_text(json.dumps({"id": "other", "image": "a.png", "question": "what?"}))
    result = bring(GOLDEN / "digits.eval", "--labels", label, "--questions", questions)
    assert result.code == 0
    assert "1 of 2 labels are of no run here, such as 's02-0'; ids here are like 's02-0-1'." in result.err
    assert "no id of the questions file, such as 'other', is that of a question here, such as 's02-0'" in result.err


def test_wrong_options_are_told_in_a_line(bring, tmp_path):
    bring(GOLDEN / "shapes.json", "--format", "inspct").assert_one_line_error("--format", "inspect")
    bring(GOLDEN / "shapes.json", "--judge", "guess").assert_one_line_error("guess")
    bring(tmp_path / "none.eval").assert_one_line_error("does not exist")
    (tmp_path / "a.txt").write_text("hello")
    bring(tmp_path / "a.txt").assert_one_line_error("no known format", "--format")
    assert not (tmp_path / "traces").exists() or not list((tmp_path / "traces").glob("*.parquet"))


def test_text_of_a_log_cannot_write_to_the_terminal(bring, tmp_path):
    log = json.loads((GOLDEN / "shapes.json").read_text())
    log["samples"][0]["error"] = {"message": "\x1b[31mred\x07\nFake line", "traceback": "", "traceback_ansi": ""}
    log["samples"][1]["id"] = "evil\x1b]0;title\x07"
    (tmp_path / "a.json").write_text(json.dumps(log))
    result = bring(tmp_path / "a.json")
    assert result.code == 1
    assert "\x1b" not in result.err + result.out
    assert "\x07" not in result.err + result.out
    assert not re.search("^Fake line", result.err, re.M)


def test_the_help_names_formats_and_judges(cli):
    said = cli("import", "--help").out
    for word in ("inspect", "lmms-eval", "dataset", "number:0.01", "pope"):
        assert word in said


def test_a_stop_keeps_what_was_read_and_the_same_command_goes_on(tmp_path):
    log = json.loads((GOLDEN / "shapes.json").read_text())
    sample = log["samples"][0]
    log["samples"] = [{**sample, "id": f"q{i}", "events": [], "uuid": f"u{i}"} for i in range(400)]
    (tmp_path / "a.json").write_text(json.dumps(log))
    out = tmp_path / "traces"
    command = [sys.executable, "-m", "trajkit", "import", str(tmp_path / "a.json"), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    while not list(out.glob("part-*.parquet")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "are safe in" in said
    kept = len(read_traces(out))
    assert 0 < kept < 400
    again = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    assert f"({400 - kept:,} new)" in again.stdout
    assert len(read_traces(out)) == 400


def test_what_cut_off_runs_do_to_the_share_that_succeeded_is_said(bring, tmp_path):
    def line(name: str, end: str, **facts: object) -> str:
        message = {"role": "assistant", "content": "4" if end == "stop" else None, "reasoning": "I see four."}
        answer = {"model": "m", "choices": [{"message": message, "finish_reason": end}]}
        asked = {"model": "m", "messages": [{"role": "user", "content": name}]}
        return json.dumps({"id": name, "request": asked, "response": answer} | facts)

    lines = [line("a", "stop", score=1), line("b", "length"), line("c", "length", score=0)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    said = bring(tmp_path / "log.jsonl").out
    assert "2 cut off." in said
    assert "That leaves out 1 cut off of unknown outcome" in said
    assert "1 of those cut off is wrong by the log's score or a label." in said
