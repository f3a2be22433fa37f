"""Batches: answers joined to their requests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.traces.importers.logs import GOLDEN, IMAGE, QUESTIONS, THINKING, left_out, refused, runs_in, write_lines

FOLDER = GOLDEN / "batch"
OUTPUT = FOLDER / "digits_output.jsonl"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"digits_{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("path", [OUTPUT, FOLDER], ids=["the answers", "the folder"])
def test_answers_are_joined_to_the_requests_beside_them(path: Path) -> None:
    runs, reasons = left_out(path)
    first, cut = runs

    assert (first.task_id, first.question, first.image) == ("s00-0", "read col 4.", IMAGE)
    assert first.meta["written"]["thinking"].strip() == THINKING
    assert first.answer == "0 empty 8 empty"
    assert first.steps[0].logprob is not None
    assert first.meta["entropy"] == "lower bound from 2"
    assert (first.meta["temperature"], first.meta["max_new_tokens"]) == (0, 200)
    assert cut.meta["cut"] == "length"
    assert cut.outcome == "unknown"
    assert list(reasons) == ["broken"]
    assert "status 400: max_tokens=9999 cannot be greater" in reasons["broken"]


def test_the_requests_are_found_by_content_whatever_they_are_called(tmp_path: Path) -> None:
    shutil.copy(OUTPUT, tmp_path / "answers.jsonl")
    shutil.copy(FOLDER / "digits_input.jsonl", tmp_path / "z.jsonl")
    other = [line | {"custom_id": f"other-{number}"} for number, line in enumerate(lines("input"))]
    write_lines(tmp_path / "a.jsonl", *other)

    assert left_out(tmp_path / "answers.jsonl")[0][0].question == "read col 4."


def test_answers_may_stand_in_the_response_itself(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "digits_input.jsonl", tmp_path)
    flat = [{"custom_id": line["custom_id"], "response": line["response"]["body"]} for line in lines("output")[:2]]

    assert [run.task_id for run in runs_in(write_lines(tmp_path / "out.jsonl", *flat))] == ["s00-0", "s01-0"]


def test_without_the_requests_the_questions_are_asked_for(tmp_path: Path) -> None:
    shutil.copy(OUTPUT, tmp_path)
    log = tmp_path / OUTPUT.name

    assert "give --questions with a line of id 's00-0'" in refused(log)
    runs, _ = left_out(log, questions=QUESTIONS, judge="exact")
    assert [run.question for run in runs] == ["read col 4.", "write commands to draw col 1."]
    assert [run.outcome for run in runs] == ["failure", "unknown"]


def test_a_batch_without_reasoning_names_the_setting_that_keeps_it(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "digits_input.jsonl", tmp_path)
    line = lines("output")[0]
    line["response"]["body"]["choices"][0]["message"]["reasoning"] = None
    line["response"]["body"]["choices"][0]["logprobs"] = None

    assert "vllm run-batch" in refused(write_lines(tmp_path / "out.jsonl", line))


def test_a_line_of_requests_that_is_no_json_is_named(tmp_path: Path) -> None:
    shutil.copy(OUTPUT, tmp_path)
    write_lines(tmp_path / "in.jsonl", lines("input")[0], "{half")

    assert "in.jsonl" in refused(tmp_path / OUTPUT.name)
