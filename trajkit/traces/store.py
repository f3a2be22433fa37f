"""Traces: many runs, on disk or in memory; read a file or folder of them, or write one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.traces.asking import has_value, judged, mask_of, nearest
from trajkit.traces.atomic import write_file
from trajkit.traces.backing import LIGHT, Backing, Held, Rows, Stored, as_pandas
from trajkit.traces.file import REST, TraceFile
from trajkit.traces.rows import encode_trace
from trajkit.traces.trace import Trace
from trajkit.traces.writer import TraceWriter, parts_of

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


_LOGS = (".eval", ".json", ".jsonl", ".csv")
"""Ends of names that files of traces do not have, and logs of other tools do."""


class Traces(Sequence[Trace]):
    """Runs: those of a file or folder (`read_traces`), or in memory (`Traces.of`); a run is decoded when asked for.

    `traces[3]` and `traces["id"]` are a Trace; a slice, a list of numbers or of ids, a boolean mask, `filter` and
    `where` are Traces again, which share what they were taken from.

    See also: `read_traces`, `export_traces`, `features`, `run_table`.

    >>> import trajkit as tk
    >>> traces = tk.read_traces("data/demo/traces")
    >>> len(traces)
    3600
    >>> traces["validation-1-00000-0"].answer
    '3'
    >>> traces.filter(outcome="hallucination", task_set=["science", "math"])
    Traces(398 of 3,600 runs in 1 file)
    >>> traces[:100].where(lambda trace: trace.n_steps > 30)
    Traces(18 of 3,600 runs in 1 file)
    """

    def __init__(self, backing: Backing, rows: Rows | None = None) -> None:
        self._backing, self._rows = backing, rows

    @classmethod
    def of(cls, runs: Iterable[Trace]) -> Traces:
        """Runs in memory. Raises TraceFormatError where a transcript_id comes twice.

        See also: `read_traces`.

        >>> made = tk.Traces.of([tk.trace(vlm, image, question, estimator=estimator, seed=1)])
        >>> made[0].answer
        '2'
        """
        return cls(Held(list(runs)))

    def __len__(self) -> int:
        return len(self._backing.ids) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int | str) -> Trace: ...
    @overload
    def __getitem__(self, index: slice | list[int] | list[str] | list[bool] | NDArray[Any]) -> Traces: ...
    def __getitem__(self, index: Any) -> Trace | Traces:
        if isinstance(index, slice):
            return self._some(np.arange(len(self))[index])
        if isinstance(index, str):
            return self._run(self._place(index))
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"there are {len(self):,} runs, the first is number 0; got {index:,}.")
            return self._run(range(len(self))[index])
        asked = list(index)
        if asked and isinstance(asked[0], bool | np.bool_):
            return self.where(index)
        at = [self._place(one) if isinstance(one, str) else range(len(self))[one] for one in asked]
        if len({*at}) < len(at):
            raise InputError(f"Traces have each run once; got run {self.ids[max(at, key=at.count)]!r} twice.")
        return self._some(np.array(at, np.int64))

    def __contains__(self, run: object) -> bool:
        """Whether there is a run of that transcript_id, or this very Trace."""
        return run in self._places if isinstance(run, str) else super().__contains__(run)

    def __repr__(self) -> str:
        whole = len(self._backing.ids)
        n = f"{len(self):,}" if self._rows is None else f"{len(self):,} of {whole:,}"
        return f"Traces({n} run{'s' * (whole != 1)} {self._backing.said})"

    def _repr_html_(self) -> str:
        from trajkit.notebook.runs import traces_html

        return traces_html(self)

    def plot(self, metric: str = "") -> go.Figure:
        """A plotly figure of a metric by how the runs ended, the path length by default (`plots.plot_runs`)."""
        from trajkit.plots.runs import plot_runs

        return plot_runs(self, metric)

    @cached_property
    def ids(self) -> Sequence[str]:
        """The transcript_id of each run, in order."""
        every = self._backing.ids
        return every if self._rows is None else [every[row] for row in self._rows.tolist()]

    @property
    def place(self) -> str | None:
        """The file or folder that the runs were read from; None for those in memory."""
        return self._backing.place

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All effects as (values, offsets): run i has `values[offsets[i]:offsets[i + 1]]`, its flat (T*K,) effects.

        For a whole single file `values` is a read-only view of Arrow's memory; else they are copied into one array.
        """
        values, offsets = self._backing.effects
        if self._rows is None:
            return values, offsets
        some = [values[offsets[row] : offsets[row + 1]] for row in self._rows.tolist()]
        ends = np.cumsum([0, *map(len, some)]).astype(np.int64)
        return np.concatenate([np.zeros(0, np.float32), *some]), ends

    def column(self, name: str) -> list[Any]:
        """One column of all runs (`group_id`, `outcome`, …), nothing else being read.

        Raises InputError on a column that is not there, or of long lists: images, effects, hidden states, tokens.

        See also: `Traces.to_pandas`.

        >>> traces.column("outcome").count("hallucination")
        824
        """
        return self._column(name, REST, "column").to_pylist()

    def filter(self, **wanted: Any) -> Traces:
        """The runs that have these values, in their order; of a list of values, one of them.

        Reads those columns alone: any that is one short value a run (`outcome`, `task_set`, `model`, `success`,
        `n_steps`, …). None asks for runs without a score, say. Raises InputError on another column, a value that
        it cannot have, or a text that no run has there, naming the nearest.

        See also: `Traces.where`.

        >>> len(traces.filter(outcome="hallucination", task_set=["science", "math"]))
        398
        """
        keep = np.ones(len(self), bool)
        for name, asked in wanted.items():
            column = self._column(name, LIGHT, "filter")
            keep &= has_value(column, name, asked, self._backing.column(name))
        return self._some(np.flatnonzero(keep))

    def where(self, wanted: Callable[[Trace], bool] | Any, *, images: bool = False) -> Traces:
        """The runs of which `wanted` is true, in their order.

        wanted: a function of a Trace, called with every run, decoded without its image unless `images`; or True and
        False for each run, as an array, a list, or a Series that was made from `to_pandas`. Raises InputError where it
        says something else.

        >>> import trajkit as tk
        >>> traces = tk.read_traces("data/demo/traces")
        >>> frame = traces.to_pandas()
        >>> len(traces.where(frame["n_steps"] > 40))
        264
        """
        if callable(wanted):
            mask = judged(self if images else self.without_images(), wanted)
        else:
            mask = mask_of(wanted, self.ids)
        return self._some(np.flatnonzero(mask))

    def to_pandas(self, columns: Sequence[str] = LIGHT) -> pd.DataFrame:
        """A row a run, in order, with what is one short value of each; other columns by their names (`steps`, `meta`).

        `success` is pandas' nullable boolean. What is worked out of the effects, `run_table(traces).table` has a row a
        run, and `features(traces)` a row a step.

        See also: `run_table`, `features`.

        >>> traces[:2].to_pandas()[["transcript_id", "outcome", "n_steps"]]
                  transcript_id  outcome  n_steps
        0  validation-1-00000-0  success       32
        1  validation-1-00000-1  success       32
        """
        import pandas as pd

        return pd.DataFrame({name: as_pandas(self._column(name, REST, "to_pandas")) for name in columns})

    def without_images(self) -> Iterator[Trace]:
        """The runs in order with `image` None, for work that never looks at pixels; those in memory as they are.

        >>> max(one.n_regions for one in traces[:100].without_images())
        35
        """
        return (self._run(at, with_image=False) for at in range(len(self)))

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch] | None:
        """The columns of runs that are in files, at most `size` at a time and checked, as `TraceFile.batches`; None for
        runs in memory."""
        return self._backing.batches(columns, size, self._rows) if isinstance(self._backing, Stored) else None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.ids)}

    def _place(self, name: str) -> int:
        if name not in self._places:
            raise InputError(f"there is no run {name!r} in these {len(self):,} runs; {nearest(name, self.ids)}")
        return self._places[name]

    def _some(self, at: NDArray[np.int64]) -> Traces:
        return Traces(self._backing, at if self._rows is None else self._rows[at])

    def _run(self, at: int, *, with_image: bool = True) -> Trace:
        return self._backing.run(at if self._rows is None else int(self._rows[at]), with_image=with_image)

    def _column(self, name: str, known: Sequence[str], asking: str) -> pa.ChunkedArray:
        if name not in known:
            raise InputError(f"there is no column {name!r} that {asking} could read; {nearest(name, known)}")
        column = self._backing.column(name)
        return column if self._rows is None else column.take(pa.array(self._rows))


def read_traces(path: str | Path) -> Traces:
    """The runs of one .parquet file, or of all .parquet files of a folder, in the order of their names.

    Every file's columns, ids and effects are checked before this returns. Raises InputError where there is nothing to
    read and TraceFormatError, naming file and run, on anything that is not the schema in `trajkit.traces.schema`.

    See also: `write_traces`, `import_traces`, `Traces`, `run_table`.

    >>> traces = tk.read_traces("data/demo/traces")
    >>> len(traces), traces[0].transcript_id
    (3600, 'validation-1-00000-0')
    """
    return Traces(Stored([TraceFile(file) for file in files_of(path)]))


def files_of(path: str | Path) -> list[Path]:
    """The .parquet files of a folder, in the order of their names, or the one that `path` names.

    Raises InputError where there is none.
    """
    if not isinstance(path, str | Path):
        raise InputError(
            f"expected the path of a .parquet file of traces or of a folder of them; got {type(path).__name__}."
        )
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a .parquet file of traces or a folder of them.")
    if path.suffix.lower() in _LOGS and not path.is_dir():
        raise InputError(
            f"{path.name} is no file of traces. Another tool's log becomes traces by "
            f"`trajkit import {path} --out TRACES`, in Python by tk.import_traces({str(path)!r})."
        )
    files = parts_of(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no .parquet file; expected a folder that `trajkit collect` or `import` wrote.")
    return files


def write_traces(traces: Iterable[Trace], path: str | Path) -> Path:
    """Write runs to one file when `path` ends in .parquet, else to a new folder of parts.

    A file that exists is replaced once the new one is complete. Raises InputError when a run cannot be stored, ids
    repeat, the disk is full, or the folder already holds runs (add to those with TraceWriter).

    See also: `read_traces`, `export_traces`, `Trace`.

    >>> tk.write_traces(traces[:2], folder / "two.parquet").name
    'two.parquet'
    >>> len(tk.read_traces(folder / "two.parquet"))
    2
    """
    if isinstance(traces, Trace | str | Path) or not isinstance(path, str | Path):
        raise InputError("write_traces takes runs, then a path: write_traces(traces, path), or ([run], path) for one.")
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
