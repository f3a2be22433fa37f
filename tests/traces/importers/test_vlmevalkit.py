"""Predictions of VLMEvalKit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.traces.importers.logs import GOLDEN, IMAGE, QUESTIONS, THINKING, left_out, refused, runs_in, write_lines

FOLDER = GOLDEN / "vlmevalkit"


def rows(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    """A file of predictions about one image, which `images=GOLDEN` finds."""
    records = [row | {"image_path": "images/s00.png"} for row in rows]
    (tmp_path / "demo_Digits.json").write_text(json.dumps(records, indent=4))
    return tmp_path / "demo_Digits.json"


@pytest.mark.parametrize("name", ["demo_Digits.xlsx", "demo_Split.tsv", "demo_Whole.tsv", "demo_Whole.json"])
def test_predictions_are_runs_whether_or_not_the_tool_split_them(name: str) -> None:
    runs = runs_in(FOLDER / name, images=GOLDEN, judge="exact")
    first = runs[0]

    assert [run.outcome for run in runs] == ["failure", "success", "success", "success"]
    assert first.meta["written"] == {"thinking": THINKING, "answer": "0 empty 8 empty"}
    assert (first.transcript_id, first.question, first.target) == ("0-0", "read col 4.", "4 empty 8 empty")
    assert (first.model, first.image) == ("demo", IMAGE)
    assert first.meta["kind"] == "document"
    assert first.task_set == Path(name).stem.removeprefix("demo_")


def test_images_are_not_kept_and_it_says_what_to_give(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="VLMEvalKit keeps no images"):
        assert left_out(FOLDER / "demo_Split.tsv")[0][0].image is None
    asked = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    known = [one | {"id": str(i), "image": str(GOLDEN / one["image"])} for i, one in enumerate(asked)]
    questions = write_lines(tmp_path / "questions.jsonl", *known)

    assert [run.image is not None for run in runs_in(FOLDER / "demo_Split.tsv", questions=questions)] == [True] * 4


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Opened:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("opened").touch, ())

    (tmp_path / "demo_Digits.pkl").write_bytes(pickle.dumps(Opened()))
    said = refused(tmp_path / "demo_Digits.pkl")

    assert "PRED_FORMAT=tsv" in said
    assert "pickle" in said
    assert not (tmp_path / "opened").exists()


def test_a_text_that_excel_cut_is_set_aside(tmp_path: Path) -> None:
    good = {"index": 0, "question": "q", "prediction": "<think>a.</think>8"}
    long = {"index": 1, "question": "q", "prediction": "8", "thinking": "a" * 32_767}
    runs, reasons = left_out(rows(tmp_path, good, long), images=GOLDEN)

    assert len(runs) == 1
    assert "PRED_FORMAT=tsv" in reasons["1"]


def test_thinking_without_its_opening_tag_and_unclosed_thinking_are_told_apart(tmp_path: Path) -> None:
    split = {"index": 0, "question": "q", "prediction": "8", "thinking": "a. b.</think>"}
    cut = {"index": 1, "question": "q", "prediction": "<think>a. b", "thinking": ""}
    first, second = runs_in(rows(tmp_path, split, cut), images=GOLDEN)

    assert first.meta["written"] == {"thinking": "a. b.", "answer": "8"}
    assert "cut" not in first.meta
    assert second.meta["cut"] == "unfinished"
    assert [step.kind for step in second.steps] == ["thinking"] * 2


def test_options_are_part_of_the_question_and_a_hit_is_the_score(tmp_path: Path) -> None:
    row = {
        "index": 0,
        "question": "How many?",
        "hint": "Count.",
        "A": "1",
        "B": "2",
        "C": None,
        "answer": "B",
        "hit": 1,
    }
    [run] = runs_in(rows(tmp_path, row | {"prediction": "<think>a.</think>B"}), images=GOLDEN)

    asked = "Hint: Count.\nQuestion: How many?\nOptions:\nA. 1\nB. 2\n"
    asked += "Please select the correct answer from the options above."
    assert run.question == asked
    assert (run.target, run.outcome) == ("B", "success")


def test_a_failed_request_is_set_aside(tmp_path: Path) -> None:
    good = {"index": 0, "question": "q", "prediction": "<think>a.</think>8"}
    failed = {"index": 1, "question": "q", "prediction": "Failed to obtain answer via API."}
    _, reasons = left_out(rows(tmp_path, good, failed), images=GOLDEN)

    assert reasons == {"1": "its request failed: Failed to obtain answer via API."}


def test_predictions_without_thinking_name_the_settings_that_keep_it() -> None:
    said = refused(FOLDER / "demo_Parsed.tsv")

    assert "SPLIT_THINK=True" in said
    assert "without --reasoning-parser" in said


def test_another_table_is_said_to_be_none_of_predictions(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("index\tquestion\n0\tq\n")

    assert "expected columns index, question and prediction" in refused(tmp_path / "a.tsv", format="vlmevalkit")
