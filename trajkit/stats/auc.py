"""Area under the ROC curve with a 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.stats.resampling import auc_within, edge_draws, group_draws, interval, numbered


@dataclass(frozen=True)
class AUC:
    """value: probability that a positive scores above a negative (ties count half), in [0, 1]. low, high: its 95 %
    interval; NaN when it cannot be had. n_pos, n_neg: rows of each class. method: how the interval was made.

    See also: `auc`.

    >>> found = tk.stats.auc([0, 0, 1, 1, 1], [0.1, 0.4, 0.3, 0.8, 0.9])
    >>> round(found.value, 2), found.n_pos, found.n_neg, found.method
    (0.83, 3, 2, 'DeLong')
    """

    value: float
    low: float
    high: float
    n_pos: int
    n_neg: int
    method: str

    def _repr_html_(self) -> str:
        from trajkit.notebook.tables import auc_html

        return auc_html(self)


def auc(
    y: ArrayLike,
    score: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    within: ArrayLike | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> AUC:
    """AUC of `score` for the labels `y` (1 positive, 0 negative).

    within: (n,) a stratum of each row, such as the form of its question: only pairs of one stratum count then, each the
    same, so that what tells strata apart is worth nothing. `groups` are needed beside it.

    Without `groups` the rows are taken as independent and the interval is DeLong's (Biometrics 44, 1988; the rank form
    of Sun & Xu 2014), clipped to [0, 1]. With `groups`, whole groups are resampled (percentile bootstrap, `n_boot`
    draws, `seed`); there is no interval with fewer than MIN_GROUPS groups of a class. An AUC of 0 or 1 has an exact
    bound instead, however few there are: 0.025^(1/k) from 1, k the pairs that have no row, or no group, in common
    (`pairs.disjoint_pairs`). Rows with a NaN score are dropped. Raises InputError when a class is missing, or no
    stratum has both.

    See also: `AUC`, `compare`, `judging.auc_by_step`.

    >>> last = runs.known().last
    >>> failed = last["outcome"] != "success"
    >>> found = tk.stats.auc(failed, last["entropy_mean"], groups=last["group_id"])
    >>> print(f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})")
    0.70 (0.61 to 0.77)
    """
    labels, scores = _numbers(y, "y"), _numbers(score, "score")
    if labels.shape != scores.shape or labels.ndim != 1:
        raise InputError(f"y and score must be one axis of the same length; got {labels.shape} and {scores.shape}.")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("y must hold 0 (negative) and 1 (positive) alone.")
    kept = ~np.isnan(scores)
    if within is not None and groups is None:
        raise InputError("an AUC within strata needs groups: give the transcript_id of each row where all differ.")
    positive, scores = labels[kept] == 1, scores[kept]
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        raise InputError(f"an AUC needs both classes; got {n_pos} positive and {n_neg} negative rows with a score.")
    if groups is None:
        value, low, high = _delong(positive, scores)
        if value in (0, 1):
            value, low, high = interval(edge_draws(value, min(n_pos, n_neg), n_boot + 1))
        return AUC(value, low, high, n_pos, n_neg, "DeLong")
    draws = group_draws(np.asarray(groups)[kept], n_boot, seed)
    stratum = numbered(np.zeros(len(scores)) if within is None else np.asarray(within)[kept])
    value, low, high = interval(auc_within(positive, scores, stratum, draws))
    if np.isnan(value):
        raise InputError("an AUC within strata needs a stratum that has rows of both classes; there is none.")
    return AUC(value, low, high, n_pos, n_neg, "group bootstrap")


def _numbers(values: Any, name: str) -> NDArray[np.float64]:
    """Raises InputError on a table, the name of a column, and texts."""
    if hasattr(values, "columns") or isinstance(values, str):
        raise InputError(
            "auc takes a column of 0 and 1 and a column of scores: tk.stats.auc(table['failed'], table['path_length'], "
            f"groups=table['group_id']); got {type(values).__name__} for {name}."
        )
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        hint = " Of outcomes, make them so: table['outcome'] != 'success'." if name == "y" else ""
        raise InputError(f"{name} must hold numbers; {error}.{hint}") from error


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
    return (value, max(0.0, value - half), min(1.0, value + half)) if half > 0 else (value, float("nan"), float("nan"))
