"""Group-bootstrap kernels: whole groups are drawn with replacement, and a draw is a weight on every row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
MIN_GROUPS = 10
"""Groups that an interval needs; as in `stats.compare`, for each side there."""


def group_draws(groups: ArrayLike, n_boot: int, seed: int, min_groups: int = MIN_GROUPS) -> Floats:
    """(n_boot + 1, n) weights: row 0 is all ones (the sample itself), row b how often each row's group was drawn.

    Row 0 alone with fewer than `min_groups` groups, so that no interval is made of them: resampling a few understates
    how much another sample could differ.
    """
    _, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    if n_groups < max(min_groups, 1):
        return np.ones((1, len(codes)))
    counts = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_boot)
    return np.concatenate([np.ones((1, len(codes))), counts[:, codes].astype(float)])


def weighted_auc(y: ArrayLike, score: ArrayLike, weights: Floats) -> Floats:
    """(B,) area under the ROC curve under each of B weightings; ties count half; NaN where a class weighs nothing.

    y: (n,) 0/1. score: (n,), no NaN, infinities allowed. weights: (B, n). O(B·n) after one sort.
    """
    positive, values = np.asarray(y, dtype=float), np.asarray(score, dtype=float)
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))  # first row of each tie
    pos = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    neg = np.add.reduceat(weights[:, order] * (1 - positive[order]), starts, axis=1)
    below = np.cumsum(neg, axis=1) - neg / 2
    total = pos.sum(axis=1) * neg.sum(axis=1)
    wins = (pos * below).sum(axis=1)
    return np.divide(wins, total, out=np.full(len(weights), np.nan), where=total > 0)


def auc_within(y: Floats, score: Floats, stratum: NDArray[np.integer], weights: Floats) -> Floats:
    """(B,) AUC over pairs of the same stratum, under each of B weightings (B, n); NaN where there is no pair."""
    wins, pairs = pairs_within(y, score, stratum, weights)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


def pairs_within(y: Floats, score: Floats, stratum: NDArray[np.integer], weights: Floats) -> tuple[Floats, Floats]:
    """(B,) weight of the pairs of a stratum that are in the right order (ties half), and of all of them."""
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for s in np.unique(stratum):
        mine = stratum == s
        w, failed = weights[:, mine], y[mine]
        n = (w * failed).sum(1) * (w * (1 - failed)).sum(1)
        wins += np.nan_to_num(weighted_auc(failed, score[mine], w)) * n
        pairs += n
    return wins, pairs


def weighted_mean(values: ArrayLike, weights: Floats) -> Floats:
    """(B,) mean of (n,) values under each weighting; NaN where nothing was drawn."""
    total = weights.sum(axis=1)
    return np.divide(
        weights @ np.asarray(values, dtype=float), total, out=np.full(len(weights), np.nan), where=total > 0
    )


def weighted_median(values: ArrayLike, weights: Floats) -> Floats:
    """(B,) the smallest value with at least half the weight at or below it; NaN where nothing was drawn."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        return np.full(len(weights), np.nan)
    order = np.argsort(x, kind="stable")
    share = np.cumsum(weights[:, order], axis=1)
    middle = np.argmax(share >= share[:, -1:] / 2, axis=1)
    return np.where(share[:, -1] > 0, x[order][middle], np.nan)


def interval(draws: Floats) -> tuple[float, float, float]:
    """(value, low, high): draw 0, and the 2.5 % and 97.5 % percentiles of the others; NaN where there is no value."""
    rest = draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(draws[0]) or not len(rest):
        return float(draws[0]), float("nan"), float("nan")
    low, high = np.percentile(rest, (2.5, 97.5))
    return float(draws[0]), float(low), float(high)


def wilson(k: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of k in n independent trials; (0, 1) when n = 0."""
    if n == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    centre = (k + z2 / 2) / (n + z2)
    half = float(np.sqrt(z2 * (k * (n - k) / n + z2 / 4))) / (n + z2)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))
