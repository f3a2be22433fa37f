"""Where the kernel's batches come from: a file or folder of saved runs, in parts, or runs in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trajkit.errors import InputError
from trajkit.traces.file import TraceFile
from trajkit.traces.rows import encode_labels, plain
from trajkit.traces.schema import SCHEMA, STEP
from trajkit.traces.store import Traces, files_of
from trajkit.traces.trace import Trace

Source = str | Path | Traces | Trace | Iterable[Trace]
ROWS = 1024
"""Runs in a batch."""


@dataclass(frozen=True)
class Part:
    """Some row groups of a file: what one worker does at a time."""

    path: Path
    groups: tuple[int, ...]


def parts_of_files(path: str | Path, rows: int = 4 * ROWS) -> list[Part]:
    """A file or folder in parts of about `rows` runs, in order. Raises InputError where there is nothing to read,
    TraceFormatError on what is not the schema."""
    return [Part(file, groups) for file in files_of(path) for groups in TraceFile(file).row_groups(rows)]


def batches(source: Source | Part, columns: Sequence[str], rows: int = ROWS) -> Iterator[pa.RecordBatch]:
    """Runs in order, `rows` at a time, as `columns` of the trace schema.

    Raises InputError where a path holds nothing to read, TraceFormatError on what is not the schema.
    """
    if isinstance(source, Part):
        yield from _opened(source.path, source.path.stat().st_mtime_ns).batches(columns, rows, source.groups)
    elif isinstance(source, str | Path):
        for path in files_of(source):
            yield from TraceFile(path).batches(columns, rows)
    elif isinstance(source, Traces) and (found := source.batches(columns, rows)) is not None:
        yield from found
    else:
        runs = iter([source] if isinstance(source, Trace) else _checked(source))
        while some := list(islice(runs, rows)):
            yield _as_batch(some, columns)


def _checked(source: Any) -> Iterator[Trace]:
    """The runs of what is given. Raises InputError where it is not runs."""
    if hasattr(source, "columns") or not isinstance(source, Iterable):
        raise InputError(
            f"expected runs: the path of traces, tk.read_traces(path), a Trace or several; got {type(source).__name__}."
        )
    for run in source:
        if not isinstance(run, Trace):
            more = " Several paths are read one by one, or as one folder." if isinstance(run, str | Path) else ""
            raise InputError(f"expected runs, each a Trace; got {type(run).__name__} among them.{more}")
        yield run


@lru_cache(maxsize=1)
def _opened(path: Path, changed: int) -> TraceFile:
    """A file whose footer is read once for all its parts."""
    return TraceFile(path)


def _as_batch(traces: Sequence[Trace], columns: Sequence[str]) -> pa.RecordBatch:
    arrays = [_column(traces, name) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([SCHEMA.field(name) for name in columns]))


def _column(traces: Sequence[Trace], name: str) -> pa.Array:
    if name == "steps":
        steps = [step for trace in traces for step in trace.steps]
        parts = [pa.array([getattr(step, field.name) for step in steps], field.type) for field in STEP]
        return _lists([trace.n_steps for trace in traces], pa.StructArray.from_arrays(parts, fields=list(STEP)))
    if name == "effects":
        return _lists([trace.effects.size for trace in traces], _flat([trace.effects for trace in traces]))
    if name == "hidden":
        kept = [np.zeros(0, np.float32) if trace.hidden is None else trace.hidden for trace in traces]
        missing = pa.array([trace.hidden is None for trace in traces])
        return _lists([states.size for states in kept], _flat(kept), missing)
    if name == "meta":
        return pa.array([json.dumps(dict(trace.meta), default=plain) for trace in traces], pa.string())
    if name == "regions":
        maps = [encode_labels(trace.regions, trace.n_regions, trace.transcript_id) for trace in traces]
        return pa.array(maps, pa.binary())
    values = [getattr(trace, name) for trace in traces]
    try:
        return pa.array(values, SCHEMA.field(name).type)
    except UnicodeEncodeError:  # half of a surrogate pair, which no file can hold
        return pa.array([value.encode(errors="backslashreplace").decode() for value in values])


def _flat(arrays: Sequence[Any]) -> pa.Array:
    return pa.array(np.concatenate([np.zeros(0, np.float32), *(array.ravel() for array in arrays)]), pa.float32())


def _lists(lengths: Sequence[int], values: pa.Array, missing: pa.Array | None = None) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]), pa.int32()), values, mask=missing)
