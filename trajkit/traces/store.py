"""Traces on disk: read a file or folder, write one, or add to one while runs are being collected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError, TraceFormatError
from trajkit.traces.atomic import to_table, write_file
from trajkit.traces.file import REST, TraceFile
from trajkit.traces.rows import encode_trace
from trajkit.traces.trace import Trace

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"part-(\d+)\.parquet")


class Traces(Sequence[Trace]):
    """The runs of a file or folder; a run is decoded when it is asked for. Made by `read_traces`."""

    def __init__(self, files: Sequence[TraceFile]) -> None:
        self._files = tuple(files)
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
        return f"Traces({len(self)} runs in {len(self._files)} file{'s' if len(self._files) > 1 else ''})"

    @cached_property
    def ids(self) -> list[str]:
        """The transcript_id of each run, in order."""
        return [name for file in self._files for name in file.ids]

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All effects as (values, offsets): run i has `values[offsets[i]:offsets[i + 1]]`, its flat (T*K,) effects.

        For a single file `values` is a read-only view of Arrow's memory; several files are copied into one array.
        """
        if len(self._files) == 1:
            return self._files[0].effects
        values, offsets = zip(*(file.effects for file in self._files), strict=True)
        sizes = np.concatenate([np.diff(part) for part in offsets])
        return np.concatenate(values), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def column(self, name: str) -> list[Any]:
        """One scalar column of all runs (`group_id`, `outcome`, …) without decoding the runs."""
        if name not in REST:
            raise InputError(f"The 'name' parameter of column must be one of {', '.join(REST)}. Got {name!r} instead.")
        return [value for file in self._files for value in file.rest[name].to_pylist()]

    def without_images(self) -> Iterator[Trace]:
        """The runs in order with `image` None, for work that never looks at pixels."""
        return (self._run(i, with_image=False) for i in range(len(self)))

    def _run(self, index: int, *, with_image: bool) -> Trace:
        which = int(np.searchsorted(self._ends, index, side="right"))
        file = self._files[which]
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
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a .parquet file of traces or a folder of them.")
    files = _parts(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file; expected a folder that `trajkit collect` wrote.")
    return Traces([TraceFile(file) for file in files])


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
    if path.is_dir() and _parts(path):
        raise InputError(f"{path} already holds traces; write to a new folder, or add to this one with TraceWriter.")
    with TraceWriter(path, part_size=512) as writer:
        for trace in traces:
            writer.add(trace)
    return path


class TraceWriter:
    """Adds runs to a folder while they are collected; made again after a kill, it goes on where that one stopped.

    Runs wait in memory until `part_size` of them, `flush` or the end of the `with` block write them as the next part;
    a kill loses only those that wait, and they are not in `ids`. One writer at a time holds a folder.
    """

    def __init__(self, folder: str | Path, *, part_size: int = 64) -> None:
        self._folder = Path(folder)
        self._part_size = part_size
        self._waiting: list[dict[str, Any]] = []
        self._lock = _hold(self._folder)
        for left_over in self._folder.glob(".part-*.tmp"):
            left_over.unlink()
        parts = _parts(self._folder)
        self._ids = {name for part in parts for name in TraceFile(part).read_ids()}
        self._next = max((int(match[1]) + 1 for part in parts if (match := _PART.fullmatch(part.name))), default=0)

    @property
    def ids(self) -> Set[str]:
        """The runs in the folder and those that wait: what need not be collected again."""
        return self._ids

    def require(self, settings: Mapping[str, Any]) -> None:
        """Raise InputError when a run in the folder says in its `meta` that it was made with other settings.

        Settings that a run says nothing of are not compared.
        """
        for part in _parts(self._folder):
            for name, text in TraceFile(part).read_settings():
                meta = json.loads(text)
                for key, value in settings.items():
                    if meta.get(key, value) != value:
                        raise InputError(
                            f"{self._folder} holds runs made with {key} {meta[key]!r} (run {name!r}), and these are "
                            f"to be made with {value!r}; go on with the same, or give them a folder of their own."
                        )

    def add(self, trace: Trace) -> None:
        """Take a run. Raises InputError when its id is already there or it cannot be stored; then it is not taken."""
        if trace.transcript_id in self._ids:
            raise InputError(
                f"run {trace.transcript_id!r} is already in {self._folder}; skip those in TraceWriter.ids."
            )
        row = encode_trace(trace)
        to_table([row])  # what Arrow refuses is refused here, not when the part is written
        self._waiting.append(row)
        self._ids.add(trace.transcript_id)
        if len(self._waiting) >= self._part_size:
            self.flush()

    def flush(self) -> None:
        """Write the runs that wait. They go on waiting when that fails."""
        if self._waiting:
            write_file(self._waiting, self._folder / f"part-{self._next:05d}.parquet")
            self._waiting.clear()
            self._next += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._lock.close()


def _parts(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))


def _hold(folder: Path) -> IO[bytes]:
    """An open file whose lock ends with it, or with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115  the writer closes it
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to: {error.strerror}; expected a folder, or a new name."
        ) from error
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise InputError(
                f"another process is writing to {folder}; wait for it, or give this one its own folder."
            ) from error
    return lock
