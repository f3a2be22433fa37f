"""Plotly figures of runs, outcomes and detectors. Plotly is loaded when a figure is made."""

from trajkit.plots.detection import auc_by_step, false_alarms
from trajkit.plots.outcomes import outcome_distributions
from trajkit.plots.steps import metrics_by_step
from trajkit.plots.trajectory import trajectory_3d

__all__ = ["auc_by_step", "false_alarms", "metrics_by_step", "outcome_distributions", "trajectory_3d"]
