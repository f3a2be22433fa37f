"""The alarm rule: a run is alarmed at the first step whose risk, and so the maximum over the run, exceeds τ."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray


@overload
def exceeds(risk: float, threshold: float) -> bool: ...
@overload
def exceeds(risk: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]: ...
def exceeds(risk: float | NDArray[np.float64], threshold: float) -> bool | NDArray[np.bool_]:
    """Whether a risk, or each of several, is above the threshold: one equal to it, or NaN, is not."""
    return risk > threshold


def alarm_rows(risks: ArrayLike, threshold: float, starts: ArrayLike = (0,)) -> NDArray[np.int64]:
    """(R,) the row of the step at which each run is alarmed, -1 where it is not.

    risks: (n,) of the steps of R runs, one run after another and each in order. starts: (R,) first row of each run,
    rising from 0; by default all rows are of one run. As `MonitorRun.update` tells it step by step.
    """
    first = np.asarray(starts, np.int64)
    above = np.flatnonzero(exceeds(np.asarray(risks, np.float64), threshold))
    at = np.searchsorted(above, first)
    after = np.searchsorted(above, np.append(first[1:], np.size(risks)))
    rows = np.full(len(first), -1, np.int64)
    rows[at < after] = above[at[at < after]]
    return rows
