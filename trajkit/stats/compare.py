"""Comparing a metric between outcomes, when several runs share an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.stats.correction import holm
from trajkit.stats.resampling import auc_within, group_draws, interval, numbered

if TYPE_CHECKING:
    import pandas as pd

Correction = Literal["holm", "bonferroni", "fdr_bh"]
TASK = ("task_set", "form")
"""What is held fixed by default, as in `regress`: outcomes go with the family and form of the question."""
PERMUTATIONS = 10_000
"""For tables of many comparisons: the least p there can be, times their number, is then far below 0.05."""
_BLOCK = 500_000
"""Numbers that are permuted at a time."""
_LISTED = 10
"""Runs of a group, of one stratum, whose arrangements of labels are listed: 1,024 at most."""


def compare(
    df: pd.DataFrame,
    metric: str | Sequence[str],
    by: str = "outcome",
    groups: str = "group_id",
    correction: Correction = "holm",
    *,
    strata: Sequence[str] = TASK,
    n_resamples: int = 2000,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare `metric`, one or several, between every two values of `by`; a row a metric and pair.

    df: one row a run; left_out: runs without a value of `by`, or without a finite one of the metric. n, mean and median
    are over the others. p_mannwhitney: two-sided, and takes runs as independent, which runs of one image are not.
    p_group_means: the same test on one number a group and outcome, the mean of its runs; a group that holds both
    outcomes counts on both sides, and the pairing is not used.
    p_permutation: two-sided, of the difference in mean ranks, when the labels of whole groups are shuffled among groups
    of equal size and then within each group, `n_resamples` times; p_corrected corrects it over all rows of the table.
    cliffs_delta: P(a > b) − P(a < b), in [−1, 1]; delta_low, delta_high: its 95 % interval from resampling groups
    `n_boot` times, NaN where a side has fewer than MIN_GROUPS groups; where delta is −1 or 1, an exact bound from the
    numbers of groups (`pairs.disjoint_pairs`). delta_tested: what p_permutation tests, the part of cliffs_delta
    that does not follow from the sizes of groups (where large groups hold more of a, and more of the metric, shuffling
    keeps that); read a direction only where both have its sign. strata: columns; p_permutation, cliffs_delta and
    delta_tested compare runs that agree in them all, weighed by their pairs, and labels are shuffled among groups with
    as many runs of each stratum; where no stratum has runs of both outcomes the deltas are NaN, and p is NaN wherever
    no label could be exchanged: nothing was tested then, and p_corrected does not count it. By default family and form,
    as `regress` holds them: a frame without either column knows none of them, and () compares all runs with all.
    The other columns are over all runs. Several metrics at once cost little more than one where they are
    finite in the same runs. Raises InputError when a column is missing, fewer than two outcomes have a finite value of
    a metric, or the correction is unknown.

    See also: `compare_runs`, `regress`, `auc`.

    >>> told = runs.table[runs.table["outcome"].isin(["success", "hallucination"])]
    >>> table = tk.stats.compare(told, ["path_length", "entropy_mean"], n_boot=200)
    >>> table[["metric", "cliffs_delta", "delta_low", "delta_high", "p_corrected"]].round(2)
             metric  cliffs_delta  delta_low  delta_high  p_corrected
    0   path_length         -0.14      -0.39        0.24         0.48
    1  entropy_mean          0.74       0.36        0.87         0.00
    """
    import pandas as pd
    from scipy.stats import mannwhitneyu

    metrics = [metric] if isinstance(metric, str) else list(dict.fromkeys(metric))
    if not metrics:
        raise InputError("comparing needs a metric; got none.")
    if not hasattr(df, "columns"):
        raise InputError(
            f"compare takes a table with a row a run, such as tk.run_table(traces).table; got {type(df).__name__}."
        )
    strata = [name for name in strata if name not in TASK or name in df]
    for column in (*metrics, by, groups, *strata):
        if column not in df:
            raise InputError(f"could not find column {column!r}; there are: {', '.join(map(str, df.columns))}.")
    if correction not in get_args(Correction):
        raise InputError(f"correction must be one of {', '.join(get_args(Correction))}; got {correction!r}.")
    if df[groups].isna().any():
        raise InputError(f"there are {int(df[groups].isna().sum())} runs of no {groups!r}; give each run its group.")
    given, df = len(df), df[df[by].notna()]
    every = df[metrics].to_numpy(dtype=float, na_value=np.nan)
    finite = np.isfinite(every)
    label, stratum = df[by].to_numpy(), numbered(np.zeros(len(df)), *(df[name] for name in strata))
    present = {name: sorted(set(label[finite[:, j]])) for j, name in enumerate(metrics)}
    for name, found in present.items():
        if len(found) < 2:
            raise InputError(f"comparing needs at least two values of {by!r} with a finite {name!r}; got {found}.")
    rows: dict[tuple[str, Any, Any], dict[str, Any]] = {}
    for a, b in combinations(sorted(set().union(*present.values())), 2):
        able = [j for j, name in enumerate(metrics) if a in present[name] and b in present[name]]
        for kept, alike in _by_rows(finite & np.isin(label, (a, b))[:, None], able):
            is_a = label[kept] == a
            member = np.unique(df[groups].to_numpy()[kept], return_inverse=True)[1]
            draws = group_draws(member, n_boot, seed)
            within = stratum[kept]
            shuffled = _permutation_p(every[kept][:, alike], is_a, member, within, n_resamples, seed)
            for j, p, tested in zip(alike, *shuffled, strict=True):
                values = every[kept, j]
                means_a, means_b = (_group_means(values[side], member[side]) for side in (is_a, ~is_a))
                delta, low, high = interval(2 * auc_within(is_a, values, within, draws) - 1)
                rows[metrics[j], a, b] = {
                    "metric": metrics[j],
                    "a": a,
                    "b": b,
                    "n_a": int(is_a.sum()),
                    "n_b": int((~is_a).sum()),
                    "mean_a": values[is_a].mean(),
                    "mean_b": values[~is_a].mean(),
                    "median_a": np.median(values[is_a]),
                    "median_b": np.median(values[~is_a]),
                    "p_mannwhitney": float(mannwhitneyu(values[is_a], values[~is_a]).pvalue),
                    "p_group_means": float(mannwhitneyu(means_a, means_b).pvalue),
                    "p_permutation": p,
                    "cliffs_delta": delta,
                    "delta_low": low,
                    "delta_high": high,
                    "delta_tested": tested,
                    "left_out": given - int(finite[:, j].sum()),
                }
    table = pd.DataFrame([rows[name, a, b] for name in metrics for a, b in combinations(present[name], 2)])
    corrected = _corrected(table["p_permutation"].to_numpy(float), correction)
    table.insert(list(table).index("p_permutation") + 1, "p_corrected", corrected)
    return table


def _corrected(p: NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    """Over the p-values that are known; NaN stays NaN."""
    if correction == "holm":
        return holm(p)
    from statsmodels.stats.multitest import multipletests

    made, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        made[known] = multipletests(p[known], method=correction)[1]
    return made


def _by_rows(kept: NDArray[np.bool_], columns: list[int]) -> Iterator[tuple[NDArray[np.bool_], list[int]]]:
    """Columns of `kept` (n, M) that keep the same rows, together with those rows."""
    alike: dict[bytes, list[int]] = {}
    for j in columns:
        alike.setdefault(kept[:, j].tobytes(), []).append(j)
    return ((kept[:, found[0]], found) for found in alike.values())


def _group_means(values: NDArray[Any], member: NDArray[Any]) -> NDArray[np.float64]:
    _, at = np.unique(member, return_inverse=True)
    return np.bincount(at, values) / np.bincount(at)


def _permutation_p(
    values: NDArray[Any],
    is_a: NDArray[np.bool_],
    member: NDArray[Any],
    stratum: NDArray[Any],
    n_resamples: int,
    seed: int,
) -> tuple[list[float], list[float]]:
    """Shuffle group label profiles among groups of equal size, then labels within groups; p = (1 + hits) / (1 + n).

    values: (n, M), a p each; all see the same shuffles. Second, Cliff's delta less its mean under the shuffles. Under
    the null the metric of a run does not depend on its label, whatever runs of a group have in common: labels within a
    group are exchangeable, and so are whole label profiles of groups with the same number of runs. Ranks are those
    within a stratum; a profile says how many runs of each stratum are a, and goes to groups with as many of each.
    """
    from scipy.stats import rankdata

    rng = np.random.default_rng(seed)
    rank: NDArray[np.float64] = np.zeros_like(values, dtype=float)
    pairs = 0
    for s in np.unique(stratum):
        mine = stratum == s
        rank[mine] = rankdata(values[mine], axis=0) - (mine.sum() + 1) / 2
        pairs += int(is_a[mine].sum()) * int((~is_a[mine]).sum())
    order = np.lexsort((stratum, member))
    rank, labels, within = rank[order], is_a[order], stratum[order]
    sizes = np.bincount(member)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    alike: dict[tuple[int, bytes], list[int]] = {}  # groups with as many runs of each stratum, small ones first
    for group in np.argsort(sizes, kind="stable").tolist():
        made_of = within[starts[group] : starts[group] + sizes[group]]
        alike.setdefault((len(made_of), made_of.tobytes()), []).append(group)
    observed, expected = rank[labels].sum(axis=0), np.zeros(rank.shape[1])
    scores = np.zeros((n_resamples, rank.shape[1]))
    for (size, _), some in alike.items():
        at = starts[some][:, None] + np.arange(size)  # (groups, size), the runs of a stratum beside each other
        first = np.unique(within[at[0]], return_index=True)[1]
        pieces = list(zip(first, [*first[1:], size], strict=True))
        profiles = np.add.reduceat(labels[at], first, axis=1, dtype=int)  # (groups, pieces) how many are a
        for piece, (low, high) in enumerate(pieces):
            expected += profiles[:, piece].sum() * rank[at[:, low:high].ravel()].mean(axis=0)
        block = max(1, _BLOCK // at.size)
        for start in range(0, n_resamples, block):
            n = min(block, n_resamples - start)
            taken = rng.permuted(np.broadcast_to(np.arange(len(at)), (n, len(at))), axis=1)  # profiles to other groups
            for piece, (low, high) in enumerate(pieces):
                chosen = _labelled(profiles[:, piece].take(taken), high - low, rng)  # labels within each group
                scores[start : start + n] += chosen.reshape(n, -1) @ rank[at[:, low:high].ravel()]
    far = np.abs(scores - expected) >= np.abs(observed - expected) - 1e-9
    tested = 2 * (observed - expected) / pairs if pairs else np.full(len(observed), np.nan)
    p = (1 + far.sum(axis=0)) / (1 + n_resamples)
    p[(np.ptp(scores, axis=0) < 1e-9) & rank.any(axis=0)] = np.nan  # nothing could be exchanged: nothing was tested
    return p.tolist(), tested.tolist()


def _labelled(n_a: NDArray[np.integer[Any]], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(…, size) 0 or 1, in each row `n_a` (…) ones, every such row as likely as any other.

    Rows are drawn from a list of all of them where it is short: shuffling millions of rows of six is most of the work
    of a comparison otherwise.
    """
    if size > _LISTED:
        return rng.permuted(np.arange(size) < n_a[..., None], axis=-1).astype(float)
    rows, first, number = _arrangements(size)
    return rows.take(first.take(n_a) + (rng.random(n_a.shape) * number.take(n_a)).astype(np.int64), axis=0)


@cache
def _arrangements(size: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """All (2^size, size) rows of 0 and 1 by their number of ones; where those with n ones begin, and how many."""
    rows = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    number = np.array([comb(size, n) for n in range(size + 1)])
    return rows[np.argsort(rows.sum(1), kind="stable")].astype(float), np.cumsum(number) - number, number
