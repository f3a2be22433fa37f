"""Two tables for spreadsheets and statistics: runs.csv, a row a run, and steps.csv, a row a step.

Of the effects a row has the strongest alone, and how concentrated they are; a file of JSON lines has them all. What a
spreadsheet would run as a formula begins with an apostrophe, and control characters are left out.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from trajkit.files import replacing
from trajkit.text import for_cell, inert
from trajkit.traces.backing import LIGHT
from trajkit.traces.exporters.export import Export
from trajkit.traces.exporters.folder import filling
from trajkit.traces.exporters.said import began, n_tokens, seconds, settings_of, steps_of, verdict_of
from trajkit.traces.trace import Trace

RUN_COLUMNS = (*LIGHT, "n_tokens", "seconds", "began", "risk", "alarm_step", "temperature", "max_tokens", "seed")
STEP_COLUMNS = (
    "transcript_id", "step", "kind", "text", "token_start", "token_end", "logprob", "entropy", "seconds", "risk",
    "alarm", "concentration", "top_region", "top_effect", "top_left", "top_top", "top_right", "top_bottom",
)  # fmt: skip


def write(export: Export, path: Path) -> None:
    """To a folder. Raises InputError where that holds other files, WriteError where it cannot be written."""
    with filling(path) as new, replacing(new / "runs.csv") as runs, replacing(new / "steps.csv") as steps:
        runs.write(_lines([RUN_COLUMNS]))
        steps.write(_lines([STEP_COLUMNS]))
        for trace in export.runs():
            runs.write(_lines([_run(trace)]))
            steps.write(_lines(_steps(trace)))


def _run(trace: Trace) -> list[Any]:
    known = {name: getattr(trace, name) for name in LIGHT} | verdict_of(trace) | settings_of(trace.meta)
    known |= {"n_tokens": n_tokens(trace), "seconds": seconds(trace), "began": began(trace)}
    return [known.get(name) for name in RUN_COLUMNS]


def _steps(trace: Trace) -> list[list[Any]]:
    rows = []
    for step in steps_of(trace):
        box = dict(zip(("top_left", "top_top", "top_right", "top_bottom"), step["top_box"] or (), strict=False))
        known = step | box | {"transcript_id": trace.transcript_id}
        rows.append([known.get(name) for name in STEP_COLUMNS])
    return rows


def _lines(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue().encode("utf-8", errors="replace")


def _cell(value: Any) -> Any:
    """No formula, and of control characters line ends alone."""
    return for_cell(inert(re.sub("\r\n?", "\n", value))) if isinstance(value, str) else value
