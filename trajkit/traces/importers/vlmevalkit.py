"""Predictions of VLMEvalKit: MODEL_DATASET.xlsx, .tsv or .json, a row a question.

`prediction` holds the whole text, or, under SPLIT_THINK, the answer, and `thinking` the rest. Images are not kept, nor
is the prompt: the question of a multiple choice is put together as the tool does it.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_text
from trajkit.traces.importers.records import first_record, records
from trajkit.traces.importers.run import TAGS, SourceRun, Wanted
from trajkit.traces.importers.source_log import Log, opened_by_prompt
from trajkit.traces.importers.xlsx import LONGEST_CELL, read_rows

_KEYS = {"index", "prediction"}
_FAILED = "Failed to obtain answer"
_TABLES = {".tsv": "\t", ".csv": ","}


class VLMEvalKit:
    name = "vlmevalkit"
    keeps = (
        "Run VLMEvalKit with SPLIT_THINK=True and PRED_FORMAT=tsv, and the server without --reasoning-parser, so that "
        "the text which it keeps holds the <think> tags."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        if path.suffix == ".pkl" and head.startswith(b"\x80"):
            return True
        if head.startswith(b"PK\x03\x04"):
            return path.suffix == ".xlsx" and b"xl/" in head
        if path.suffix in _TABLES:
            line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].decode("utf-8", "replace")
            return {name.strip().strip('"') for name in line.split(_TABLES[path.suffix])} >= _KEYS
        return first_record(path, head).keys() >= _KEYS

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        rows = _rows(path, wanted)
        log = Log(
            path.parent, wanted, opened_by_prompt(f"{row.get('prediction')} {row.get('thinking')}" for row in rows)
        )
        model, _, data = path.stem.rpartition("_")
        for number, row in enumerate(rows, 1):
            with aside(as_text(row.get("index")) or f"row {number}", wanted.set_aside):
                run = _run(row, log)
                yield SourceRun(**run, model=model, task_set=data, tool="VLMEvalKit")


IMPORTER = VLMEvalKit()


def _rows(path: Path, wanted: Wanted) -> list[dict[str, Any]]:
    """Raises InputError where they cannot be read, or are no predictions."""
    if path.suffix == ".pkl":
        raise InputError(
            f"{path} is a pickle, which could run code, and is not opened; run VLMEvalKit with PRED_FORMAT=tsv, or "
            "save it from Python as .tsv."
        )
    rows = (
        read_rows(path)
        if path.suffix == ".xlsx"
        else _table(path)
        if path.suffix in _TABLES
        else [row for _, row in records(path, wanted)]
    )
    if rows and not any(row.keys() >= _KEYS for row in rows):
        raise InputError(f"{path} holds no predictions of VLMEvalKit; expected columns index, question and prediction.")
    return rows


def _table(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep=_TABLES[path.suffix], dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' errors of parsing and of encoding are ValueErrors
        raise InputError(f"{path} is no table that can be read ({error}).") from error
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _run(row: Mapping[str, Any], log: Log) -> dict[str, Any]:
    index, written = as_text(row.get("index")), as_text(row.get("prediction")) or ""
    if written.startswith(_FAILED):
        raise InputError(f"its request failed: {written.strip()[:300]}")
    thought = as_text(row.get("thinking")) or ""
    if max(len(written), len(thought)) >= LONGEST_CELL:
        raise InputError("its text was cut at what a cell of Excel holds; run VLMEvalKit with PRED_FORMAT=tsv.")
    for opening, closing in TAGS:
        thought = thought.strip().removesuffix(closing).removeprefix(opening)
    thinking, answer, closed = log.split(thought, written)
    task_id = index or ""
    run_id, repeat = log.next_run(task_id)
    return {
        "id": run_id,
        "question": log.question(task_id, _question(row)),
        "thinking": thinking,
        "answer": answer,
        "closed": closed,
        "cut": None if closed else "unfinished",
        "images": _images(row, task_id, log),
        "task_id": task_id,
        "repeat": repeat,
        "form": as_text(row.get("category")) or "",
        "targets": tuple(filter(None, [as_text(row.get("answer"))])),
        "score": as_text(row.get("hit")),
    }


def _question(row: Mapping[str, Any]) -> str:
    """As `ImageMCQDataset.build_prompt` of the tool writes it where there are options, else the question alone."""
    question = as_text(row.get("question")) or ""
    options = {letter: text for letter in string.ascii_uppercase if (text := as_text(row.get(letter)))}
    if not options:
        return question
    hint = as_text(row.get("hint"))
    lines = [*([f"Hint: {hint}"] if hint else []), f"Question: {question}", "Options:"]
    lines += [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join([*lines, "Please select the correct answer from the options above."])


def _images(row: Mapping[str, Any], task_id: str, log: Log) -> tuple[bytes, ...]:
    """That which a row names, where it is said which folder it is in."""
    named = as_text(row.get("image_path"))
    if log.wanted.images is not None and named:
        return log.pictures(task_id, [named])
    if task_id not in log.wanted.questions:
        log.wanted.note(
            "VLMEvalKit keeps no images in its predictions, so runs have none; give --questions with the values of "
            "`index` as ids, or --images where rows have an image_path."
        )
    return ()
