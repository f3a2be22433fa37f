"""Projection of a trajectory to a few dimensions, for looking at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.trajectory.geometry import as_path


def project(effects: ArrayLike, top: int = 32, dims: int = 3) -> NDArray[np.float64]:
    """(T, K) effects → (T, dims): the figure of vSTREAM (arXiv 2604.16587), read as follows.

    Keep the `top` regions with the largest mean |effect| of this run, then PCA fitted on this run. Columns are in
    decreasing variance, each with its largest loading positive; where a run has fewer steps or regions than `dims`,
    the rest are 0. The basis sees the whole run: it is for pictures, never for features used online.
    """
    path = as_path(effects)
    kept = np.sort(np.argsort(-np.abs(path).mean(0), kind="stable")[:top]) if len(path) else slice(None)
    centred = path[:, kept] - (path[:, kept].mean(0) if len(path) else 0)
    out = np.zeros((len(path), dims))
    if min(centred.shape) == 0:
        return out
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:dims]
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    out[:, : len(axes)] = centred @ axes.T
    return out
