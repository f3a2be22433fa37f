"""What is known of all the runs of a log: whether its prompts open the thinking span, and what its runs are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.traces.importers.logs import left_out, runs_in, write_lines
from trajkit.traces.importers.run import Wanted
from trajkit.traces.importers.source_log import Log, opened_by_prompt, pieces_of

WHOLE, CUT = "row 1. row 2.</think>8", "row 1. row 2. row"
"""What a model writes whose prompt ends with the opening tag: to the end, and cut off."""


@pytest.mark.parametrize(
    ("pieces", "opened"),
    [
        ([WHOLE, CUT], True),
        (["a</thi", "nk>b"], True),
        ([r"a<\/think>b"], True),
        ([f"<think>{WHOLE}", CUT], False),
        ([WHOLE, "<thi", "nk>"], False),
        ([CUT], False),
        ([], False),
    ],
)
def test_closing_tags_alone_say_that_prompts_open_the_thinking(pieces: list[str], opened: bool) -> None:
    assert opened_by_prompt(pieces) is opened


def test_a_file_is_looked_through_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajkit.traces.importers.source_log._PIECE", 5)
    (tmp_path / "log").write_text(WHOLE)

    assert opened_by_prompt(pieces_of(tmp_path / "log"))


def lm_eval(text: str) -> dict[str, Any]:
    asked = {"gen_args_0": {"arg_0": "1 + 1?", "arg_1": {}}}
    return {"doc_id": text, "doc": {}, "arguments": asked, "resps": [[text]], "filtered_resps": [text], "metrics": []}


def lmms_eval(text: str) -> dict[str, Any]:
    return {"doc_id": text, "filtered_resps": text, "doc_hash": "", "input": "1 + 1?"}


def dataset(text: str) -> dict[str, Any]:
    return {"prompt": "1 + 1?", "completion": text}


def vlmevalkit(text: str) -> dict[str, Any]:
    return {"index": text, "question": "1 + 1?", "prediction": text}


def openai(text: str) -> dict[str, Any]:
    choice = {"message": {"content": text}, "finish_reason": "length" if text == CUT else "stop"}
    return {"messages": [{"role": "user", "content": "1 + 1?"}], "choices": [choice]}


@pytest.mark.filterwarnings("ignore:.*no images")
@pytest.mark.parametrize("record", [lm_eval, lmms_eval, dataset, vlmevalkit, openai])
def test_what_was_cut_off_before_any_tag_is_thinking_and_no_answer(record: Any, tmp_path: Path) -> None:
    from trajkit.traces.importers.imported import import_traces

    log = write_lines(tmp_path / "log.jsonl", record(CUT), record(WHOLE))
    cut, whole = import_traces(log, format=record.__name__.replace("_", "-"))

    assert (whole.answer, "cut" in whole.meta) == ("8", False)
    assert [step.kind for step in cut.steps] == ["thinking"] * 3
    assert (cut.answer, cut.outcome) == ("", "unknown")
    assert cut.meta["cut"] == ("length" if record is openai else "unfinished")


def test_so_it_is_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([dataset(CUT), dataset(WHOLE)]), tmp_path / "log.parquet")

    assert [run.meta.get("cut") for run in runs_in(tmp_path / "log.parquet")] == ["unfinished", None]


def test_runs_of_a_question_are_counted(tmp_path: Path) -> None:
    log = Log(tmp_path, Wanted())

    assert [log.next_run(name) for name in ("a", "b", "a")] == [("a-0", 0), ("b-0", 0), ("a-1", 1)]


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "..", "outside.png"])
def test_an_address_whose_name_leads_to_no_file_of_the_folder_leaves_the_run_without_an_image(
    tmp_path: Path, name: str
) -> None:
    folder, notes = tmp_path / "images", list[str]()
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    log = Log(folder, Wanted(images=folder, note=notes.append))
    assert log.pictures("q", [f"https://example.org/{name}?size=1"]) == ()
    assert "nothing is fetched" in notes[0]


def test_of_a_line_without_end_no_more_is_kept_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajkit.traces.importers.reading.LONGEST_LINE", 300)
    monkeypatch.setattr("trajkit.traces.importers.reading._PIECE", 7)
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": WHOLE}]}
    path = write_lines(tmp_path / "log.jsonl", {"id": 1, **row}, {"id": 2, "x": "y" * 1_000, **row}, {"id": 3, **row})
    runs, reasons = left_out(path)
    assert [run.task_id for run in runs] == ["1", "3"]
    assert list(reasons) == ["line 2"]
