"""A file of outcomes that people or other tools gave to runs: JSONL or CSV, a run a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.files import read_plain
from trajkit.strict_json import parse_json
from trajkit.traces.trace import OUTCOMES, Outcome

MAX_BYTES = 2**28
_EXAMPLE = '{"transcript_id": "q1-0", "outcome": "hallucination"}'


def read_outcomes(path: str | Path) -> dict[str, Outcome]:
    """transcript_id → outcome, of a JSONL file, or of a .csv or .tsv file whose first line names the columns
    transcript_id and outcome. Other keys and columns are ignored; a run without an outcome is not labelled.

    Raises InputError, naming the line, on anything else, and on a run that stands twice.
    """
    if not isinstance(path, str | Path):
        raise InputError(f"labels are a file of outcomes, JSONL or CSV; got {type(path).__name__}.")
    path = Path(path)
    found: dict[str, Outcome] = {}
    for number, record in _records(path, _text(path)):
        name, outcome = record.get("transcript_id"), record.get("outcome")
        if not isinstance(name, str) or not name:
            got = f"got {name!r}" if "transcript_id" in record else f"got the keys {', '.join(map(repr, record))}"
            raise _refused(path, number, f"transcript_id must be a text that is not empty, {got}")
        if outcome is None or outcome == "":
            continue
        if outcome not in OUTCOMES:
            raise _refused(path, number, f"outcome must be one of {', '.join(OUTCOMES)}, got {outcome!r}")
        if name in found:
            raise _refused(path, number, f"run {name!r} has an outcome already")
        found[name] = outcome
    if not found:
        raise InputError(f"{path} holds no outcome; expected lines such as {_EXAMPLE}")
    return found


def _text(path: Path) -> str:
    try:
        return read_plain(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); expected outcomes of runs, such as {_EXAMPLE}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save the file as UTF-8.") from error


def _records(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each record, and the line that it stands in, from 1."""
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _rows(path, text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except json.JSONDecodeError as error:
            raise _refused(path, number, f"it is no JSON: {error.msg} at character {error.pos + 1}") from error
        except ValueError as error:
            raise _refused(path, number, f"it is no JSON: {error}") from error
        if not isinstance(record, dict):
            raise _refused(path, number, f"expected a JSON object, got {line.strip()[:60]!r}")
        yield number, record


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        missing = {"transcript_id", "outcome"} - set(rows.fieldnames or ())
        if missing:
            got = ", ".join(map(repr, rows.fieldnames or ())) or "none"
            raise InputError(f"{path} has no column {' and no column '.join(sorted(missing))}; got {got}.")
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise _refused(path, rows.line_num + 1, str(error)) from error


def _refused(path: Path, line: int, why: str) -> InputError:
    return InputError(f"{path}, line {line}: {why}; expected a line such as {_EXAMPLE}")
