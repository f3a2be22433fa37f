"""Traces on disk: read a file or folder, or write one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError, TraceFormatError
from trajkit.traces.atomic import write_file
from trajkit.traces.file import REST, TraceFile
from trajkit.traces.rows import encode_trace
from trajkit.traces.trace import Trace
from trajkit.traces.writer import TraceWriter, parts_of


class Traces(Sequence[Trace]):
    """The runs of a file or folder; a run is decoded when it is asked for. Made by `read_traces`."""

    def __init__(self, files: Sequence[TraceFile]) -> None:
        self.files = tuple(files)
        self._ends = np.cumsum([len(file.ids) for file in files])
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

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trace]: ...
    def __getitem__(self, index: int | slice) -> Trace | list[Trace]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._run(range(len(self))[index], with_image=True)

    def __repr__(self) -> str:
        return f"Traces({len(self)} runs in {len(self.files)} file{'s' if len(self.files) > 1 else ''})"

    @cached_property
    def ids(self) -> list[str]:
        """The transcript_id of each run, in order."""
        return [name for file in self.files for name in file.ids]

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All effects as (values, offsets): run i has `values[offsets[i]:offsets[i + 1]]`, its flat (T*K,) effects.

        For a single file `values` is a read-only view of Arrow's memory; several files are copied into one array.
        """
        if len(self.files) == 1:
            return self.files[0].effects
        values, offsets = zip(*(file.effects for file in self.files), strict=True)
        sizes = np.concatenate([np.diff(part) for part in offsets])
        return np.concatenate(values), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def column(self, name: str) -> list[Any]:
        """One scalar column of all runs (`group_id`, `outcome`, …) without decoding the runs."""
        if name not in REST:
            raise InputError(f"The 'name' parameter of column must be one of {', '.join(REST)}. Got {name!r} instead.")
        return [value for file in self.files for value in file.rest[name].to_pylist()]

    def without_images(self) -> Iterator[Trace]:
        """The runs in order with `image` None, for work that never looks at pixels."""
        return (self._run(i, with_image=False) for i in range(len(self)))

    def _run(self, index: int, *, with_image: bool) -> Trace:
        which = int(np.searchsorted(self._ends, index, side="right"))
        file = self.files[which]
        row = index - (int(self._ends[which - 1]) if which else 0)
        return file.row(row, self._find_image(file.hashes[row]) if with_image else None)

    def _image(self, sha: str) -> bytes | None:
        candidates = self._holders.get(sha, ())
        return next((image for file, row in candidates if (image := file.image(row)) is not None), None)


def read_traces(path: str | Path) -> Traces:
    """The runs of one .parquet file, or of all .parquet files of a folder, in the order of their names.

    Every file's columns, ids and effects are checked before this returns. Raises InputError where there is nothing to
    read and TraceFormatError, naming file and run, on anything that is not the schema in `trajkit.traces.schema`.
    """
    return Traces([TraceFile(file) for file in files_of(path)])


def files_of(path: str | Path) -> list[Path]:
    """The .parquet files of a folder, in the order of their names, or the one that `path` names.

    Raises InputError where there is none.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a .parquet file of traces or a folder of them.")
    files = parts_of(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file; expected a folder that `trajkit collect` wrote.")
    return files


def write_traces(traces: Iterable[Trace], path: str | Path) -> Path:
    """Write runs to one file when `path` ends in .parquet, else to a new folder of parts.

    A file that exists is replaced once the new one is complete. Raises InputError when a run cannot be stored, ids
    repeat, the disk is full, or the folder already holds runs (add to those with TraceWriter).
    """
    path = Path(path)
    if path.suffix == ".parquet":
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected the name of a file, or a folder without .parquet.")
        write_file(map(encode_trace, traces), path)
        return path
    if path.is_dir() and parts_of(path):
        raise InputError(f"{path} already holds traces; write to a new folder, or add to this one with TraceWriter.")
    with TraceWriter(path, part_size=512) as writer:
        for trace in traces:
            writer.add(trace)
    return path
