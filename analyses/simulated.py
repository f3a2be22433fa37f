"""What simulations of intervals share: runs in groups, and the share of intervals that hold the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trajkit.stats.resampling import wilson
from trajkit.tables import Estimate

PER_GROUP = 4
"""Runs of a simulated group."""


def labels_of(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(group, failed) of PER_GROUP runs a group; groups differ in how often they fail."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    hard = rng.normal(size=n_groups)[group]
    return group, (hard + rng.normal(size=len(group)) > 0.3).astype(float)


def share_held(held: Sequence[bool], sims: int) -> dict[str, Any]:
    """held: the share of intervals that hold the truth, NaN of none; of how many (n) of the data sets (sims)."""
    found = Estimate.of((np.mean(held), *wilson(sum(held), len(held)))) if len(held) else Estimate(np.nan)
    return {"held": found, "n": len(held), "sims": sims}
