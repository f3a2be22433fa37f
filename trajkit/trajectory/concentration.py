"""How concentrated the grounding of a step is: of q = max(e, 0) / Σ max(e, 0) over the K regions.

All measures lie in [0, 1] and are comparable across K: 0 when all regions support the step equally, 1 when one region
does alone. A step that no region supports has none (NaN). With K = 1 every supported step has concentration 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

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

    See also: `run_metrics`, `prefix_features`.

    >>> effects = [[8.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, -1.0, -1.0, -1.0]]
    >>> tk.trajectory.concentration(effects)  # one region, all alike, none
    array([ 1.,  0., nan])
    >>> tk.trajectory.concentration(path, "top_share").round(2)[:4]
    array([1., 1., 1., 1.])
    """
    if measure not in MEASURES:
        raise InputError(f"measure must be one of {', '.join(MEASURES)}; got {measure!r}.")
    return concentrations(as_path(effects), (measure,))[0]


def step_hhi(effects: Path, largest: float) -> float:
    """`concentration` of one step, (K,) effects, equal to the last bit. largest: the largest of them, NaN beside a NaN,
    −inf without one."""
    k = len(effects)
    if not largest > 0:
        return math.nan
    if k < 2:
        return 1.0
    share = np.maximum(effects, _TINY)
    total = float(np.einsum("k->", share))
    found = (float(np.einsum("k,k->", share, share)) / (total * total) - 1 / k) / (1 - 1 / k)
    return min(max(found, 0.0), 1.0)


def concentrations(
    effects: Path,
    measures: Sequence[Measure],
    largest: Path | None = None,
    work: tuple[Path, Path] | None = None,
    ordered: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """(len(measures), T): several measures of (T, K) effects, as by `concentration`.

    largest: (T,) of each step, if known. work: two (T, K) arrays to work in. ordered: max(e, 0), each step's ascending,
    in any precision that holds them.
    """
    k = effects.shape[1]
    if largest is None:
        largest = effects.max(1, initial=-np.inf)
    if k < 2:
        return np.tile(np.where(largest > 0, 1.0, np.nan), (len(measures), 1))
    share, room = work or (np.empty_like(effects), np.empty_like(effects))
    np.maximum(effects, _TINY, out=share)  # and not 0, so that its logarithm is finite
    total = np.where(largest > 0, np.einsum("tk->t", share), np.nan)
    found = np.empty((len(measures), len(effects)))
    for row, measure in zip(found, measures, strict=True):
        if measure == "hhi":
            row[:] = _above_floor(np.einsum("tk,tk->t", share, share) / total**2, k)
        elif measure == "entropy":
            logs = np.einsum("tk,tk->t", share, np.log(share, out=room))
            row[:] = 1 - (np.log(total) - logs / total) / np.log(k)
        elif measure == "gini":
            np.copyto(room, np.sort(share, 1) if ordered is None else ordered)
            weight = 2 * np.arange(1.0, k + 1) - k - 1
            row[:] = np.einsum("tk,k->t", room, weight) / (total * (k - 1))
        else:
            row[:] = _above_floor(largest / total, k)
    return np.minimum(np.maximum(found, 0), 1)


def _above_floor(value: Path, k: int) -> Path:
    """A measure whose floor is 1/k, rescaled to [0, 1]."""
    return (value - 1 / k) / (1 - 1 / k)


_TINY = np.finfo(float).tiny
