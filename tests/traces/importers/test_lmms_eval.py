"""Samples of lmms-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.traces.importers.logs import GOLDEN, IMAGE, THINKING, left_out, only, refused, runs_in, write_lines

KEPT = only("lmms_eval/kept/*_samples_*.jsonl")


def sample(**more: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(KEPT.read_text().splitlines()[0])
    return {key: value for key, value in (record | more).items() if value is not None}


def test_samples_are_runs_with_the_score_of_the_tool() -> None:
    runs = runs_in(KEPT, images=GOLDEN)
    first = runs[0]

    assert [run.outcome for run in runs] == ["failure", "success", "success", "success"]
    assert first.meta["written"] == {"thinking": THINKING, "answer": "0 empty 8 empty"}
    assert (first.transcript_id, first.question, first.target) == ("0-0", "read col 4.", "4 empty 8 empty")
    assert (first.image, first.model, first.task_set) == (IMAGE, "model", "digits_mm")
    assert (first.meta["temperature"], first.meta["max_new_tokens"]) == (0.0, 200)
    assert (first.meta["prompt_tokens"], first.meta["completion_tokens"]) == (76, 36)


def test_resps_that_were_left_out_are_the_filtered_ones() -> None:
    log = only("lmms_eval/unfiltered/*_samples_*.jsonl")
    [run] = runs_in(log, images=GOLDEN)

    assert '"resps"' not in log.read_text()
    assert run.meta["written"]["thinking"] == THINKING
    assert (run.score, run.meta["scores"]) == (None, {"exact_match": 0.0})


def test_images_are_not_logged_and_it_says_what_to_give(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="lmms-eval logs no images"):
        assert left_out(KEPT)[0][0].image is None
    asked = {"id": "digits_mm/0", "image": str(GOLDEN / "images" / "s00.png"), "question": "?", "form": "read"}
    with pytest.warns(UserWarning, match="no images"):
        runs, _ = left_out(KEPT, questions=write_lines(tmp_path / "questions.jsonl", asked))

    assert [run.image is not None for run in runs] == [True, False, False, False]
    assert runs[0].meta["kind"] == "read"
    assert runs[0].task_id == "digits_mm/0"


def test_nested_answers_are_repeats(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "x_samples_y.jsonl", sample(resps=[["<think>a.</think>1"], ["<think>b.</think>2"]]))
    runs = runs_in(log, images=GOLDEN)

    assert [run.answer for run in runs] == ["1", "2"]
    assert [run.score for run in runs] == [None, None]


def test_a_metric_may_be_an_object_that_holds_its_score(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "x.jsonl", sample(exact_match=None, pope_accuracy={"question_id": 7, "score": 1.0}))
    [run] = runs_in(log, images=GOLDEN)

    assert (run.score, run.outcome) == (1.0, "success")


def test_a_failed_request_is_set_aside(tmp_path: Path) -> None:
    failed = "[LMMS_EVAL_REQUEST_FAILED after 5 retries] timed out"
    log = write_lines(tmp_path / "x.jsonl", sample(), sample(doc_id=9, resps=None, filtered_resps=failed))
    runs, reasons = left_out(log, images=GOLDEN)

    assert len(runs) == 1
    assert reasons == {"9": f"its request failed: {failed}"}


def test_thinking_that_the_server_told_apart_is_said_to_be_lost() -> None:
    assert "start the server without --reasoning-parser" in refused(only("lmms_eval/parsed/*_samples_*.jsonl"))


def test_likelihoods_of_choices_are_no_runs(tmp_path: Path) -> None:
    assert "generate_until" in refused(write_lines(tmp_path / "x.jsonl", sample(resps=[[[-1.5, False]]])))
