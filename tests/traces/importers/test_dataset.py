"""Data sets of Hugging Face with messages and images, and TRL's completions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.traces.importers.logs import GOLDEN, IMAGE, THINKING, left_out, refused, runs_in, write_lines

FOLDER = GOLDEN / "dataset"


def messages(answer: dict[str, Any], *parts: dict[str, Any]) -> list[dict[str, Any]]:
    content = [*parts, {"type": "text", "text": "read col 4."}]
    return [{"role": "user", "content": content}, {"role": "assistant"} | answer]


@pytest.mark.parametrize("name", ["digits.parquet", "digits_arrow"])
def test_messages_with_images_are_runs(name: str) -> None:
    [run] = runs_in(FOLDER / name, model="demo", judge="exact")

    assert run.meta["written"] == {"thinking": THINKING, "answer": "0 empty 8 empty"}
    assert (run.question, run.target, run.outcome) == ("read col 4.", "4 empty 8 empty", "failure")
    assert (run.transcript_id, run.model, run.meta["source"]["format"]) == ("s00-0-0", "demo", "dataset")
    assert run.image is not None
    assert "messages" not in run.meta


def test_prompt_and_completion_are_a_run() -> None:
    [run] = runs_in(FOLDER / "prompt_completion.jsonl")

    assert run.question == "read col 4."
    assert run.image is None
    assert run.answer == "0 empty 8 empty"


def test_completions_that_trl_logs_are_runs() -> None:
    with pytest.warns(UserWarning, match="holds none"):
        runs, _ = left_out(FOLDER / "completions" / "completions_00010.parquet")
    whole, cut = runs

    assert whole.meta["written"]["thinking"] == THINKING
    assert whole.target == "4 empty 8 empty"
    assert whole.meta["scores"] == {"accuracy_reward": 0.0, "format_reward": 1.0}
    assert whole.score is None
    assert cut.meta["cut"] == "unfinished"
    assert (whole.task_id, cut.task_repeat) == (cut.task_id, 1)


def test_a_single_reward_is_the_score(tmp_path: Path) -> None:
    row = {"prompt": "1 + 1?", "completion": "<think>a.</think>2", "accuracy_reward": 1.0, "advantage": 0.0, "level": 0}
    [run] = runs_in(write_lines(tmp_path / "log.jsonl", row))

    assert (run.score, run.outcome) == (1.0, "success")
    assert run.meta["scores"] == {"accuracy_reward": 1.0}


def test_reasoning_may_stand_beside_the_content(tmp_path: Path) -> None:
    row = {"messages": messages({"content": "8", "reasoning_content": "row 4."})}
    [run] = runs_in(write_lines(tmp_path / "log.jsonl", row))

    assert run.meta["written"] == {"thinking": "row 4.", "answer": "8"}


def test_several_images_are_side_by_side_in_the_order_of_the_row(tmp_path: Path) -> None:
    other = (GOLDEN / "images" / "s01.png").read_bytes()
    said = messages({"content": [{"type": "text", "text": "<think>a.</think>8"}]}, {"type": "image"}, {"type": "image"})
    row = {"id": 5, "images": [{"bytes": IMAGE, "path": None}, {"bytes": other, "path": None}], "messages": said}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "log.parquet")
    [run] = runs_in(tmp_path / "log.parquet")

    assert run.meta["image_sizes"] == [[128, 128], [128, 128]]
    assert run.transcript_id == "5-0"


def test_images_that_are_too_large_together_leave_out_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajkit.traces.importers.make.MOST_PIXELS", 128 * 128 * 3 - 1)
    pictures = [{"type": "image"}] * 3
    row = {"id": 5, "images": ["s00.png"] * 3, "messages": messages({"content": "<think>a.</think>8"}, *pictures)}
    few = row | {"id": 6, "images": ["s00.png"] * 2}
    runs, reasons = left_out(write_lines(tmp_path / "log.jsonl", row, few), images=GOLDEN / "images")

    assert [run.task_id for run in runs] == ["6"]
    assert "3 images side by side" in reasons["5-0"]


def test_images_are_named_by_path_too(tmp_path: Path) -> None:
    row = {"image": "s00.png", "messages": messages({"content": "<think>a.</think>8"}, {"type": "image"})}

    assert runs_in(write_lines(tmp_path / "log.jsonl", row), images=GOLDEN / "images")[0].image == IMAGE


def test_rows_without_a_run_are_set_aside(tmp_path: Path) -> None:
    good = {"id": "a", "messages": messages({"content": "<think>a.</think>8"})}
    asked = {"id": "b", "messages": messages({"content": "x"})[:1]}
    empty = {"id": "c", "prompt": "1 + 1?", "completion": []}
    runs, reasons = left_out(write_lines(tmp_path / "log.jsonl", good, asked, empty))

    assert [run.task_id for run in runs] == ["a"]
    assert "do not end with the model's turn" in reasons["b"]
    assert "completion is empty" in reasons["c"]


def test_a_data_set_without_reasoning_says_where_it_belongs(tmp_path: Path) -> None:
    assert "reasoning_content" in refused(write_lines(tmp_path / "a.jsonl", {"messages": messages({"content": "8"})}))


def test_a_saved_data_set_reads_no_file_outside_its_folder(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "digits_arrow", tmp_path / "data")
    state = tmp_path / "data" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": str(FOLDER / "digits_arrow" / "x" / ".." / "secret")}]}))

    assert "data/secret" in refused(tmp_path / "data")


def test_saved_data_sets_are_found_in_a_folder_of_them(tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(FOLDER / "digits_arrow", tmp_path / split)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    runs = runs_in(tmp_path)

    assert {run.transcript_id for run in runs} == {"train-state.json-s00-0-0", "test-state.json-s00-0-0"}


def test_parquet_is_known_by_its_content(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "digits.parquet", tmp_path / "log")

    assert [run.transcript_id for run in runs_in(tmp_path / "log")] == ["s00-0-0"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "digits_arrow", tmp_path / "data")
    (tmp_path / "data" / "data-00000-of-00001.arrow").write_bytes(b"no arrow")

    assert "no Arrow file" in refused(tmp_path / "data")
