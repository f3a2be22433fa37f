"""Geometry of a path x_1..x_T in R^D. NumPy only.

Every function takes x of shape (T, D), any D ≥ 1, in any unit; lengths come out in that unit. A path is read in the
order of its rows. A NaN coordinate makes lengths NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError

Path = NDArray[np.float64]


def as_path(x: ArrayLike) -> Path:
    """x as (T, D) float64. Raises InputError unless it has two axes."""
    path = np.asarray(x, dtype=np.float64)
    if path.ndim != 2:
        raise InputError(f"a trajectory must be (T, D), one row a step; got shape {path.shape}.")
    return path


def step_lengths(x: ArrayLike) -> Path:
    """(T−1,) lengths ‖x_{t+1} − x_t‖ ≥ 0."""
    return np.linalg.norm(np.diff(as_path(x), axis=0), axis=1)


def path_length(x: ArrayLike) -> float:
    """L = Σ ‖x_{t+1} − x_t‖ ≥ 0; 0 when T < 2. Grows with T: compare at equal T, or per step."""
    return float(step_lengths(x).sum())


def net_displacement(x: ArrayLike) -> float:
    """D = ‖x_T − x_1‖ ≥ 0; 0 when T < 2."""
    path = as_path(x)
    return float(np.linalg.norm(path[-1] - path[0])) if len(path) else 0.0


def tortuosity(x: ArrayLike) -> float:
    """L / D, in [1, ∞]: 1 on a straight line, +inf when it moves and ends where it began, NaN when T < 2 or L = 0.

    A path is never shorter than its reach: rounding that says otherwise is taken out (here and in `straightness`).
    """
    reach = net_displacement(x)
    return float(_ratio(np.maximum(path_length(x), reach), reach)) if len(as_path(x)) > 1 else float("nan")


def straightness(x: ArrayLike) -> float:
    """D / L, in [0, 1]: the inverse of tortuosity; NaN when T < 2 or L = 0. Falls with T even on random walks."""
    reach = net_displacement(x)
    return float(_ratio(reach, np.maximum(path_length(x), reach))) if len(as_path(x)) > 1 else float("nan")


def mean_step(x: ArrayLike) -> float:
    """L / (T − 1) ≥ 0; NaN when T < 2."""
    lengths = step_lengths(x)
    return float(lengths.mean()) if len(lengths) else float("nan")


def turning_angles(x: ArrayLike) -> Path:
    """(max(T−2, 0),) unsigned angles between successive moves, radians in [0, π]; NaN beside a move of length 0."""
    moves = np.diff(as_path(x), axis=0)
    lengths = np.linalg.norm(moves, axis=1)
    scale = lengths[1:] * lengths[:-1]
    dot = np.einsum("td,td->t", moves[1:], moves[:-1])
    cosine = np.divide(dot, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return np.arccos(np.clip(cosine, -1, 1))


def switch_rate(effects: ArrayLike) -> float:
    """Share of steps whose top region differs from that of the step before, in [0, 1]; NaN when T < 2.

    effects: (T, K). Ties go to the region with the lower number.
    """
    top = _top(effects)
    return float((top[1:] != top[:-1]).mean()) if len(top) > 1 else float("nan")


def revisit_rate(effects: ArrayLike) -> float:
    """Share of switches that go to a region which was the top one earlier on, in [0, 1]; NaN without a switch.

    effects: (T, K).
    """
    top = _top(effects)
    seen: set[int] = set()
    switches = revisits = 0
    for t, region in enumerate(top.tolist()):
        if t and region != top[t - 1]:
            switches += 1
            revisits += region in seen
        seen.add(region)
    return revisits / switches if switches else float("nan")


def _top(effects: ArrayLike) -> NDArray[np.int64]:
    matrix = as_path(effects)
    return matrix.argmax(1) if matrix.shape[1] else np.zeros(len(matrix), dtype=np.int64)


def _ratio(over: Any, under: Any) -> Any:
    """over / under with x/0 = +inf for x > 0 and 0/0 = NaN, elementwise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.float64(over) / np.float64(under)
