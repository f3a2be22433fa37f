"""Samples of lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.traces.importers.logs import GOLDEN, IMAGE, QUESTIONS, left_out, only, refused, runs_in, write_lines

KEPT = only("lm_eval/kept/samples_*.jsonl")
TWICE = only("lm_eval/twice/samples_*.jsonl")


def sample(**more: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(KEPT.read_text().splitlines()[0])
    return record | more


def test_samples_with_their_thinking_are_runs() -> None:
    runs = runs_in(KEPT, questions=QUESTIONS, judge="exact")
    first = runs[0]

    assert [run.task_id for run in runs] == ["s00-0", "s00-1", "s01-0", "s01-1"]
    assert [run.outcome for run in runs] == ["failure", "success", "success", "success"]
    assert first.meta["written"]["answer"] == first.answer == "0 empty 8 empty"
    assert first.steps[0].text == "row 4 col 4 is empty."
    assert first.n_steps == 5
    assert (first.question, first.image, first.model) == ("read col 4.", IMAGE, "model")
    assert first.task_set == "document"
    assert first.meta["source"]["tool"] == "lm_eval 0.4.13"
    assert (first.meta["temperature"], first.meta["max_new_tokens"]) == (0.0, 200)
    assert first.meta["counted_in"] == "words"
    assert first.steps[0].logprob is None


def test_images_are_not_logged_and_it_says_what_to_give() -> None:
    with pytest.warns(UserWarning, match="lm-eval logs no images"):
        run = left_out(KEPT)[0][0]

    assert run.image is None
    assert run.question == "read col 4."
    assert run.task_set == "digits"
    assert runs_in(KEPT, images=GOLDEN)[0].image == IMAGE


def test_repeats_of_a_document_are_runs_of_their_own_without_its_score() -> None:
    runs = runs_in(TWICE, questions=QUESTIONS)

    assert [run.transcript_id for run in runs] == ["s00-0-0", "s00-0-1", "s00-1-0", "s00-1-1"]
    assert {run.score for run in runs} == {None}
    assert {run.meta["temperature"] for run in runs} == {1.0}


def test_a_score_of_the_text_with_the_thinking_in_it_is_no_outcome() -> None:
    runs = runs_in(KEPT, images=GOLDEN)

    assert {run.outcome for run in runs} == {"unknown"}
    assert runs[2].answer == runs[2].target
    assert runs[2].meta["scores"] == {"exact_match": 0.0}


def test_the_score_of_a_single_answer_is_the_first_metric(tmp_path: Path) -> None:
    told = sample(exact_match=1.0, f1=0.5, metrics=["exact_match", "f1"], filtered_resps=["0 empty 8 empty"])
    log = write_lines(tmp_path / "samples_x.jsonl", told)
    run = left_out(log, questions=QUESTIONS)[0][0]

    assert (run.score, run.outcome) == (1.0, "success")
    assert run.meta["scores"] == {"exact_match": 1.0, "f1": 0.5}


def test_of_several_filters_the_first_is_taken(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "samples_x.jsonl", sample(filter="strict"), sample(filter="flexible"))
    with pytest.warns(UserWarning, match="'strict' are taken"):
        runs, reasons = left_out(log, questions=QUESTIONS)

    assert len(runs) == 1
    assert not reasons


def test_thinking_that_think_end_token_took_away_is_said() -> None:
    said = refused(only("lm_eval/dropped/samples_*.jsonl"))

    assert "think_end_token=</think>" in said
    assert "without that setting" in said


def test_thinking_that_the_server_told_apart_is_said_to_be_lost() -> None:
    said = refused(only("lm_eval/parsed/samples_*.jsonl"))

    assert "without --reasoning-parser" in said
    assert "think_end_token" in said


def test_likelihoods_of_choices_are_no_runs(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "samples_x.jsonl", sample(resps=[[[-1.5, False]], [[-0.1, True]]]))

    assert "output_type generate_until" in refused(log)


def test_a_prompt_of_several_turns_keeps_the_places_of_images(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a <image> b"}, {"role": "assistant", "content": "c"}]
    turns += [{"role": "user", "content": "d"}]
    asked = {"gen_args_0": {"arg_0": [json.dumps(turns)], "arg_1": {}, "arg_2": {"visual": ["hash"]}}}
    run = left_out(write_lines(tmp_path / "samples_x.jsonl", sample(arguments=asked)), questions=QUESTIONS)[0][0]

    assert [part["type"] for part in run.meta["messages"][0]["content"]] == ["text", "image", "text"]
    assert run.question == "d"


@pytest.mark.parametrize("listed", [False, True], ids=["as now", "as older versions"])
def test_a_plain_prompt_is_the_question(listed: bool, tmp_path: Path) -> None:
    parts: list[Any] = ["[1, 2] is what?", {"until": [], "temperature": 0.5}]
    asked = [parts] if listed else {"gen_args_0": {f"arg_{number}": part for number, part in enumerate(parts)}}
    [run] = runs_in(write_lines(tmp_path / "samples_x.jsonl", sample(arguments=asked)))

    assert run.question == "[1, 2] is what?"
    assert run.meta["temperature"] == 0.5
    assert run.image is None
