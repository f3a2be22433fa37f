"""How good probabilities of failure are, beside how well they rank: precision, calibration, gain, matched comparison.

All on held-out rows, one a run in each selection (`evaluation.select_steps`, `select_fractions`), with 95 % intervals
that resample groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.evaluation import Selected
from trajkit.detection.splits import failures
from trajkit.stats.resampling import (
    MIN_GROUPS,
    Draws,
    Floats,
    auc_within,
    group_draws,
    interval,
    numbered,
    pairs_within,
    weighted_auc,
    weighted_mean,
)

if TYPE_CHECKING:
    import pandas as pd

BASE_RATE = "base rate"


def probability_scores(
    frame: pd.DataFrame, risks: Mapping[str, Floats], selected: Selected, strata: ArrayLike, n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Average precision and Brier score of each method on each selection, and those of the base rate.

    strata: (n,) such as the fold that a row was held out in; average precision is the mean over strata, by how many
    failed there, so that only risks of one model are ranked together.

    Columns: method, the labels of the selection, n_runs, n_failures, average_precision and brier, each with _low and
    _high. The base rate gives every run the share that failed: its average precision is that share, its Brier score
    that share times one less it. Lower is better for Brier (1950), higher for average precision.
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = numbered(strata)
    table = []
    for label, rows in selected:
        y = failed[rows]
        draws = group_draws(groups[rows], n_boot, seed)
        rate = weighted_mean(y, draws)
        counts = {"n_runs": len(rows), "n_failures": int(y.sum())}
        figures = {BASE_RATE: (rate, rate * (1 - rate))} | {
            method: (
                average_precision(y, risk[rows], stratum[rows], draws),
                weighted_mean((risk[rows] - y) ** 2, draws),
            )
            for method, risk in risks.items()
        }
        for method, (precision, brier) in figures.items():
            row: dict[str, Any] = {"method": method, **label, **counts}
            for name, drawn in (("average_precision", precision), ("brier", brier)):
                row[name], row[f"{name}_low"], row[f"{name}_high"] = interval(drawn)
            table.append(row)
    return pd.DataFrame(table).sort_values("method", kind="stable", ignore_index=True)


def gains(
    frame: pd.DataFrame, better: Floats, than: Floats, selected: Selected, strata: ArrayLike, n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """AUC of one score less that of another on each selection, the same draws of groups for both, within `strata`.

    Columns: the labels of the selection, n_runs, n_failures, auc (of `better`), auc_than, gain, low, high; p, twice the
    share of draws on the other side of 0 (NaN without an interval), and p_corrected, by Holm over the selections.
    """
    import pandas as pd
    from statsmodels.stats.multitest import multipletests

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = numbered(strata)
    table = []
    for label, rows in selected:
        y, draws = failed[rows], group_draws(groups[rows], n_boot, seed)
        first, second = (auc_within(y, score[rows], stratum[rows], draws) for score in (better, than))
        gain, low, high = interval(first - second)
        p = _p_of(first[1:] - second[1:]) if np.isfinite(low) else np.nan
        counts = {"n_runs": len(rows), "n_failures": int(y.sum()), "auc": first[0], "auc_than": second[0]}
        table.append({**label, **counts, "gain": gain, "low": low, "high": high, "p": p})
    found = pd.DataFrame(table)
    known = found["p"].notna()
    found["p_corrected"] = np.nan
    if known.any():
        found.loc[known, "p_corrected"] = multipletests(found.loc[known, "p"], method="holm")[1]
    return found


def _p_of(draws: Floats) -> float:
    n, below, above = len(draws), (draws <= 0).sum(), (draws >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + n)))


def matched_auc(
    frame: pd.DataFrame,
    scores: Mapping[str, Floats],
    selected: Selected,
    strata: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC over pairs of a failing and a successful run of the same stratum: matched on `strata`.

    strata: (n,) one value a row of `frame`, such as the final number of steps. Columns: method, the labels of the
    selection, n_runs, n_failures, n_scored (NaN scores are left out), pairs (within strata), auc, low, high. Outcomes
    must be known.
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = numbered(strata)
    table = []
    for label, rows in selected:
        draws = group_draws(groups[rows], n_boot, seed)
        for method, score in scores.items():
            known = ~np.isnan(score[rows])
            here = rows[known]
            some, scored = draws.of(known), (failed[here], score[here], stratum[here])
            value, low, high = interval(auc_within(*scored, some))
            counts = {"n_runs": len(rows), "n_failures": int(failed[rows].sum()), "n_scored": int(known.sum())}
            counts["pairs"] = int(pairs_within(*scored, some.sample)[1][0])
            table.append({"method": method, **label, **counts, "auc": value, "low": low, "high": high})
    return pd.DataFrame(table).sort_values("method", kind="stable", ignore_index=True)


def calibration(
    frame: pd.DataFrame, risk: Floats, selected: Selected, bins: int = 8, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Calibration curve of each selection: runs in `bins` of as equal size as ties allow, by their risk.

    Columns: the labels of the selection, n_runs, risk (mean of the bin), failed (share), low, high; off, off_low,
    off_high: risk less what happened, on average.
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    table = []
    for label, rows in selected:
        edges = np.unique(np.quantile(risk[rows], np.arange(1, bins) / bins)) if len(rows) else np.zeros(0)
        bin_of = np.searchsorted(edges, risk[rows], "right")
        for b in np.unique(bin_of):
            inside = rows[bin_of == b]
            draws = group_draws(groups[inside], n_boot, seed)
            row: dict[str, Any] = {**label, "n_runs": len(inside), "risk": float(risk[inside].mean())}
            row["failed"], row["low"], row["high"] = interval(weighted_mean(failed[inside], draws))
            off = weighted_mean(risk[inside] - failed[inside], draws)
            row["off"], row["off_low"], row["off_high"] = interval(off)
            table.append(row)
    return pd.DataFrame(table)


def calibration_slope(
    frame: pd.DataFrame, risk: Floats, selected: Selected, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """How far risks spread beside what happens, of each selection (Cox 1958, doi 10.1093/biomet/45.3-4.562).

    Columns: the labels of the selection, n_runs, n_failures; slope, low, high: of the logistic regression of failure on
    the risk's log-odds, 1 where risks are as far apart as they should be, below 1 where they are too far apart, with
    errors that are robust over groups, NaN where an AUC has no interval; off, off_low, off_high: mean risk less the
    share that failed.
    """
    import pandas as pd
    import statsmodels.api as sm

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    table = []
    for label, rows in selected:
        y, p = failed[rows], np.clip(risk[rows], 1e-6, 1 - 1e-6)
        draws = group_draws(groups[rows], n_boot, seed)
        row: dict[str, Any] = {**label, "n_runs": len(rows), "n_failures": int(y.sum())}
        row |= dict.fromkeys(("slope", "low", "high"), np.nan)
        area, low, _ = interval(weighted_auc(y, p, draws))
        if 0 < area < 1 and np.isfinite(low):  # of enough groups of each class, and not told apart wholly
            design = sm.add_constant(np.log(p / (1 - p)))
            fitted = sm.Logit(y, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": draws.member})
            row["slope"], (row["low"], row["high"]) = float(fitted.params[1]), map(float, fitted.conf_int()[1])
        row["off"], row["off_low"], row["off_high"] = interval(weighted_mean(p - y, draws))
        table.append(row)
    return pd.DataFrame(table)


def average_precision(y: Floats, score: Floats, stratum: NDArray[np.integer[Any]], draws: Draws) -> Floats:
    """(B,) average precision, ties taken together, its mean over strata by the failures drawn there.

    Σ (recall_i − recall_{i−1}) · precision_i over thresholds, as scikit-learn's; NaN where nothing failed, and in all
    draws but the sample where a class has fewer than MIN_GROUPS groups.
    """
    total, weight = np.zeros(len(draws)), np.zeros(len(draws))
    for s in np.unique(stratum):
        mine = np.flatnonzero(stratum == s)
        order = mine[np.argsort(-score[mine], kind="stable")]
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        for block in draws.blocks():
            weights = draws.weights(block, order)
            hits = np.cumsum(weights * y[order], axis=1)[:, ends]
            taken = np.cumsum(weights, axis=1, dtype=float)[:, ends]
            precision = np.divide(hits, taken, out=np.zeros_like(taken), where=taken > 0)
            total[block] += (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1)
            weight[block] += hits[:, -1]
    found = np.divide(total, weight, out=np.full(len(draws), np.nan), where=weight > 0)
    return draws.sample_if_few(found, MIN_GROUPS, y == 1, y != 1)
