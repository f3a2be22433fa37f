"""What simulations of intervals share: runs in groups, and how the share of intervals that hold the truth is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trajkit.stats.resampling import wilson

PER_GROUP = 4
"""Runs of a simulated group."""


def labels_of(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(group, failed) of PER_GROUP runs a group; groups differ in how often they fail."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    hard = rng.normal(size=n_groups)[group]
    return group, (hard + rng.normal(size=len(group)) > 0.3).astype(float)


def share_held(held: Sequence[bool], sims: int) -> str:
    if not len(held):
        return "–"
    low, high = wilson(sum(held), len(held))
    return f"{np.mean(held):.3f} ({low:.3f}–{high:.3f})" + (f", n = {len(held)}" if len(held) < sims else "")
