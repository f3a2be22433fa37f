"""A file of outcomes that people or other tools gave to runs: JSONL or CSV, a run a line."""

from __future__ import annotations

from pathlib import Path

from trajkit.errors import InputError
from trajkit.traces.label_file import LabelFile
from trajkit.traces.trace import OUTCOMES, Outcome

_EXAMPLE = '{"transcript_id": "q1-0", "outcome": "hallucination"}'


def read_outcomes(path: str | Path) -> dict[str, Outcome]:
    """transcript_id → outcome, of a JSONL file, or of a .csv or .tsv file whose first line names the columns
    transcript_id and outcome. Other keys and columns are ignored; a run without an outcome is not labelled.

    Raises InputError, naming the line, on anything else, and on a run that stands twice.
    """
    file = LabelFile.at(path, "outcomes of runs", ("transcript_id", "outcome"), _EXAMPLE)
    found: dict[str, Outcome] = {}
    for number, name, record in file.records():
        outcome = record.get("outcome")
        if outcome is None or outcome == "":
            continue
        if outcome not in OUTCOMES:
            raise file.refused(number, f"outcome must be one of {', '.join(OUTCOMES)}, got {outcome!r}")
        if name in found:
            raise file.refused(number, f"run {name!r} has an outcome already")
        found[name] = outcome
    if not found:
        raise InputError(f"{file.path} holds no outcome; expected lines such as {_EXAMPLE}")
    return found
