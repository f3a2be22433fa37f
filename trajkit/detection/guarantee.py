"""The alarm threshold, and what it promises.

A monitor alarms when the largest score so far exceeds a threshold τ, so a run raises a false alarm exactly when its
maximum over the whole run exceeds τ. That makes the *maximum* the quantity to calibrate. A quantile of the scores of
each step bounds the false alarms of that step only; over a run they add up (tests/detection/test_guarantee.py).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError

_SLACK = 1e-9  # (n + 1)(1 - α) may come out as 9.000000000000002 where 9 is meant


def max_score_threshold(max_scores: ArrayLike, alpha: float) -> float:
    """The ⌈(n+1)(1−α)⌉-th smallest of n maxima: P(maximum of a new successful run > τ) ≤ α.

    max_scores: (n,) maximum over the run, on n successful runs exchangeable with the new one: one of each group, drawn
    before it is known whether it succeeded (`calibration.spared`). The probability is over the draw of the
    calibration runs *and* the new run (split conformal prediction, Vovk 2005). Returns +inf when the rank exceeds n
    (fewer than `runs_needed(alpha)` runs, an empty set included), never the maximum. Raises InputError on NaN or an
    alpha outside (0, 1).

    See also: `confident_threshold`, `runs_needed`, `Monitor.calibrate`.

    >>> maxima = np.random.default_rng(0).uniform(size=99)  # the largest risk of each of 99 successful runs
    >>> round(tk.detection.max_score_threshold(maxima, alpha=0.1), 2)  # the 90th smallest
    0.94
    >>> tk.detection.max_score_threshold(maxima[:5], alpha=0.1)  # too few
    inf
    """
    scores = _checked(max_scores)
    return _order_statistic(scores, threshold_rank(len(scores), alpha))


def confident_threshold(max_scores: ArrayLike, alpha: float, delta: float) -> float:
    """The smallest order statistic whose false-alarm rate is ≤ α with probability ≥ 1−δ over the calibration set.

    The rate above the k-th smallest of n is (stochastically at most) 1 − Beta(k, n+1−k), so k is the smallest with
    P(Binomial(n, 1−α) ≤ k−1) ≥ 1−δ. Returns +inf when no k ≤ n will do (n = 22 is the least at α = δ = 0.1).

    See also: `max_score_threshold`, `runs_needed`.

    >>> maxima = np.random.default_rng(0).uniform(size=99)
    >>> round(tk.detection.confident_threshold(maxima, alpha=0.1, delta=0.05), 2)  # it must hold for this very one
    0.97
    """
    scores = _checked(max_scores)
    return _order_statistic(scores, threshold_rank(len(scores), alpha, delta))


def threshold_rank(n: int, alpha: float, delta: float | None = None) -> int:
    """k: the threshold is the k-th smallest of n maxima, by either rule; n + 1 where no maximum will do.

    Raises InputError on an alpha or delta outside (0, 1).
    """
    for name, value in (("alpha", alpha), ("delta", delta)):
        if value is not None and not 0 < value < 1:
            raise InputError(f"The {name!r} parameter must be between 0 and 1, both excluded. Got {value!r} instead.")
    if delta is None:
        return max(math.ceil((n + 1) * (1 - alpha) - _SLACK), 1)
    from scipy.stats import binom

    enough = np.flatnonzero(binom.cdf(np.arange(n), n, 1 - alpha) >= 1 - delta - _SLACK)
    return int(enough[0]) + 1 if len(enough) else n + 1


def chance_of_alarms(n: int, rank: int, new: int, alarmed: int) -> float:
    """P(at least `alarmed` of `new` runs exceed the rank-th smallest of n others), all exchangeable; in [0, 1].

    Beta-binomial, over the draw of both; with ties it is at most that. How surprising a replay's false alarms are if
    its runs are like those of the calibration, whose threshold is itself a matter of chance. 0 where rank > n, as
    nothing exceeds an infinite threshold, unless `alarmed` is 0.
    """
    from scipy.stats import betabinom

    if alarmed <= 0:
        return 1.0
    return float(betabinom.sf(alarmed - 1, new, n + 1 - rank, rank)) if rank <= n and alarmed <= new else 0.0


def runs_needed(alpha: float, delta: float | None = None) -> int:
    """The least number of calibration runs with a finite threshold: 9 at α = 0.1, 19 at α = 0.05.

    With `delta`, of `confident_threshold`: the least n with (1−α)^n ≤ δ.

    See also: `max_score_threshold`, `confident_threshold`.

    >>> tk.detection.runs_needed(0.1), tk.detection.runs_needed(0.05)
    (9, 19)
    >>> tk.detection.runs_needed(0.1, delta=0.1)
    22
    """
    if delta is None:
        return math.ceil(1 / alpha - 1 - _SLACK)
    return math.ceil(math.log(delta) / math.log1p(-alpha) - _SLACK)


def _order_statistic(scores: NDArray[np.float64], rank: int) -> float:
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


def _checked(max_scores: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(max_scores, dtype=float)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise InputError(
            f"max_scores must be a 1-D array without NaN, one maximum per run; got shape {scores.shape} "
            f"with {int(np.isnan(scores).sum())} NaN."
        )
    return scores
