"""The section on how runs of different outcomes differ."""

from __future__ import annotations

import numpy as np

from trajkit.errors import InputError
from trajkit.judging.comparison import compare_runs
from trajkit.plots import outcome_distributions
from trajkit.report.collection import Collection
from trajkit.report.panels import Panel
from trajkit.tables.names import metric_name

METRICS = ("mean_step", "tortuosity", "hhi_level", "path_length", "n_steps")
"""Drawn, and in the table that is open; the table of all metrics is folded away."""

_READ = {
    "mean_step": "Mean distance between the effect vectors of successive sentences: higher means attention jumps more.",
    "tortuosity": "Path walked over distance gained: 1 is a straight line; on a logarithmic axis.",
    "hhi_level": "How few regions carry a sentence, mean over the run: 1 is a single region, 0 all alike.",
    "path_length": "Sum of all moves. It grows with every sentence, so longer runs have longer paths.",
    "n_steps": "For comparison: what differs here can explain what differs in path length.",
}


def outcome_panels(collection: Collection) -> list[Panel]:
    """A figure of each metric, at the end of each run's thinking."""
    if not collection.table.used.any():
        return [
            Panel("outcomes", "", missing="No run has effects and a thinking step, so there is nothing to compare.")
        ]
    return [_figure(collection, metric) for metric in METRICS]


def _figure(collection: Collection, metric: str) -> Panel:
    runs = collection.runs[collection.table.used]
    title, finite = metric_name(metric), np.isfinite(runs[metric].to_numpy(float))
    if not finite.any():
        return Panel(metric, title, missing="Not defined in any run: it needs at least two thinking steps.")
    left_out = int((~finite).sum())
    caveat = f"Left out, where it is not finite: {left_out:,} of {len(runs):,} runs." if left_out else ""
    return Panel(metric, title, _READ[metric], caveat, figure=outcome_distributions(runs, metric))


def differences_panel(collection: Collection) -> Panel:
    """What differs between outcomes, as `trajkit analyze` says it: the metrics that are drawn, and all of them."""
    key, title = "differences", "Differences"
    if not collection.table.used.any():
        return Panel(key, title, missing="No run has effects and a thinking step, so there is nothing to compare.")
    try:
        found = compare_runs(collection.table)
    except InputError as why:
        return Panel(key, title, missing=str(why))
    drawn = [name for name in METRICS if name in found.metrics]
    tables = {"": found.table(drawn)} if drawn else {}
    return Panel(key, title, tables=tables, details={"": found.table()})
