"""How concentrated the grounding of a step is: of q = max(e, 0) / Σ max(e, 0) over the K regions.

All measures lie in [0, 1] and are comparable across K: 0 when all regions support the step equally, 1 when one region
does alone. A step that no region supports has none (NaN). With K = 1 every supported step has concentration 1.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.geometry import as_path

Measure = Literal["hhi", "entropy", "gini", "top_share"]


def concentration(effects: ArrayLike, measure: Measure = "hhi") -> NDArray[np.float64]:
    """Concentration of each step, (T, K) effects → (T,) in [0, 1], NaN where no effect is positive.

    hhi: (Σq² − 1/K) / (1 − 1/K). entropy: 1 − H(q) / log K. gini: of q, rescaled by K/(K−1). top_share: max q, whose
    floor is 1/K, rescaled like hhi. Raises InputError for another measure.
    """
    if measure not in get_args(Measure):
        raise InputError(f"measure must be one of {', '.join(get_args(Measure))}; got {measure!r}.")
    share = np.maximum(as_path(effects), 0)
    total = share.sum(1, keepdims=True)
    k = share.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        q = share / total  # NaN rows where nothing is positive
    if k < 2:
        return np.where(total[:, 0] > 0, 1.0, np.nan) if k else np.full(len(share), np.nan)
    if measure == "hhi":
        value = ((q**2).sum(1) - 1 / k) / (1 - 1 / k)
    elif measure == "top_share":
        value = (q.max(1) - 1 / k) / (1 - 1 / k)
    elif measure == "entropy":
        value = 1 + (q * np.log(np.where(q > 0, q, 1))).sum(1) / np.log(k)
    else:
        rank = np.arange(1, k + 1)
        value = ((2 * rank - k - 1) * np.sort(q, 1)).sum(1) / (k - 1)
    return np.clip(value, 0, 1)
