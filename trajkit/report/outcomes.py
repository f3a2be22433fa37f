"""The section on how runs of different outcomes differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.plots import outcome_distributions
from trajkit.plots.style import METRIC_NAMES, outcome_name
from trajkit.report.collection import Collection
from trajkit.report.panels import Panel, Table, probability, spread
from trajkit.stats.resampling import MIN_GROUPS

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.runs.table import RunTable

METRICS = ("mean_step", "tortuosity", "concentration_mean", "path_length", "step")

PERMUTATIONS = 2000
"""As by default in `stats.compare`, so that a report and `trajkit analyze` say the same."""

_READ = {
    "mean_step": "Mean distance between the effect vectors of successive sentences: higher means attention jumps more.",
    "tortuosity": "Path walked over distance gained: 1 is a straight line; on a logarithmic axis.",
    "concentration_mean": "How few regions carry a sentence, mean over the run: 1 is a single region, 0 all alike.",
    "path_length": "Sum of all moves. It grows with every sentence, so longer runs have longer paths.",
    "step": "Number of thinking steps, for comparison: what differs here can explain what differs in path length.",
}


def outcome_panels(collection: Collection, n_resamples: int = PERMUTATIONS) -> list[Panel]:
    """A panel per metric, at each run's last thinking step."""
    if collection.table.last.empty:
        return [
            Panel("outcomes", "", missing="No run has effects and a thinking step, so there is nothing to compare.")
        ]
    return [_panel(collection, metric, n_resamples) for metric in METRICS]


def _panel(collection: Collection, metric: str, n_resamples: int) -> Panel:
    last = collection.table.last
    values = last[metric].to_numpy(float)
    title = METRIC_NAMES[metric]
    if not np.isfinite(values).any():
        return Panel(metric, title, missing="Not defined in any run: it needs at least two thinking steps.")
    left_out = int((~np.isfinite(values)).sum())
    caveat = f"Left out, where it is not finite: {left_out:,} of {len(values):,} runs." if left_out else ""
    tables, missing = _comparison(collection, metric, n_resamples)
    return Panel(
        metric, title, _READ[metric], caveat, missing, outcome_distributions(last, metric), (tables,) if tables else ()
    )


def _comparison(collection: Collection, metric: str, n_resamples: int) -> tuple[Table | None, str]:
    from trajkit.stats import compare

    drawn = collection.table.usable().drawn()
    known = compared_outcomes(drawn.last)
    known = known[np.isfinite(known[metric].to_numpy(float))]
    if known["outcome"].nunique() < 2:
        return None, "Fewer than two known outcomes have runs here, so there is nothing to test."
    try:
        table = compare(known, metric, strata=("task_set", "form"), n_resamples=n_resamples)
    except InputError as error:
        return None, f"Not tested: {error}"
    rows = tuple(
        (
            f"{outcome_name(row['a'])} ({row['n_a']}) vs {outcome_name(row['b'])} ({row['n_b']})",
            spread(row["cliffs_delta"], row["delta_low"], row["delta_high"], "+.2f"),
            probability(row["p_corrected"]),
        )
        for row in table.to_dict("records")
    )
    return Table(("pair (runs)", "Cliff's δ within task [95 %]", "p"), rows), _caveat(known, table, drawn)


def _caveat(known: pd.DataFrame, table: pd.DataFrame, drawn: RunTable) -> str:
    """What limits the comparisons, in words; empty where nothing does."""
    groups = known.groupby("outcome")["group_id"].nunique()
    said = [f"δ and p are of {len(drawn):,} runs. {drawn.said_of_draw}"] if drawn.drawn_from else []
    if (groups < MIN_GROUPS).any():
        said.append(f"Fewer than {MIN_GROUPS} groups on a side: no interval, and a p to be read with care.")
    if table["cliffs_delta"].isna().any():
        said.append("–: no task has runs of both outcomes, so they cannot be compared.")
    return " ".join(said)
