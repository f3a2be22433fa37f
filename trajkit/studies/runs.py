"""What studies read of runs: a table with their paths and region maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.runs.kernel import Wanted
from trajkit.runs.source import Source
from trajkit.runs.table import RunTable, run_table
from trajkit.trajectory.runs import RUN_METRICS, run_metrics

if TYPE_CHECKING:
    import pandas as pd


WANTED = Wanted(effects=True, hidden=True, regions=True)
"""What studies read of each run."""


def read_runs(traces: Source) -> RunTable:
    """All runs with a thinking step, read once. Raises InputError when none has one."""
    return run_table(traces, WANTED).usable()


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


def records(frame: pd.DataFrame) -> list[Any]:
    """The rows of a frame, each with its columns as attributes."""
    return list(frame.itertuples(index=False))
