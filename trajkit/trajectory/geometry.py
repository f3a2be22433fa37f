"""Geometry of one path x_1..x_T in R^D. NumPy only; `runs.run_metrics` does the same for many paths at once.

Every function takes x of shape (T, D), any D ≥ 1, in any unit; lengths come out in that unit. A path is read in the
order of its rows. A NaN coordinate makes what depends on it NaN. What a path is too short for is NaN.

Where a measure was made for animals on a plane, only the cosine of its turning angles enters, which any dimension has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError

Path = NDArray[np.float64]

ANGLE_BINS = 8
"""Equal bins of [0, π] that `turning_entropy` counts angles in."""


def as_path(x: ArrayLike) -> Path:
    """x as (T, D) float64, its rows one after another: sums round by that. Raises InputError unless it has two axes."""
    if hasattr(x, "effects"):
        raise InputError("a trajectory is of effects, (T, K): give trace.effects, or trace.effects[trace.thinking].")
    path = np.asarray(x, dtype=np.float64)
    if path.ndim != 2:
        raise InputError(f"a trajectory must be (T, D), one row a step; got shape {path.shape}.")
    return np.ascontiguousarray(path)


def step_lengths(x: ArrayLike) -> Path:
    """(T−1,) lengths ‖x_{t+1} − x_t‖ ≥ 0."""
    return np.linalg.norm(np.diff(as_path(x), axis=0), axis=1)


def path_length(x: ArrayLike) -> float:
    """L = Σ ‖x_{t+1} − x_t‖ ≥ 0; 0 when T < 2. Grows with T: compare at equal T, or per step.

    See also: `net_displacement`, `tortuosity`, `mean_step`.

    >>> there_and_back = [[0, 0], [3, 4], [0, 0]]
    >>> tk.trajectory.path_length(there_and_back)
    10.0
    >>> tk.trajectory.path_length(path) > tk.trajectory.net_displacement(path)  # of a real run, nats
    True
    """
    return float(step_lengths(x).sum())


def net_displacement(x: ArrayLike) -> float:
    """D = ‖x_T − x_1‖ ≥ 0; 0 when T < 2.

    See also: `path_length`, `straightness`.

    >>> tk.trajectory.net_displacement([[0, 0], [3, 4], [0, 0]])
    0.0
    """
    path = as_path(x)
    return float(np.linalg.norm(path[-1] - path[0])) if len(path) else 0.0


def tortuosity(x: ArrayLike) -> float:
    """L / D, in [1, ∞]: 1 on a straight line, +inf when it moves and ends where it began, NaN when T < 2 or L = 0.

    A path is never shorter than its reach: rounding that says otherwise is taken out (here and in `straightness`).

    See also: `straightness`, `path_length`, `net_displacement`.

    >>> tk.trajectory.tortuosity([[0, 0], [1, 0], [2, 0]])  # straight on
    1.0
    >>> round(tk.trajectory.tortuosity([[0, 0], [1, 0], [1, 1]]), 2)  # round one corner
    1.41
    >>> tk.trajectory.tortuosity([[0, 0], [1, 0], [0, 0]])  # and back again
    inf
    """
    reach = net_displacement(x)
    return float(_ratio(np.maximum(path_length(x), reach), reach)) if len(as_path(x)) > 1 else float("nan")


def straightness(x: ArrayLike) -> float:
    """D / L, in [0, 1]: the inverse of tortuosity; NaN when T < 2 or L = 0. Falls with T even on random walks.

    See also: `tortuosity`.

    >>> tk.trajectory.straightness([[0, 0], [1, 0], [2, 0]])
    1.0
    >>> tk.trajectory.straightness([[0, 0], [1, 0], [0, 0]])
    0.0
    """
    reach = net_displacement(x)
    return float(_ratio(reach, np.maximum(path_length(x), reach))) if len(as_path(x)) > 1 else float("nan")


def mean_step(x: ArrayLike) -> float:
    """L / (T − 1) ≥ 0; NaN when T < 2.

    See also: `path_length`.

    >>> tk.trajectory.mean_step([[0, 0], [3, 4], [3, 5]])  # moves of 5 and of 1
    3.0
    """
    lengths = step_lengths(x)
    return float(lengths.mean()) if len(lengths) else float("nan")


def turning_cosines(x: ArrayLike) -> Path:
    """(max(T−2, 0),) cosines of the angles between successive moves, in [−1, 1]; NaN beside a move of length 0."""
    moves = np.diff(as_path(x), axis=0)
    lengths = np.linalg.norm(moves, axis=1)
    scale = lengths[1:] * lengths[:-1]
    dot = np.einsum("td,td->t", moves[1:], moves[:-1])
    cosine = np.divide(dot, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return np.clip(cosine, -1, 1)


def turning_angles(x: ArrayLike) -> Path:
    """(max(T−2, 0),) unsigned angles between successive moves, radians in [0, π]; NaN beside a move of length 0.

    See also: `mean_cosine`, `turning_entropy`.

    >>> square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    >>> np.degrees(tk.trajectory.turning_angles(square)).round()
    array([90., 90., 90.])
    """
    return np.arccos(turning_cosines(x))


def mean_cosine(x: ArrayLike) -> float:
    """Mean of the turning cosines that exist, in [−1, 1]: 1 going straight on, 0 turning at random; NaN without one.

    Steps that are draws about one place, with no path between them, tend to −1/2 as D grows.

    See also: `turning_angles`, `e_max`, `sinuosity`.

    >>> tk.trajectory.mean_cosine([[0, 0], [1, 0], [2, 0]])  # straight on
    1.0
    >>> round(tk.trajectory.mean_cosine(path), 2)  # reading one cell after another: back and forth
    -0.37
    """
    cosines = turning_cosines(x)
    return float(without_rounding(np.nanmean(cosines))) if (~np.isnan(cosines)).any() else float("nan")


def without_rounding(cosine: ArrayLike) -> Path:
    """Mean cosines, with 1 for those that differ from it by rounding alone: E_max divides by what is left."""
    return np.where(np.asarray(cosine) > 1 - 1e-12, 1.0, cosine)


def turning_entropy(x: ArrayLike, bins: int = ANGLE_BINS) -> float:
    """Entropy of the turning angles over `bins` equal bins of [0, π], as a share of log(bins), in [0, 1].

    0 when all turns are alike; NaN without an angle. n angles reach log(n) / log(bins) at most, so it grows with T.

    See also: `turning_angles`.

    >>> square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    >>> tk.trajectory.turning_entropy(square)  # every turn the same
    0.0
    >>> round(tk.trajectory.turning_entropy(path), 2)
    0.72
    """
    angles = turning_angles(x)
    counts = np.bincount(angle_bin(angles[~np.isnan(angles)], bins), minlength=bins)
    return float(histogram_entropy(counts[None])[0])


def angle_bin(angles: ArrayLike, bins: int = ANGLE_BINS) -> NDArray[np.int64]:
    """The bin, 0 … bins−1, of each angle in [0, π]; a border counts to the bin above it, and π to the last."""
    return np.minimum((np.asarray(angles) * (bins / np.pi)).astype(np.int64), bins - 1)


def histogram_entropy(counts: NDArray[np.integer[Any]]) -> Path:
    """(R, bins) counts → (R,) entropy of each row as a share of log(bins), in [0, 1]; NaN where nothing was counted."""
    total = counts.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counts / total[:, None]
        entropy = -(share * np.log(np.where(counts > 0, share, 1))).sum(1)
    return np.abs(entropy) / np.log(counts.shape[1])  # no −0


def sinuosity(x: ArrayLike) -> float:
    """S = 2 / √(p · ((1 + c)/(1 − c) + b²)) ≥ 0, per √unit, of Benhamou (2004, doi 10.1016/j.jtbi.2004.03.016), eq. 8.

    p: mean move; c: mean turning cosine; b: coefficient of variation of the moves (sd with n − 1). 0 on a straight
    line, +inf going back and forth by equal moves. NaN without an angle.

    See also: `mean_cosine`, `e_max`.

    >>> square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    >>> tk.trajectory.sinuosity(square)
    2.0
    """
    lengths, c = step_lengths(x), mean_cosine(x)
    if np.isnan(c):
        return float("nan")
    if c == 1:
        return 0.0
    p = lengths.mean()
    return float(_ratio(2, np.sqrt(p * ((1 + c) / (1 - c) + lengths.var(ddof=1) / p**2))))


def e_max(x: ArrayLike) -> float:
    """E_max = c / (1 − c), in [−1/2, ∞], c the mean turning cosine (Cheung et al. 2007, doi 10.1007/s00422-007-0158-0).

    The largest distance that a walk which goes on so can be expected to reach, in moves; +inf on a straight line, NaN
    without an angle.

    See also: `mean_cosine`, `sinuosity`.

    >>> tk.trajectory.e_max([[0, 0], [1, 0], [2, 0]])
    inf
    >>> round(tk.trajectory.e_max(path), 2)  # a walk that turns back does not go far
    -0.27
    """
    c = mean_cosine(x)
    return float(_ratio(c, 1 - c))


def mean_squared_displacement(x: ArrayLike, lags: ArrayLike) -> Path:
    """(len(lags),) mean of ‖x_{t+τ} − x_t‖² over all t of the path, for each lag τ ≥ 1; NaN for τ ≥ T. Unit squared.

    See also: `msd_exponent`.

    >>> line = np.arange(10)[:, None] * [1.0, 0.0]
    >>> tk.trajectory.mean_squared_displacement(line, [1, 2, 3])
    array([1., 4., 9.])
    """
    path = as_path(x)
    means = np.full(len(np.atleast_1d(lags)), np.nan)
    for i, lag in enumerate(np.atleast_1d(lags).tolist()):
        if lag < len(path):
            means[i] = ((path[lag:] - path[:-lag]) ** 2).sum(1).mean()
    return means


def lags_of(n_steps: int) -> NDArray[np.int64]:
    """The lags 1, 2, 4, … that `msd_exponent` reads: up to a quarter of the path, but 2 at least; none when T < 4."""
    longest = max(n_steps // 4, 2) if n_steps >= 4 else 0
    return 2 ** np.arange(int(longest).bit_length())


def msd_exponent(x: ArrayLike) -> float:
    """α of MSD(τ) ~ τ^α, by least squares of log MSD on log τ at `lags_of(T)`, in about [0, 2].

    After Qian et al. (1991, doi 10.1016/S0006-3495(91)82125-7). 2 for straight motion, 1 for a random walk, 0 for draws
    about one place; NaN when T < 4 or a mean displacement is 0.

    See also: `mean_squared_displacement`.

    >>> walk = np.random.default_rng(0).normal(size=(2000, 3)).cumsum(0)
    >>> round(tk.trajectory.msd_exponent(walk), 1)
    1.0
    """
    path = as_path(x)
    lags = lags_of(len(path))
    msd = mean_squared_displacement(path, lags)
    if not len(lags) or not (msd > 0).all():
        return float("nan")
    log_lag = np.log(lags) - np.log(lags).mean()
    return float((log_lag * np.log(msd)).sum() / (log_lag**2).sum())


def top_region(effects: ArrayLike) -> NDArray[np.int64]:
    """(T,) region of the largest effect of each step, (T, K) effects; ties go to the lower number, −1 beside a NaN.

    See also: `switch_rate`, `dwell_time`.

    >>> effects = [[2.0, 0.1], [0.3, 4.0], [0.2, 3.0]]
    >>> tk.trajectory.top_region(effects)
    array([0, 1, 1])
    """
    matrix = as_path(effects)
    if not matrix.shape[1]:
        return np.zeros(len(matrix), dtype=np.int64)
    return np.where(np.isnan(matrix).any(1), -1, matrix.argmax(1))


def switch_rate(effects: ArrayLike) -> float:
    """Share of steps whose top region differs from that of the step before, in [0, 1]; NaN when T < 2.

    effects: (T, K), as for `top_region`.

    See also: `top_region`, `revisit_rate`, `dwell_time`.

    >>> effects = [[2.0, 0.1], [0.3, 4.0], [0.2, 3.0]]
    >>> tk.trajectory.switch_rate(effects)  # at one of two steps
    0.5
    """
    top = top_region(effects)
    return float((top[1:] != top[:-1]).mean()) if len(top) > 1 and (top >= 0).all() else float("nan")


def revisit_rate(effects: ArrayLike) -> float:
    """Share of switches that go to a region which was the top one earlier on, in [0, 1]; NaN without a switch.

    See also: `switch_rate`, `recurrence_rate`.

    >>> effects = np.eye(3)[[0, 1, 0, 2]]  # regions 0, 1, 0 again, 2
    >>> round(tk.trajectory.revisit_rate(effects), 2)
    0.33
    """
    top = top_region(effects)
    switches = int((top[1:] != top[:-1]).sum())
    new = len(np.unique(top)) - 1
    return (switches - new) / switches if switches and (top >= 0).all() else float("nan")


def dwell_time(effects: ArrayLike) -> float:
    """Mean number of steps in a row with the same top region, in [1, T]; NaN when T = 0.

    See also: `switch_rate`.

    >>> effects = np.eye(3)[[0, 0, 0, 2]]
    >>> tk.trajectory.dwell_time(effects)  # three steps, then one
    2.0
    """
    top = top_region(effects)
    return len(top) / (1 + int((top[1:] != top[:-1]).sum())) if len(top) and (top >= 0).all() else float("nan")


def recurrence_rate(x: ArrayLike, radius: float | None = None) -> float:
    """Share of the pairs of different steps that are alike, in [0, 1]; NaN when T < 2.

    radius: alike are steps at most so far apart, in the unit of x (Marwan et al. 2007, doi
    10.1016/j.physrep.2006.11.001); None for steps with the same top region, x then being effects (T, K).

    See also: `revisit_rate`.

    >>> effects = np.eye(3)[[0, 1, 0, 2]]
    >>> round(tk.trajectory.recurrence_rate(effects), 2)  # one pair of six
    0.17
    >>> round(tk.trajectory.recurrence_rate(path, radius=5.0), 2)  # within 5 nats of each other
    0.12
    """
    path = as_path(x)
    n = len(path)
    if n < 2 or np.isnan(path).any():
        return float("nan")
    if radius is None:
        counts = np.unique(top_region(path), return_counts=True)[1]
        return float((counts * (counts - 1)).sum() / (n * (n - 1)))
    close = sum(int((np.linalg.norm(path[i + 1 :] - path[i], axis=1) <= radius).sum()) for i in range(n - 1))
    return 2 * close / (n * (n - 1))


def _ratio(over: Any, under: Any) -> Any:
    """over / under with x/0 = +inf for x > 0 and 0/0 = NaN, elementwise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.float64(over) / np.float64(under)
