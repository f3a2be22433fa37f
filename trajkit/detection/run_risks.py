"""The risk of a run from the risks of its sentences so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.prefixes import as_ends, running, running_sums

Floats = NDArray[np.float64]

RUN_RISKS = ("largest", "sum", "any")
"""Of the sentences up to each one, p their risks. largest: max p. sum: Σ p, how many are expected to be wrong. any:
1 − Π (1 − p), the chance that one is wrong if they were independent."""
_MOST = 1 - 1e-6


def run_risks(risk: ArrayLike, run: ArrayLike) -> dict[str, Floats]:
    """RUN_RISKS after each of N sentences, (N,) each: of that sentence and of those of its run before it.

    risk: (N,) in [0, 1], NaN where a sentence cannot be judged, which counts as none. run: (N,) of each, the sentences
    of a run in order and one after another. A mean of the last few sentences, and one that takes back the risk of a
    sentence whose region a later one rests on, were tried and tell less (`analyses.run_risk`). Raises InputError where
    they differ in length.
    """
    p = as_risks(risk)
    ids, ends = as_ends(run)
    if len(ids) != len(p):
        raise InputError(f"risk and run must be (N,) each; got {len(p)} and {len(ids)} of them.")
    total, doubt = running_sums(np.stack([p, doubts(p)]), ends)
    return {"largest": running(np.maximum, p[None], ends)[0], "sum": total, "any": -np.expm1(-doubt)}


def as_risks(risk: ArrayLike) -> Floats:
    """(N,) in [0, 1): NaN is 0."""
    return np.clip(np.nan_to_num(np.asarray(risk, float)), 0.0, _MOST)


def doubts(p: Floats) -> Floats:
    """−log(1 − p)."""
    return -np.log1p(-p)
