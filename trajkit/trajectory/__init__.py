"""The path that effect vectors take from step to step: its geometry, its concentration, its features. NumPy only."""

from trajkit.trajectory.concentration import concentration
from trajkit.trajectory.features import FEATURE_NAMES, PrefixFeatures, prefix_features
from trajkit.trajectory.geometry import (
    dwell_time,
    e_max,
    mean_cosine,
    mean_squared_displacement,
    mean_step,
    msd_exponent,
    net_displacement,
    path_length,
    recurrence_rate,
    revisit_rate,
    sinuosity,
    straightness,
    switch_rate,
    top_region,
    tortuosity,
    turning_angles,
    turning_entropy,
)
from trajkit.trajectory.runs import RUN_METRICS, run_metrics
from trajkit.trajectory.space import Space, on_grid, project

__all__ = [
    "FEATURE_NAMES",
    "RUN_METRICS",
    "PrefixFeatures",
    "Space",
    "concentration",
    "dwell_time",
    "e_max",
    "mean_cosine",
    "mean_squared_displacement",
    "mean_step",
    "msd_exponent",
    "net_displacement",
    "on_grid",
    "path_length",
    "prefix_features",
    "project",
    "recurrence_rate",
    "revisit_rate",
    "run_metrics",
    "sinuosity",
    "straightness",
    "switch_rate",
    "top_region",
    "tortuosity",
    "turning_angles",
    "turning_entropy",
]
