"""Area under the ROC curve with a 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError


@dataclass(frozen=True)
class AUC:
    """value: probability that a positive scores above a negative (ties count half), in [0, 1]. low, high: its 95 %
    interval; NaN when it cannot be had. n_pos, n_neg: rows of each class. method: how the interval was made."""

    value: float
    low: float
    high: float
    n_pos: int
    n_neg: int
    method: str


def auc(y: ArrayLike, score: ArrayLike, groups: ArrayLike | None = None, *, n_boot: int = 1000, seed: int = 0) -> AUC:
    """AUC of `score` for the labels `y` (1 positive, 0 negative).

    Without `groups` the rows are taken as independent and the interval is DeLong's (Biometrics 44, 1988; the rank form
    of Sun & Xu 2014), clipped to [0, 1]. With `groups`, whole groups are resampled (percentile bootstrap, `n_boot`
    draws, `seed`). Rows with a NaN score are dropped. Raises InputError when a class is missing.
    """
    labels, scores = np.asarray(y, dtype=float), np.asarray(score, dtype=float)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise InputError(f"y and score must be one axis of the same length; got {labels.shape} and {scores.shape}.")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("y must hold 0 (negative) and 1 (positive) alone.")
    kept = ~np.isnan(scores)
    positive, scores = labels[kept] == 1, scores[kept]
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        raise InputError(f"an AUC needs both classes; got {n_pos} positive and {n_neg} negative rows with a score.")
    if groups is None:
        value, low, high = _delong(positive, scores)
        return AUC(value, low, high, n_pos, n_neg, "DeLong")
    value = _weighted_auc(positive, scores, np.ones((1, len(scores))))[0]
    _, member = np.unique(np.asarray(groups)[kept], return_inverse=True)
    rng = np.random.default_rng(seed)
    n = member.max() + 1
    times = rng.multinomial(n, np.full(n, 1 / n), n_boot)  # (n_boot, groups): how often each is drawn
    blocks = [_weighted_auc(positive, scores, times[i : i + 100, member]) for i in range(0, n_boot, 100)]  # for memory
    draws = np.concatenate(blocks)
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, (0.025, 0.975)) if len(draws) and n > 1 else (np.nan, np.nan)
    return AUC(float(value), float(low), float(high), n_pos, n_neg, "group bootstrap")


def _weighted_auc(positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray) -> NDArray[np.float64]:
    """AUC of each row of `weights` (B, n), rows counted that often; NaN where a class has no weight."""
    values, level = np.unique(scores, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(len(values)))
    up = np.add.reduceat((weights * positive)[:, order], starts, axis=1)  # (B, levels)
    down = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(down, 1) - down
    with np.errstate(invalid="ignore", divide="ignore"):
        return (up * (below + down / 2)).sum(1) / (up.sum(1) * down.sum(1))


def _delong(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float, float]:
    from scipy.stats import norm, rankdata

    up, down = scores[positive], scores[~positive]
    m, n = len(up), len(down)
    rank = rankdata(np.concatenate([up, down]))
    over = (rank[:m] - rankdata(up)) / n  # share of negatives below each positive
    under = 1 - (rank[m:] - rankdata(down)) / m
    value = float(over.mean())
    if m < 2 or n < 2:
        return value, float("nan"), float("nan")
    half = float(norm.ppf(0.975) * np.sqrt(over.var(ddof=1) / m + under.var(ddof=1) / n))
    return value, max(0.0, value - half), min(1.0, value + half)
