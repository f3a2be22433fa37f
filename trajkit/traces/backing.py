"""What Traces stand on: the files of a folder, or runs in memory. Rows are counted from 0 over all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trajkit.errors import TraceFormatError
from trajkit.traces.file import TraceFile
from trajkit.traces.rows import encode_trace
from trajkit.traces.schema import SCHEMA
from trajkit.traces.trace import Trace

Rows = NDArray[np.int64]
LIGHT = (
    "transcript_id", "model", "task_set", "task_id", "task_repeat", "group_id", "question", "answer", "target",
    "outcome", "score", "success", "n_steps", "n_regions", "effects_kind", "image_sha256",
)  # fmt: skip
"""Of the trace schema, the columns that are one short value a run."""


class Backing(Protocol):
    """Runs, one a row."""

    @property
    def ids(self) -> Sequence[str]:
        """The transcript_id of each row."""
        ...

    @property
    def said(self) -> str:
        """Where the runs are, in words."""
        ...

    @property
    def place(self) -> str | None:
        """The file or folder that they were read from."""
        ...

    def run(self, row: int, *, with_image: bool) -> Trace:
        """One run, `image` None unless asked for."""
        ...

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the trace schema, of all rows."""
        ...

    @property
    def effects(self) -> tuple[NDArray[np.float32], Rows]:
        """(values, offsets) of all rows."""
        ...


class Stored:
    """Runs in files. Raises TraceFormatError on a file that is not the schema, and an id that comes twice."""

    def __init__(self, files: Sequence[TraceFile]) -> None:
        self.files = tuple(files)
        self._starts = np.cumsum([0, *(len(file.ids) for file in files)])
        self._holders: dict[str, list[tuple[TraceFile, int]]] = {}
        origin: dict[str, Path] = {}
        for file in files:
            file.effects  # noqa: B018  checked here, so that a bad file is refused before any work is done
            for row, (name, sha) in enumerate(zip(file.ids, file.hashes, strict=True)):
                if name in origin:
                    raise TraceFormatError(
                        f"transcript_id must be unique; {name!r} is in {origin[name]} and in {file.path}. "
                        "Remove one of the two files, or rename the run."
                    )
                origin[name] = file.path
                if sha:
                    self._holders.setdefault(sha, []).append((file, row))
        self._find_image = lru_cache(maxsize=32)(self._image)

    @cached_property
    def ids(self) -> list[str]:
        return [name for file in self.files for name in file.ids]

    @property
    def said(self) -> str:
        return f"in {len(self.files)} file{'s' * (len(self.files) != 1)}"

    @property
    def place(self) -> str:
        return str(self.files[0].path if len(self.files) == 1 else self.files[0].path.parent)

    def run(self, row: int, *, with_image: bool) -> Trace:
        which = int(np.searchsorted(self._starts, row, side="right")) - 1
        file, at = self.files[which], row - int(self._starts[which])
        return file.row(at, self._find_image(file.hashes[at]) if with_image else None)

    def column(self, name: str) -> pa.ChunkedArray:
        return pa.chunked_array([c for file in self.files for c in file.column(name).chunks], SCHEMA.field(name).type)

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], Rows]:
        if len(self.files) == 1:
            return self.files[0].effects
        return _joined([file.effects for file in self.files])

    def batches(self, columns: Sequence[str], size: int, wanted: Rows | None) -> Iterator[pa.RecordBatch]:
        """Checked batches of at most `size` rows: of all rows, or those that are wanted, in their order. Where that is
        not the order of the files, all that is wanted is held in memory."""
        if wanted is None:
            for file in self.files:
                yield from file.batches(columns, size)
        elif np.all(np.diff(wanted) > 0):
            for start, file in zip(self._starts[:-1], self.files, strict=True):
                of_file = wanted[(wanted >= start) & (wanted < start + len(file.ids))] - start
                yield from _some(file, columns, size, of_file)
        else:
            found = pa.Table.from_batches(self.batches(columns, size, np.sort(wanted)))
            back = np.argsort(np.argsort(wanted))  # wanted[i] is the back[i]-th smallest
            yield from found.take(pa.array(back)).combine_chunks().to_batches(max_chunksize=size)

    def _image(self, sha: str) -> bytes | None:
        candidates = self._holders.get(sha, ())
        return next((image for file, row in candidates if (image := file.image(row)) is not None), None)


class Held:
    """Runs in memory. Raises TraceFormatError on an id that comes twice."""

    said, place = "in memory", None

    def __init__(self, runs: Sequence[Trace]) -> None:
        self._runs = tuple(runs)
        self.ids = [run.transcript_id for run in self._runs]
        if twice := next((name for name, n in Counter(self.ids).items() if n > 1), None):
            raise TraceFormatError(f"transcript_id must be unique; {twice!r} comes twice. Rename one of the two runs.")

    def run(self, row: int, *, with_image: bool) -> Trace:
        """The run as it was given, with its image in any case: it is there."""
        return self._runs[row]

    def column(self, name: str) -> pa.ChunkedArray:
        if name in LIGHT:
            values: list[Any] = [getattr(run, name) for run in self._runs]
        else:
            values = [encode_trace(run)[name] for run in self._runs]
        return pa.chunked_array([pa.array(values, SCHEMA.field(name).type)])

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], Rows]:
        flat = [run.effects.astype(np.float32, copy=False).ravel() for run in self._runs]
        return _joined([(values, np.array([0, len(values)])) for values in flat])


def _joined(parts: Sequence[tuple[NDArray[np.float32], Rows]]) -> tuple[NDArray[np.float32], Rows]:
    values = np.concatenate([np.zeros(0, np.float32), *(values for values, _ in parts)])
    sizes = [np.diff(offsets) for _, offsets in parts]
    return values, np.cumsum(np.concatenate([[0], *sizes])).astype(np.int64)


def _some(file: TraceFile, columns: Sequence[str], size: int, wanted: Rows) -> Iterator[pa.RecordBatch]:
    """Of one file the wanted rows, ascending, reading the row groups alone that have any."""
    ends = np.cumsum(file.group_sizes)
    groups = np.unique(np.searchsorted(ends, wanted, side="right")).tolist()
    if not groups:
        return
    starts = ends - file.group_sizes
    rows = np.concatenate([np.arange(starts[group], ends[group]) for group in groups])
    keep = np.isin(rows, wanted)
    done = 0
    for batch in file.batches(columns, size, groups):
        mask = keep[done : done + len(batch)]
        done += len(batch)
        if mask.any():
            yield batch if mask.all() else batch.filter(pa.array(mask))


def as_pandas(column: pa.ChunkedArray) -> Any:
    """A column as pandas has it, booleans as nullable ones."""
    import pandas as pd

    if pa.types.is_boolean(column.type):
        known = pc.fill_null(column, False).to_numpy().astype(bool)
        return pd.arrays.BooleanArray(known, column.is_null().to_numpy().astype(bool))
    return column.to_pandas()
