"""Transcripts of inspect_scout: a Parquet file, or the folder of them that is a transcript database.

A transcript is read like a sample of an inspect log: its messages and events are JSON in text columns, and its events
hold the log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.formats import read_head
from trajkit.traces.importers.inspect_sample import Log, Sample, run_of
from trajkit.traces.importers.parquet import columns, count_rows, parquet_rows
from trajkit.traces.importers.reading import as_dict, as_list, as_text, error_line, lenient_json
from trajkit.traces.importers.run import SourceRun, Wanted

_TOLD = frozenset({"transcript_id", "messages", "source_type", "task_id"})
_OWN = "effects"
"""A column of trajkit's own traces, which are read as they are."""
_READ = (
    *("transcript_id", "source_id", "task_set", "task_id", "task_repeat", "model", "score", "success", "error"),
    *("messages", "events", "events_data", "target", "scores", "sample_metadata", "generate_config"),
)
_JSON = ("messages", "events", "events_data", "scores", "sample_metadata", "generate_config")


class Scout:
    name = "scout"
    keeps = "inspect_scout keeps the reasoning that the log it read holds."

    def recognises(self, path: Path, head: bytes) -> bool:
        if path.is_dir():
            files = _files(path)
            return bool(files) and all(self.recognises(file, read_head(file)) for file in files)
        found = columns(path, head)
        return found >= _TOLD and _OWN not in found

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        files = _files(path) if path.is_dir() else [path]
        wanted.expect(sum(map(count_rows, files)))
        for file in files:
            for number, row in enumerate(parquet_rows(file, _READ), 1):
                with aside(as_text(row.get("transcript_id")) or f"{file.name}, row {number}", wanted.set_aside):
                    yield _run(row, file.parent, wanted)


IMPORTER = Scout()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))


def _run(row: dict[str, Any], folder: Path, wanted: Wanted) -> SourceRun:
    """Raises InputError where the transcript is of no run that can be used."""
    told = {name: lenient_json(text) for name in _JSON if (text := as_text(row.get(name)))}
    if error := as_text(row.get("error")):
        raise InputError(f"the sample failed: {error_line(error)}.")
    repeat = row.get("task_repeat")
    record = {
        "id": as_text(row.get("task_id")) or as_text(row.get("transcript_id")),
        "epoch": repeat if isinstance(repeat, int) else 1,
        "messages": told.get("messages"),
        "events": told.get("events"),
        "events_data": told.get("events_data"),
        "target": _target(as_text(row.get("target")) or ""),
        "scores": told.get("scores"),
        "metadata": told.get("sample_metadata"),
    }
    log = Log(
        model=as_text(row.get("model")) or "",
        task=as_text(row.get("task_set")) or "",
        id=as_text(row.get("source_id")) or "",
        tool="inspect_scout",
        config=as_dict(told.get("generate_config")),
        folder=folder,
    )
    run = run_of(Sample(record), log, wanted)
    score = run.score if as_dict(told.get("scores")) else as_text(row.get("score"))
    success = row.get("success") if score is None and not as_dict(told.get("scores")) else None
    return replace(run, id=str(as_text(row.get("transcript_id")) or run.id), score=score, success=success)


def _target(text: str) -> Any:
    """A text, or the list of accepted ones that is written as JSON."""
    if not text.startswith("["):
        return text
    try:
        return as_list(lenient_json(text)) or text
    except InputError:
        return text
