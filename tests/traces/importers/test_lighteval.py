"""Details of lighteval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.traces.importers.logs import GOLDEN, IMAGE, THINKING, left_out, only, refused, runs_in

NAMED = only("lighteval/named/**/*.parquet")
HELD = only("lighteval/held/**/*.parquet")


def details(path: Path, said: dict[str, Any], **more: Any) -> Path:
    """Details with another answer; an image is held by none."""
    row = pq.read_table(HELD).to_pylist()[0]
    row["doc"] |= {"images": None} | more
    row["model_response"] |= {"output_tokens": []} | said
    pq.write_table(pa.Table.from_pylist([row]), path)
    return path


def test_details_are_runs_with_reasoning_scores_and_images() -> None:
    runs = {run.task_id: run for run in runs_in(NAMED, images=GOLDEN)}
    first = runs["s00-0"]

    assert {name: run.outcome for name, run in runs.items()} == {
        "s00-0": "failure",
        "s00-1": "success",
        "s01-0": "success",
        "s01-1": "success",
    }
    assert first.meta["written"] == {"thinking": THINKING, "answer": "0 empty 8 empty"}
    assert (first.question, first.target, first.image) == ("read col 4.", "4 empty 8 empty", IMAGE)
    assert (first.model, first.task_set, first.meta["temperature"]) == ("openai/model", "digits", 0)


def test_images_that_the_details_hold_are_taken() -> None:
    [run] = runs_in(HELD)

    assert run.image is not None
    assert run.meta["source"]["format"] == "lighteval"


def test_images_that_are_named_are_asked_for() -> None:
    assert "--images" in refused(NAMED)


def test_tags_in_the_text_several_answers_and_token_ids(tmp_path: Path) -> None:
    said = {"text": ["<think>a.</think>1", "b"], "reasonings": [None, None], "output_tokens": [[4, 5], [6]]}
    runs = runs_in(details(tmp_path / "a.parquet", said))

    assert [run.answer for run in runs] == ["1", "b"]
    assert [run.score for run in runs] == [None, None]
    assert [run.tokens.tolist() for run in runs if run.tokens is not None] == [[4, 5], [6]]
    assert [run.task_repeat for run in runs] == [0, 1]
    assert runs[0].model == ""


def test_each_answer_has_its_own_reasoning(tmp_path: Path) -> None:
    runs = runs_in(details(tmp_path / "a.parquet", {"text": ["1", "2"], "reasonings": ["a.", "b."]}))

    assert [run.steps[0].text for run in runs] == ["a.", "b."]


def test_accepted_answers_are_the_gold_ones(tmp_path: Path) -> None:
    said = {"text": ["<think>a.</think>b"], "reasonings": [None]}
    [run] = runs_in(details(tmp_path / "a.parquet", said, choices=["a", "b", "c"], gold_index=[1, 2]), judge="exact")

    assert run.target == "b"
    assert run.meta["targets"] == ["b", "c"]
    assert run.outcome == "success"


def test_details_without_reasoning_name_what_keeps_it(tmp_path: Path) -> None:
    log = details(tmp_path / "a.parquet", {"text": ["8"], "reasonings": [None]})

    assert "endpoint litellm" in refused(log)


def test_likelihoods_of_choices_and_empty_answers_are_no_runs(tmp_path: Path) -> None:
    assert "generative metric" in refused(details(tmp_path / "a.parquet", {"text": [], "reasonings": []}))
    said = {"text": ["<think>a.</think>1", ""], "reasonings": [None, None]}
    runs, reasons = left_out(details(tmp_path / "b.parquet", said))
    assert len(runs) == 1
    assert "neither reasoning nor an answer" in reasons["s00-0-1"]
