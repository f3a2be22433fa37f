"""Plotly figures of runs, outcomes and detectors. Plotly is loaded when a figure is made.

`trace.plot()` and `traces.plot()` are `plot_run` and `plot_runs`. A figure is plotly's: `figure.show()`,
`figure.write_html("figure.html")`, `figure.update_layout(...)`.
"""

from trajkit.plots.detection import auc_by_step, false_alarms
from trajkit.plots.outcomes import outcome_distributions
from trajkit.plots.runs import plot_run, plot_runs
from trajkit.plots.steps import metrics_by_step
from trajkit.plots.trajectory import trajectory_3d

__all__ = [
    "auc_by_step",
    "false_alarms",
    "metrics_by_step",
    "outcome_distributions",
    "plot_run",
    "plot_runs",
    "trajectory_3d",
]
