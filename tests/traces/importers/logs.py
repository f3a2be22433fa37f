"""Golden logs of other tools, and how tests read them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from trajkit.errors import InputError
from trajkit.traces.importers.imported import import_traces
from trajkit.traces.trace import Trace

GOLDEN = Path(__file__).parent / "golden"
QUESTIONS = GOLDEN / "questions.jsonl"
THINKING = "row 4 col 4 is empty. row 1 col 4 is blue 0. row 2 col 4 is empty. row 3 col 4 is green 8."
"""Of the first question by an earlier model of the demo, under greedy decoding."""
IMAGE = (GOLDEN / "images" / "s00.png").read_bytes()


def runs_in(path: Path, **options: Any) -> list[Trace]:
    """The runs of a log of which nothing is said beside them, and none is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return list(import_traces(path, **options))


def left_out(path: Path, **options: Any) -> tuple[list[Trace], dict[str, str]]:
    """The runs of a log, and why others were left out, by id."""
    reasons: dict[str, str] = {}
    runs = import_traces(path, set_aside=lambda run, error: reasons.setdefault(run, str(error)), **options)
    return list(runs), reasons


def refused(path: Path, **options: Any) -> str:
    """Why nothing of a log could be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError) as error:
            import_traces(path, **options)
    return str(error.value)


def only(pattern: str) -> Path:
    """The one golden file of that name."""
    [found] = GOLDEN.glob(pattern)
    return found


def write_lines(path: Path, *records: Any) -> Path:
    """A JSONL file; texts are lines as they are."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
