"""The path that effect vectors take from step to step: its geometry, its concentration, its features. NumPy only."""

from trajkit.trajectory.concentration import concentration
from trajkit.trajectory.features import FEATURE_NAMES, PrefixFeatures, prefix_features
from trajkit.trajectory.geometry import (
    mean_step,
    net_displacement,
    path_length,
    revisit_rate,
    straightness,
    switch_rate,
    tortuosity,
    turning_angles,
)
from trajkit.trajectory.projection import project

__all__ = [
    "FEATURE_NAMES",
    "PrefixFeatures",
    "concentration",
    "mean_step",
    "net_displacement",
    "path_length",
    "prefix_features",
    "project",
    "revisit_rate",
    "straightness",
    "switch_rate",
    "tortuosity",
    "turning_angles",
]
