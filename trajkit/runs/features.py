"""Prefix features of many runs: a frame in memory, or files where there are too many for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from trajkit.errors import InputError
from trajkit.files import hold, replacing
from trajkit.folders import check_own
from trajkit.runs.engines import Engine, work_through
from trajkit.runs.kernel import Wanted
from trajkit.runs.source import Part, Source, parts_of_files
from trajkit.runs.table import RunTable, check_ids, rows_of_part, run_table
from trajkit.traces.file import TraceFile
from trajkit.traces.store import files_of

if TYPE_CHECKING:
    import pandas as pd

_WANTED = Wanted(metrics=False, hidden=True)
_JOB = "_job.json"
"""Readers of Parquet folders leave out names that begin so."""


@overload
def features(
    source: Source,
    *,
    engine: Engine = ...,
    workers: int | None = ...,
    address: str | None = ...,
    advance: Callable[..., None] = ...,
) -> pd.DataFrame: ...
@overload
def features(
    source: Source,
    *,
    out: str | Path,
    engine: Engine = ...,
    workers: int | None = ...,
    address: str | None = ...,
    advance: Callable[..., None] = ...,
) -> Path: ...
def features(
    source: Source,
    *,
    out: str | Path | None = None,
    engine: Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    advance: Callable[..., None] = lambda note, steps=1: None,
) -> Any:
    """Prefix features, a row per run and thinking step, in order: RUN_COLUMNS, then FEATURE_NAMES (`RunTable.frame`).

    source: a file or folder of traces, `read_traces`, or Traces in memory. out: write the rows to this folder of
    Parquet files instead, a few thousand runs at a time and so in bounded memory, and return its path; a call that was
    interrupted goes on where it was. engine, workers, address: as in `run_table`. advance: called with ("", n) after n
    more runs. A run without thinking has no row; of one without effects, what is about them is NaN.

    See also: `run_table`, `prefix_features`, `EarlyFailurePredictor`.

    >>> frame = tk.features([traces[0], traces[1]])
    >>> frame[["transcript_id", "step", "n_tokens", "path_length", "concentration"]].round(2).head(3)
              transcript_id  step  n_tokens  path_length  concentration
    0  validation-1-00000-0     1         8         0.00           1.00
    1  validation-1-00000-0     2        17        11.47           1.00
    2  validation-1-00000-0     3        26        22.59           0.99
    """
    if out is None:
        return run_table(source, _WANTED, engine=engine, workers=workers, address=address, advance=advance).frame
    if not isinstance(source, str | Path):
        raise InputError("features are written to files from the path of the traces; give that instead of the traces.")
    return _write(Path(source), Path(out), engine, workers, address, advance)


def _write(
    source: Path, out: Path, engine: Engine, workers: int | None, address: str | None, advance: Callable[..., None]
) -> Path:
    check_own(out, _JOB)
    parts = parts_of_files(source)
    check_ids(pa.chunked_array([chunk for path in files_of(source) for chunk in TraceFile(path).id_column().chunks]))
    job = _job(parts)
    lock = hold(out)
    try:
        about = out / _JOB
        if about.is_file() and about.read_text(encoding="utf-8") != job:
            raise InputError(f"{out} holds features of other traces, or they have changed; name a new folder.")
        with replacing(about) as file:
            file.write(job.encode())
        names = {part: out / f"part-{number:06d}.parquet" for number, part in enumerate(parts)}
        missing = [part for part in parts if not names[part].is_file()]
        done = work_through(partial(_part_features), missing, engine, workers, address)
        for part in missing:
            table = next(done)
            with replacing(names[part]) as file:
                pq.write_table(table, file, compression="zstd")
            advance("", int(table.schema.metadata[b"runs"]))
            del table  # before the next is made
    finally:
        lock.close()
    return out


def _part_features(part: Part) -> pa.Table:
    rows = rows_of_part(part, _WANTED)
    return RunTable(rows).frame_table.replace_schema_metadata({"runs": str(len(rows))})


def _job(parts: list[Part]) -> str:
    """What the files of a folder were made from, so that no other job goes on in it."""
    files = {str(part.path.resolve()): [part.path.stat().st_size, part.path.stat().st_mtime_ns] for part in parts}
    shape = hashlib.sha256(repr([(str(part.path), part.groups) for part in parts]).encode()).hexdigest()
    return json.dumps({"files": files, "parts": shape}, indent=2) + "\n"
