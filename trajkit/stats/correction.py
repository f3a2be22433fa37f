"""p-values of many comparisons, corrected."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from trajkit.stats.resampling import Floats


def holm(p: ArrayLike) -> Floats:
    """(n,) p-values corrected by Holm over those that are known; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    corrected = np.array(p, dtype=float)
    known = ~np.isnan(corrected)
    if known.any():
        corrected[known] = multipletests(corrected[known], method="holm")[1]
    return corrected
