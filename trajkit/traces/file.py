"""One Parquet file of traces, read: small columns at once and checked, the rest when a run is asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trajkit.errors import TraceFormatError
from trajkit.traces.faults import faults
from trajkit.traces.rows import decode_trace
from trajkit.traces.schema import ROWS_KEY, SCHEMA, as_schema, check_schema
from trajkit.traces.trace import Trace

KEPT = ("half_widths", "hidden", "tokens")
"""Lists of numbers beside the effects, read row group by row group when a run is asked for."""
REST = tuple(name for name in SCHEMA.names if name not in ("effects", "image", *KEPT))
"""The columns that `TraceFile.rest` holds."""

_INDEX = ("transcript_id", "image_sha256", "n_steps", "n_regions", "effects")
_AGAIN = "Write it again, or move it away."
_BUFFER = 2**18
"""Bytes of each column that are read ahead: without it a column of a whole row group is held."""
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, IndexError, MemoryError)
"""What pyarrow raises on a damaged file."""


class TraceFile:
    """The rows of one file. Everything raises TraceFormatError, naming file and run, on what is not the schema."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._parquet = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=_BUFFER)
        except _DAMAGE as error:
            raise _refused(path, "not a Parquet file, or cut short", error) from error
        self._check_rows()
        check_schema(self._parquet.schema_arrow, path)
        ends = np.cumsum([self._parquet.metadata.row_group(i).num_rows for i in range(self._parquet.num_row_groups)])
        self._group_ends: NDArray[np.int64] = ends.astype(np.int64)
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._image_group = lru_cache(maxsize=4)(partial(_column_of, path, self._parquet, "image"))
        self._kept_group = lru_cache(maxsize=len(KEPT))(partial(_column_of, path, self._parquet))

    def _check_rows(self) -> None:
        """Raise TraceFormatError where the footer, which has no checksum, does not count the rows that were written."""
        footer = self._parquet.metadata
        rows = sum(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
        said = (footer.metadata or {}).get(ROWS_KEY, str(rows).encode())
        bare = footer.serialized_size + 12  # the size of a file without rows: footer, its length and two magic words
        if rows != footer.num_rows or said != str(rows).encode() or (not rows and self.path.stat().st_size != bare):
            raise TraceFormatError(
                f"{self.path}: damaged, its footer counts {footer.num_rows} runs, {rows} are listed and "
                f"{said.decode(errors='replace')[:20]} were written. {_AGAIN}"
            )

    def _read(self, columns: Sequence[str], group: int | None = None) -> pa.Table:
        return _read(self.path, self._parquet, columns, group)

    @property
    def group_sizes(self) -> list[int]:
        """How many runs each row group has."""
        return np.diff(self._group_ends, prepend=0).tolist()

    def group(self, number: int) -> pa.RecordBatch:
        """All columns of a row group, unchecked but for damage; those that the file lacks are null."""
        there = [name for name in SCHEMA.names if name in self._parquet.schema_arrow.names]
        return _completed(self._read(there, number).combine_chunks().to_batches(), SCHEMA.names)

    def row_groups(self, rows: int) -> list[tuple[int, ...]]:
        """The file's row groups in order, together in parts of at least `rows` rows (the last may have fewer)."""
        sizes = np.diff(self._group_ends, prepend=0)
        part = np.concatenate([[0], self._group_ends[:-1] // max(rows, 1)]) if len(sizes) else sizes
        starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
        return [tuple(range(a, b)) for a, b in zip(starts, [*starts[1:], len(sizes)], strict=True)]

    def batches(
        self, columns: Sequence[str], rows: int, groups: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The columns of all rows, or those of some row groups, in order, at most `rows` at a time and each batch
        checked by `faults`.

        Columns that a file may lack are null where it does. Memory is bounded by a batch.
        """
        there = [name for name in columns if name in self._parquet.schema_arrow.names]
        count = 0
        every = range(self._parquet.num_row_groups) if groups is None else groups
        found = self._parquet.iter_batches(batch_size=rows, row_groups=list(every), columns=there)
        while True:
            try:
                read = next(found, None)
                if read is None:
                    return
                read.validate(full=True)
                batch = _completed(as_schema(pa.Table.from_batches([read])).combine_chunks().to_batches(), columns)
            except _DAMAGE as error:
                raise _refused(self.path, "damaged, cannot be read", error) from error
            if fault := next(faults(batch), None):
                run = batch["transcript_id"][fault.row].as_py() if "transcript_id" in there else count + fault.row
                raise TraceFormatError(f"{self.path}: run {run!r}: {fault.why}. {_AGAIN}")
            count += len(batch)
            yield batch

    def id_column(self) -> pa.ChunkedArray:
        """The transcript_id of each row, reading nothing else."""
        return self._read(("transcript_id",))["transcript_id"]

    def read_ids(self) -> list[str]:
        """As `id_column`, as a list."""
        return self.id_column().to_pylist()

    def read_settings(self) -> list[tuple[str, str]]:
        """One (transcript_id, meta as JSON) for every distinct `meta`, reading nothing else."""
        table = self._read(("transcript_id", "meta"))
        return list(
            {
                meta: (name, meta)
                for name, meta in zip(table["transcript_id"].to_pylist(), table["meta"].to_pylist(), strict=True)
            }.values()
        )

    def read_asked(self) -> dict[str, tuple[str, str, str]]:
        """task_id → (question, target, hash of the image) of its first run, reading nothing else."""
        columns = ("task_id", "question", "target", "image_sha256")
        table = self._read(columns)
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        asked: dict[str, tuple[str, str, str]] = {}
        for task_id, *about in rows:
            asked.setdefault(task_id, tuple(about))
        return asked

    @cached_property
    def _index(self) -> pa.Table:
        table = self._read(_INDEX)
        for name in _INDEX:
            if table[name].null_count:
                raise TraceFormatError(f"{self.path}: column {name!r} must not hold nulls; fill them in. {_AGAIN}")
        return table

    @cached_property
    def ids(self) -> list[str]:
        return self._index["transcript_id"].to_pylist()

    @cached_property
    def hashes(self) -> list[str]:
        return self._index["image_sha256"].to_pylist()

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(values, offsets); values is a view of Arrow's buffer."""
        column = self._index["effects"]
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # an empty column has no chunk
            array = pa.array([], type=column.type)
        values, offsets = array.values, array.offsets.to_numpy().astype(np.int64)
        if values.null_count:
            raise TraceFormatError(f"{self.path}: effects must not hold nulls; measure them again. {_AGAIN}")
        flat = values.to_numpy(zero_copy_only=True)[offsets[0] : offsets[-1]]
        offsets -= offsets[0]
        self._check_effects(flat, offsets)
        return flat, offsets

    def _check_effects(self, flat: NDArray[np.float32], offsets: NDArray[np.int64]) -> None:
        steps = self._index["n_steps"].to_numpy().astype(np.int64)
        regions = self._index["n_regions"].to_numpy().astype(np.int64)
        wrong = np.flatnonzero((np.diff(offsets) != steps * regions) | (steps < 0) | (regions < 0))
        if len(wrong):
            row = wrong[0]
            raise TraceFormatError(
                f"{self.path}: run {self.ids[row]!r}: effects must have n_steps * n_regions = {steps[row]} * "
                f"{regions[row]} values, got {offsets[row + 1] - offsets[row]}. {_AGAIN}"
            )
        bad = np.flatnonzero(~np.isfinite(flat))
        if len(bad):
            row = np.searchsorted(offsets, bad[0], side="right") - 1
            raise TraceFormatError(
                f"{self.path}: run {self.ids[row]!r}: effects must be finite, got {len(bad)} NaN or infinite values in "
                "the file; measure those runs again, or leave them out."
            )

    @cached_property
    def rest(self) -> pa.Table:
        """Every column but effects, hidden states and image, in one piece."""
        return self._read(REST).combine_chunks()

    def row(self, row: int, image: bytes | None) -> Trace:
        values, offsets = self.effects
        fields = self.rest.slice(row, 1).to_pylist()[0]
        kept: dict[str, Any] = {name: self._kept(name, row) for name in KEPT}
        return decode_trace(fields, values[offsets[row] : offsets[row + 1]], image=image, path=self.path, **kept)

    def one(self, row: int, image: bytes | None) -> Trace:
        """As `row`, reading its row group alone: for whoever wants single runs of a large file."""
        group, at = self._place(row)
        names = [name for name in SCHEMA.names if name != "image" and name in self._parquet.schema_arrow.names]
        found = self._read(names, group).slice(at, 1).combine_chunks().to_batches()
        run = _completed(found, [*REST, "effects", *KEPT])
        fields = run.select(REST).to_pylist()[0]
        if fault := next(faults(run), None):
            raise TraceFormatError(f"{self.path}: run {fields['transcript_id']!r}: {fault.why}. {_AGAIN}")
        effects, *kept = (_flat_of(run[name]) for name in ("effects", *KEPT))
        values = np.zeros(0, np.float32) if effects is None else effects
        return decode_trace(fields, values, image=image, path=self.path, **dict(zip(KEPT, kept, strict=True)))

    def hash_column(self) -> pa.ChunkedArray:
        """The image_sha256 of each row, reading nothing else."""
        return self._read(("image_sha256",))["image_sha256"]

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of REST, reading nothing else; what was read is kept."""
        if name in self._columns:
            return self._columns[name]
        held = self.__dict__.get("rest")
        found = self._columns[name] = self._read((name,))[name] if held is None else held[name]
        return found

    def image(self, row: int) -> bytes | None:
        group, at = self._place(row)
        return self._image_group(group)[at].as_py()

    def _kept(self, name: str, row: int) -> NDArray[Any] | None:
        """The flat numbers of a run; a null among them is NaN."""
        if name not in self._parquet.schema_arrow.names:
            return None
        group, at = self._place(row)
        return _flat_of(self._kept_group(name, group).slice(at, 1))

    def _place(self, row: int) -> tuple[int, int]:
        """The row group of a row, and its number there."""
        group = int(np.searchsorted(self._group_ends, row, side="right"))
        return group, row - (int(self._group_ends[group - 1]) if group else 0)


def _read(path: Path, parquet: pq.ParquetFile, columns: Sequence[str], group: int | None = None) -> pa.Table:
    try:
        wanted = list(columns)
        table = parquet.read(wanted) if group is None else parquet.read_row_group(group, wanted)
        table.validate(full=True)
        return as_schema(table)
    except _DAMAGE as error:
        raise _refused(path, "damaged, cannot be read", error) from error


def _column_of(path: Path, parquet: pq.ParquetFile, name: str, group: int) -> pa.ChunkedArray:
    """A column of a row group. Not a method: what is remembered of it must not keep its file in memory."""
    return _read(path, parquet, (name,), group)[name]


def _flat_of(lists: pa.Array | pa.ChunkedArray) -> NDArray[Any] | None:
    """The numbers of the one list of a column, a null among them as NaN; None where the list is null."""
    values = lists[0].values
    return None if values is None else values.to_numpy(zero_copy_only=False)


def _completed(batches: list[pa.RecordBatch], columns: Sequence[str]) -> pa.RecordBatch:
    """The one batch with `columns` in their order, null where it lacks them."""
    (batch,) = batches
    for name in columns:
        if name not in batch.schema.names:
            batch = batch.append_column(SCHEMA.field(name), pa.nulls(len(batch), SCHEMA.field(name).type))
    return batch.select(list(columns))


def _refused(path: Path, why: str, error: BaseException) -> TraceFormatError:
    short = isinstance(error, MemoryError) or os.strerror(errno.EAGAIN) in str(error)  # of memory, or of threads
    if short:  # a whole file too: it must not be thrown away for that
        return TraceFormatError(
            f"{path}: not enough memory or threads to read it ({_line(error)}). Free some; if there is far more than "
            "the file has, it is damaged."
        )
    return TraceFormatError(f"{path}: {why} ({_line(error)}). {_AGAIN}")


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
