"""RunTable: many runs as columns, read in one pass, which everything that compares runs starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trajkit.errors import InputError, TraceFormatError
from trajkit.fingerprints import ModelId
from trajkit.runs.columns import METRICS, PREFIX, SAID
from trajkit.runs.engines import Engine, work_through
from trajkit.runs.kernel import Wanted, rows_of
from trajkit.runs.said import HOW_TO_GET_EFFECTS, summary
from trajkit.runs.source import Part, Source, batches, parts_of_files
from trajkit.tables.words import count
from trajkit.traces.backing import as_pandas
from trajkit.traces.labels import Label
from trajkit.traces.rows import decode_labels
from trajkit.traces.trace import FAILURES

if TYPE_CHECKING:
    import pandas as pd

RUN_COLUMNS = ("transcript_id", "group_id", "task_set", "form", "success", "outcome")
"""The columns that say the same on every row of a run in `RunTable.frame`."""
LAST = ("n_tokens", "logprob_mean", "entropy_mean")
"""Prefix features that `RunTable.table` gives a run as its own, from its last thinking step."""
MOST_RUNS = 10_000
"""Runs that are compared by shuffling their labels, or studied, where nothing else is asked for (`RunTable.drawn`):
enough for an AUC to ± 0.02, and few enough to shuffle 10,000 times and to fit every model dozens of times."""
LEAST_GROUPS = 50
"""Groups that have room in what is drawn, or runs are drawn one by one."""


def run_table(
    source: Source,
    wanted: Wanted | None = None,
    *,
    engine: Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    advance: Callable[..., None] = lambda note, steps=1: None,
) -> RunTable:
    """Read all runs once: of a file or folder, of `read_traces`, or of Traces in memory.

    wanted: what to keep beside metrics and prefix features. engine, workers, address: who does the work on a file or
    folder (`engines.work_through`). advance: called with ("", n) after n more runs. Raises InputError where there is
    nothing to read, TraceFormatError on what is not the schema or a transcript_id that comes twice.

    See also: `RunTable`, `features`, `read_traces`.

    >>> runs = tk.run_table("data/demo/traces")
    >>> len(runs), round(float(runs.table["path_length"].median()), 1)
    (3600, 173.6)
    """
    wanted = wanted or Wanted()
    made = []
    for table in tables_of(source, wanted, engine, workers, address):
        made.append(table)
        advance("", len(table))
    table = pa.concat_tables([wanted.schema().empty_table(), *made])
    check_ids(table["transcript_id"])
    return RunTable(table)


def tables_of(
    source: Source, wanted: Wanted, engine: Engine = "local", workers: int | None = None, address: str | None = None
) -> Iterator[pa.Table]:
    """The rows of all runs in order, some at a time."""
    if isinstance(source, str | Path):
        return work_through(partial(rows_of_part, wanted=wanted), parts_of_files(source), engine, workers, address)
    if engine != "local":
        raise InputError(f"engine {engine!r} reads files; give the path of the traces instead of the traces.")
    found = batches(source, wanted.reads())
    return (pa.Table.from_batches([rows_of(batch, wanted)]) for batch in found)


def rows_of_part(part: Part, wanted: Wanted) -> pa.Table:
    """The rows of the runs of a part."""
    made = [rows_of(batch, wanted) for batch in batches(part, wanted.reads())]
    return pa.Table.from_batches(made, wanted.schema())


def check_ids(ids: pa.ChunkedArray) -> None:
    """Raises TraceFormatError where a transcript_id comes twice."""
    if pc.count_distinct(ids).as_py() < len(ids):
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise TraceFormatError(f"transcript_id must be unique; {twice!r} comes twice. Rename one of the two runs.")


@dataclass(frozen=True, eq=False)
class RunTable:
    """Runs as columns, in the order that they were read.

    rows: an Arrow table with a row a run, columns as `kernel.Wanted.schema`. left_out: runs that were there and are no
    longer (`usable`). drawn_from: how many runs these were drawn from, with `seed` (`drawn`); 0: they are all. whole:
    whether groups were drawn, not runs. by_hand: labels that took the place of outcomes (`labelled`), of these runs or
    more. The frames are made from `rows` when they are first asked for.

    See also: `run_table`, `compare_runs`, `features`.

    >>> runs.table[["transcript_id", "outcome", "n_steps"]].head(2)  # a row a run
        transcript_id        outcome  n_steps
    0  test-1-00000-0  hallucination       93
    1  test-1-00000-1        success       46
    >>> runs.frame[["transcript_id", "step", "path_length"]].round(1).head(2)  # a row a run and step
        transcript_id  step  path_length
    0  test-1-00000-0     1          0.0
    1  test-1-00000-0     2          2.5
    >>> print(runs.summary())
    396 runs of 66 groups: 233 success, 91 hallucination, 64 reasoning failure, 8 failure. A failure ...
    """

    rows: pa.Table
    left_out: int = 0
    drawn_from: int = 0
    seed: int = 0
    whole: bool = True
    by_hand: Mapping[str, Label] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"RunTable({count(len(self), 'run')}: .table has a row a run, .frame a row a run and step)"

    def _repr_html_(self) -> str:
        from trajkit.notebook.runs import run_table_html

        return run_table_html(self)

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """(R,) the runs that have a thinking step."""
        return self.rows["n_steps"].to_numpy() > 0

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """(R,) the runs of which there is a path: effects, and a thinking step."""
        return np.asarray(pc.equal(self.rows["left_out"], "").to_numpy(), bool)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a run, all of them: what it says of itself (`columns.SAID`), RUN_METRICS (NaN where there is no path),
        LAST, and `failed`: 1, 0, or NaN where it was not judged. What was not wanted of the kernel is not there."""
        import pandas as pd

        names = [field.name for field in (*SAID, *METRICS) if field.name in self.rows.schema.names]
        columns: dict[str, Any] = {name: as_pandas(self.rows[name]) for name in names}
        for name in LAST if "prefixes" in self.rows.schema.names else ():
            columns[name] = np.full(len(self), np.nan)
            columns[name][self.told] = self._steps.field(name).to_numpy()[self._ends[1:] - 1]
        outcome, success = self.rows["outcome"], self.rows["success"]
        failed = pc.is_in(outcome, pa.array(FAILURES)).to_numpy().astype(float)
        failed[pc.equal(outcome, "unknown").to_numpy().astype(bool)] = np.nan
        judged = success.is_valid().to_numpy().astype(bool)
        failed[judged] = 1.0 - pc.fill_null(success, False).to_numpy().astype(float)[judged]
        return pd.DataFrame(columns | {"failed": failed})

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Prefix features, a row per thinking step of all runs, in order: RUN_COLUMNS, FEATURE_NAMES.

        Row t of a run holds what was known after its t-th thinking step (`step` = t, 1-based); the answer step is left
        out, as it would be looking at the end. Of a run without effects, what is about them is NaN. `success` is
        pandas' nullable boolean. Where all runs kept a hidden
        state of each step, its numbers follow as hidden_0, hidden_1, …
        """
        import pandas as pd

        table = self.frame_table
        return pd.DataFrame({name: as_pandas(table[name]) for name in table.schema.names})

    @property
    def frame_table(self) -> pa.Table:
        """`frame` as an Arrow table."""
        which = pa.array(np.repeat(np.arange(len(self._ends) - 1), np.diff(self._ends)))
        of_run = self.rows.filter(pa.array(self.told))
        columns = {name: of_run[name].take(which) for name in RUN_COLUMNS}
        columns |= {field.name: self._steps.field(field.name) for field in PREFIX}
        return pa.table(columns | self._hidden(of_run))

    @cached_property
    def last(self) -> pd.DataFrame:
        """The rows of `frame` at each run's last thinking step, as `last_steps` finds them in any frame."""
        return self.frame.iloc[self._ends[1:] - 1].reset_index(drop=True)

    @cached_property
    def effects(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(values, offsets) of the used runs: run i has values[offsets[i]:offsets[i + 1]], its flat (T·K,) effects."""
        lists = _one(self.rows["effects"].filter(pa.array(self.used)))
        offsets = lists.offsets.to_numpy().astype(np.int64)
        return lists.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0]

    @cached_property
    def paths(self) -> list[NDArray[np.float32]]:
        """(T, K) effects of the thinking steps of each used run, nats: views of one array."""
        values, offsets = self.effects
        widths = self.rows["n_regions"].to_numpy()[self.used]
        return [values[a:b].reshape(-1, k) for (a, b), k in zip(pairwise(offsets), widths, strict=True)]

    @cached_property
    def labels(self) -> list[NDArray[np.integer[Any]]]:
        """The region map of each used run, one object for runs that share it."""
        found = _one(self.rows["regions"].filter(pa.array(self.used))).dictionary_encode()
        maps = [decode_labels(png, 0, "a run") for png in found.dictionary.to_pylist()]
        return [maps[i] for i in found.indices.to_numpy()]

    def values(self, name: str) -> list[str]:
        """The distinct values of a column of text, sorted, without the empty one."""
        return sorted(value for value in self.rows[name].unique().to_pylist() if value)

    @property
    def models(self) -> list[ModelId]:
        """The different models that made the runs, sorted; "" stands for a name or fingerprint that a run lacks."""
        found = self.rows.select(["model", "fingerprint"]).group_by(["model", "fingerprint"]).aggregate([])
        return sorted(ModelId(row["model"] or "", row["fingerprint"] or "") for row in found.to_pylist())

    def only(self, keep: NDArray[np.bool_]) -> RunTable:
        """Some of the runs, by a mask over `rows`.

        See also: `RunTable.drawn`.

        >>> wrong = runs.only((runs.table["failed"] == 1).to_numpy())
        >>> len(wrong), wrong.values("outcome")
        (163, ['failure', 'hallucination', 'reasoning_failure'])
        """
        return self if keep.all() else replace(self, rows=self.rows.filter(pa.array(keep)))

    def labelled(self, labels: Mapping[str, Label]) -> RunTable:
        """These runs with labels that people gave, transcript_id → label, in place of outcome and success, and without
        the causes that were told of other outcomes. Labels of other runs do nothing.

        See also: `RunTable`.

        >>> name = runs.table["transcript_id"][0]
        >>> by_hand = runs.labelled({name: "reasoning_failure"})
        >>> runs.table["outcome"][0], by_hand.table["outcome"][0]
        ('hallucination', 'reasoning_failure')
        """
        ids = self.rows["transcript_id"].to_pylist()
        mine = {name: labels[name] for name in ids if name in labels}
        if not mine:
            return self
        label = pa.chunked_array([[mine.get(name) for name in ids]], pa.string())
        given, rows = label.is_valid(), self.rows
        same = pc.fill_null(pc.equal(label, rows["outcome"]), False)
        columns = {
            "outcome": pc.coalesce(label, rows["outcome"]),
            "success": pc.if_else(given, pc.equal(label, "success"), rows["success"]),
            "detail": pc.if_else(pc.and_not(given, same), "", rows["detail"]),
        }
        for name, column in columns.items():
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), column)
        return replace(self, rows=rows, by_hand={**self.by_hand, **mine})

    def drawn(self, most: int = MOST_RUNS, seed: int = 0) -> RunTable:
        """All runs where they are at most `most`; else some at random, in the order of the table.

        Whole groups are drawn one after another for as long as their runs are no more than that: the one that has no
        room is a large one more often than not, which hardly matters while LEAST_GROUPS of the largest would have room.
        Where they would not, each run is drawn with the same chance, and of each group as many as its share, but for
        one: few large groups are then all there, as intervals and shuffles need them.

        See also: `RunTable.only`.

        >>> few = runs.drawn(50)
        >>> len(few), few.drawn_from
        (50, 396)
        """
        if len(self) <= most:
            return self
        group = _one(self.rows["group_id"].dictionary_encode()).indices.to_numpy()
        sizes, rng = np.bincount(group), np.random.default_rng(seed)
        whole = bool(LEAST_GROUPS * sizes.max() <= most)
        if whole:
            order = rng.permutation(len(sizes))
            kept = np.isin(group, order[np.cumsum(sizes[order]) <= most])
        else:
            order = np.lexsort((rng.random(len(group)), rng.permutation(len(sizes))[group]))
            kept = np.zeros(len(group), bool)
            kept[order[(np.arange(most) * len(group) + rng.integers(len(group))) // most]] = True
        return replace(self.only(kept), drawn_from=len(self), seed=seed, whole=whole)

    def usable(self) -> RunTable:
        """The runs that have a thinking step; the others are counted in `left_out`.

        Raises InputError where there is none.
        """
        if not self.told.any():
            raise InputError(f"of {count(len(self), 'run')} none has a thinking step; there is nothing to analyse.")
        return replace(self.only(self.told), left_out=self.left_out + int((~self.told).sum()))

    def with_effects(self) -> RunTable:
        """The runs of which there is a path. Raises InputError where there is none."""
        if not self.used.any():
            raise InputError(
                f"this needs effects, and of {count(len(self), 'run')} none has any with a thinking step: "
                f"{HOW_TO_GET_EFFECTS}."
            )
        return self.only(self.used)

    def summary(self) -> str:
        """How many runs of what, in a few sentences (`said.summary`)."""
        return summary(self)

    def known(self) -> RunTable:
        """The runs that are known to have succeeded or failed. Raises InputError without some of both."""
        failed = self.table["failed"].to_numpy(float)
        succeeded, wrong = int((failed == 0).sum()), int((failed == 1).sum())
        if not succeeded or not wrong:
            raise InputError(
                f"This needs runs that succeeded and runs that failed; of {len(failed)} runs {succeeded} are known to "
                f"have succeeded and {wrong} to have failed."
            )
        return self.only(~np.isnan(failed))

    @cached_property
    def _steps(self) -> pa.StructArray:
        return _one(self.rows["prefixes"]).flatten()

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        counts = self.rows["n_steps"].to_numpy()[self.told]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _hidden(self, of_run: pa.Table) -> dict[str, pa.Array]:
        """A column for each number of the hidden states, where all runs kept as many."""
        if "hidden" not in of_run.schema.names or of_run["hidden"].null_count or not len(of_run):
            return {}
        lists = _one(of_run["hidden"])
        widths = np.diff(lists.offsets.to_numpy().astype(np.int64)) // np.diff(self._ends)
        if len(np.unique(widths)) > 1:
            return {}
        states = lists.flatten().to_numpy().reshape(-1, int(widths[0]))
        return {f"hidden_{i}": pa.array(np.ascontiguousarray(column)) for i, column in enumerate(states.T)}


def last_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """The row of each run's last thinking step, of a frame as `RunTable.frame` or of some of its rows, in any order."""
    last = frame["step"] == frame.groupby("transcript_id", sort=False)["step"].transform("max")
    return frame[last]


def _one(column: pa.ChunkedArray) -> pa.Array:
    made = column.combine_chunks()
    return made if isinstance(made, pa.Array) else pa.array([], column.type)
