"""How concentrated the grounding of a step is: of q = max(e, 0) / Σ max(e, 0) over the K regions.

All measures lie in [0, 1] and are comparable across K: 0 when all regions support the step equally, 1 when one region
does alone. A step that no region supports has none (NaN). With K = 1 every supported step has concentration 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.geometry import Path, as_path

Measure = Literal["hhi", "entropy", "gini", "top_share"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def concentration(effects: ArrayLike, measure: Measure = "hhi") -> NDArray[np.float64]:
    """Concentration of each step, (T, K) effects → (T,) in [0, 1], NaN where no effect is positive.

    hhi: (Σq² − 1/K) / (1 − 1/K). entropy: 1 − H(q) / log K. gini: of q, rescaled by K/(K−1). top_share: max q, whose
    floor is 1/K, rescaled like hhi. Raises InputError for another measure.
    """
    if measure not in MEASURES:
        raise InputError(f"measure must be one of {', '.join(MEASURES)}; got {measure!r}.")
    return concentrations(as_path(effects), (measure,))[0]


def concentrations(effects: Path, measures: Sequence[Measure]) -> NDArray[np.float64]:
    """(len(measures), T): several measures of (T, K) effects, as by `concentration`."""
    share = np.maximum(effects, 0)
    total = np.einsum("tk->t", share)[:, None]
    k = share.shape[1]
    if k < 2:
        alone = np.where(total[:, 0] > 0, 1.0, np.nan)
        return np.tile(alone, (len(measures), 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        share /= total  # NaN rows where nothing is positive
    return np.clip([_MEASURED[measure](share, k) for measure in measures], 0, 1)


def _hhi(q: Path, k: int) -> Path:
    return (np.einsum("tk,tk->t", q, q) - 1 / k) / (1 - 1 / k)


def _entropy(q: Path, k: int) -> Path:
    return 1 + np.einsum("tk,tk->t", q, np.log(np.maximum(q, _TINY))) / np.log(k)


def _gini(q: Path, k: int) -> Path:
    return np.einsum("tk,k->t", np.sort(q, 1), 2 * np.arange(1.0, k + 1) - k - 1) / (k - 1)


def _top_share(q: Path, k: int) -> Path:
    return (q.max(1) - 1 / k) / (1 - 1 / k)


_TINY = np.finfo(float).tiny  # its logarithm is finite, and is taken times 0
_MEASURED = {"hhi": _hhi, "entropy": _entropy, "gini": _gini, "top_share": _top_share}
