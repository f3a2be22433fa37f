"""The section on how runs of different outcomes differ."""

from __future__ import annotations

import numpy as np

from trajkit.errors import InputError
from trajkit.judging.comparison import compare_runs
from trajkit.plots import outcome_distributions
from trajkit.report.collection import Collection
from trajkit.report.panels import Panel
from trajkit.runs.said import of_effects
from trajkit.runs.units import of_units
from trajkit.tables.names import metric_name

METRICS = ("mean_step", "tortuosity", "hhi_level", "path_length", "n_steps")
"""Drawn, and in the table that is open; the table of all metrics is folded away."""
OF_TEXT = ("logprob_mean", "entropy_mean", "n_tokens", "n_steps")
"""Drawn in their place where no run has effects."""

_READ = {
    "mean_step": "Mean distance between the effect vectors of successive sentences: higher means attention jumps more.",
    "tortuosity": "Path walked over distance gained: 1 is a straight line; on a logarithmic axis.",
    "hhi_level": "How few regions carry a sentence, mean over the run: 1 is a single region, 0 all alike.",
    "path_length": "Sum of all moves. It grows with every sentence, so longer runs have longer paths.",
    "n_steps": "For comparison: what differs here can explain what differs in path length.",
    "n_tokens": "Tokens of the thinking span.",
    "logprob_mean": "Mean log-probability of what was written, mean over the sentences: lower means less sure.",
    "entropy_mean": "Mean entropy of the next-token distribution, mean over the sentences: higher means less sure.",
}
_NOTHING = "No run has a thinking step, so there is nothing to compare."


def outcome_panels(collection: Collection) -> list[Panel]:
    """A figure of each metric, at the end of each run's thinking."""
    if not collection.table.told.any():
        return [Panel("outcomes", "", missing=_NOTHING)]
    return [_figure(collection, metric) for metric in _drawn(collection)]


def _drawn(collection: Collection) -> list[str]:
    """Those that are drawn of these runs."""
    if collection.table.used.any():
        return list(METRICS)
    return [name for name in OF_TEXT if np.isfinite(collection.runs[name].to_numpy(float)).any()]


def _figure(collection: Collection, metric: str) -> Panel:
    runs = collection.runs[collection.table.told]
    title, finite = metric_name(metric), np.isfinite(runs[metric].to_numpy(float))
    if not finite.any():
        return Panel(metric, title, missing="Not defined in any run: it needs at least two thinking steps.")
    left_out = int((~finite).sum())
    caveat = f"Left out, where it is not finite: {left_out:,} of {len(runs):,} runs." if left_out else ""
    return Panel(metric, title, _READ[metric], caveat, figure=outcome_distributions(runs, metric))


def differences_panel(collection: Collection) -> Panel:
    """What differs between outcomes, as `trajkit analyze` says it: the metrics that are drawn, and all of them."""
    key, title = "differences", "Differences"
    if not collection.table.told.any():
        return Panel(key, title, missing=_NOTHING)
    try:
        found = compare_runs(collection.table)
    except InputError as why:
        return Panel(key, title, missing=str(why))
    drawn = [name for name in _drawn(collection) if name in found.metrics]
    tables = {"": found.table(drawn)} if drawn else {}
    caveat = " ".join(filter(None, (of_effects(collection.table), of_units(collection.table))))
    details = {"": found.table()} if len(drawn) < len(found.metrics) else {}
    return Panel(key, title, caveat=caveat, tables=tables, details=details)
