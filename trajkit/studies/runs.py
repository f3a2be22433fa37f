"""What studies read of runs: a table with their paths and region maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.runs.kernel import Wanted
from trajkit.runs.source import Source
from trajkit.runs.table import RunTable, run_table
from trajkit.stats.resampling import numbered
from trajkit.trajectory.runs import RUN_METRICS, run_metrics


def read_runs(traces: Source) -> RunTable:
    """All runs of which there is a path, read once. Raises InputError when none has effects and a thinking step."""
    return run_table(traces, Wanted(effects=True, hidden=True, regions=True)).usable()


def within(task: ArrayLike, of: ArrayLike) -> NDArray[np.integer[Any]]:
    """(n,) a stratum for each task (`task_labels`) and value of `of`, whole numbers such as lengths or folds."""
    values = np.asarray(of, dtype=int)
    return numbered(task) * (values.max(initial=0) + 1) + values


def metrics_of(paths: Iterable[NDArray[np.floating[Any]]]) -> dict[str, NDArray[np.float64]]:
    """RUN_METRICS of each path, (R,); paths may differ in width."""
    paths = list(paths)
    out = {name: np.full(len(paths), np.nan) for name in RUN_METRICS}
    widths = np.array([path.shape[1] for path in paths])
    for width in np.unique(widths):
        mine = np.flatnonzero(widths == width)
        rows = [paths[i] for i in mine]
        found = run_metrics(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))
        for name, column in found.items():
            out[name][mine] = column
    return out
