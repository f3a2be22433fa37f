"""Reliability of run metrics: whether a metric of estimated effects ranks runs as the same metric of measured effects.

A figure over single regions says little of it: a path's length is made by the few large effects, which region leads and
how much concentration varies by the many small ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.stats.resampling import MIN_GROUPS, group_draws, interval
from trajkit.trajectory.runs import RUN_METRICS, run_metrics

if TYPE_CHECKING:
    import pandas as pd

Effects = Sequence[NDArray[Any]]
"""(T, K) effects of the thinking steps of each run, nats; T and K may differ."""
OF_EFFECTS = tuple(metric for metric in RUN_METRICS if metric != "n_steps")
"""Run metrics that depend on effects."""


def metric_reliability(
    estimated: Effects, measured: Effects, groups: Sequence[str], *, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """One row a metric of OF_EFFECTS: its Spearman correlation over runs between estimated and measured effects, in
    [−1, 1], as value, low and high (95 %, resampling groups), and runs, in how many it is defined by both.

    NaN where it is defined in fewer than 3 runs or does not vary; no interval with fewer than MIN_GROUPS groups.
    Raises InputError when the runs do not fit each other.
    """
    import pandas as pd

    if not len(estimated) == len(measured) == len(groups):
        raise InputError(
            f"expected as many estimated as measured runs and groups; got {len(estimated)}, {len(measured)} and "
            f"{len(groups)}."
        )
    for i, (ours, theirs) in enumerate(zip(estimated, measured, strict=True)):
        if ours.shape != theirs.shape:
            raise InputError(f"effects of run {i} must be (T, K) alike; got {ours.shape} and {theirs.shape}.")
    x, y = _metrics(estimated), _metrics(measured)  # (R, metrics)
    unknown = ~(np.isfinite(x) & np.isfinite(y))
    x[unknown] = y[unknown] = np.nan
    draws = group_draws(groups, n_boot, seed)
    draws = draws if draws.counts.shape[1] >= MIN_GROUPS else draws.sample
    found = np.stack([_spearman(x, y, np.repeat(np.arange(len(x)), counts[draws.member])) for counts in draws.counts])
    known = [draws.sample_if_few(column, MIN_GROUPS, ~none) for column, none in zip(found.T, unknown.T, strict=True)]
    table = pd.DataFrame([interval(column) for column in known], columns=["value", "low", "high"])
    table.insert(0, "metric", OF_EFFECTS)
    return table.assign(runs=(~unknown).sum(0))


def _metrics(runs: Effects) -> NDArray[np.float64]:
    """(R, metrics) of OF_EFFECTS; runs with as many regions are made at once."""
    columns = np.full((len(runs), len(OF_EFFECTS)), np.nan)
    sizes = np.array([run.shape[1] for run in runs])
    for k in np.unique(sizes):
        which = np.flatnonzero(sizes == k).tolist()
        own = [runs[i] for i in which]
        made = run_metrics(np.concatenate(own), np.cumsum([0, *map(len, own)]))
        columns[which] = np.stack([made[metric] for metric in OF_EFFECTS], axis=1)
    return columns


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """(metrics,) rank correlation of the rows of (R, metrics) columns, NaN of both left out."""
    a, b = _ranks(x[rows]), _ranks(y[rows])
    with np.errstate(invalid="ignore", divide="ignore"):
        count = np.isfinite(a).sum(0)
        a, b = (np.nan_to_num(v - np.nansum(v, 0) / count) for v in (a, b))
        found = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(count >= 3, np.clip(found, -1, 1), np.nan)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks down each column, ties at their mean; NaN stay."""
    from scipy.stats import rankdata

    return np.where(np.isnan(values), np.nan, rankdata(np.where(np.isnan(values), np.inf, values), axis=0))
