"""Firm shrinkage: what is small beside the largest effect of its step is taken for nothing.

An estimate errs by about as much where a region has no effect as where it has a small one. Where few regions carry a
step, the others' order is that error: the ranks of masks are made of it, and so is much of a measure of concentration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.faithfulness import mean_lds

if TYPE_CHECKING:
    from trajkit.attribution.estimator import StepExample

SHARES = (0.0, 0.025, 0.05, 0.1, 0.2)
"""Of a step's largest effect by size, from which `best_share` chooses; the first shrinks nothing."""


def firm(effects: NDArray[Any], share: float) -> NDArray[Any]:
    """(..., K) effects of steps → the same: 0 up to `share` of their step's largest by size, as they are from twice
    that on, and on a straight line between.

    share: in [0, 0.5]. No effect changes its sign or passes another, though small ones tie at 0; the unit does not
    matter; and it is continuous, so that rounding stays rounding. Firm shrinkage (Gao & Bruce 1997, Statistica Sinica
    7, 855-874) with thresholds that grow with the step.
    """
    size = np.abs(effects)
    least = share * size.max(-1, keepdims=True, initial=0)
    return np.sign(effects) * np.where(size < 2 * least, np.maximum(2 * (size - least), 0), size)


def best_share(estimates: Sequence[NDArray[Any]], examples: Sequence[StepExample], shares: Sequence[float]) -> float:
    """The share by which `firm` gives the highest LDS (`faithfulness.mean_lds`), the first where several do.

    estimates: (K,) of each example, of which there is one or more.
    """
    return max(shares, key=lambda share: mean_lds([firm(own, share) for own in estimates], examples))
