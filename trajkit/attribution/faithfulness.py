"""Faithfulness: how well scores of regions predict what hiding the regions really does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def r_squared(predicted: Array, actual: Array) -> float:
    """r², the squared Pearson correlation over all values, in [0, 1]; NaN when either does not vary."""
    x, y = predicted.ravel() - predicted.mean(), actual.ravel() - actual.mean()
    scale = float((x**2).sum() * (y**2).sum())
    return float((x * y).sum()) ** 2 / scale if scale > 0 else float("nan")


def lds(scores: Array, masks: Array, effects: Array) -> float:
    """Linear datamodelling score of one step: Spearman correlation over masks, in [−1, 1]; NaN when one is constant.

    scores: (K,) effects of single regions; masks: (M, K); effects: (M,) measured. A mask is predicted by the sum of
    the scores that it hides.
    """
    from scipy.stats import rankdata

    x, y = rankdata(masks.astype(float) @ scores), rankdata(effects)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else float("nan")
