"""How good probabilities of failure are, beside how well they rank: precision, calibration, gain, matched comparison.

All on held-out rows, one a run in each selection (`ranking.select_steps`, `select_fractions`), with 95 % intervals
that resample groups.

Risks are (n,), one a row, of models that are taken as given; or (R, n), cross-validated in R deals to `n_folds` folds
(`cross_validation.cross_validated`), with strata (R, n) that hold the fold: figures are then means over deals, and
intervals those of `stats.cross_validation`. Among strata of several deals, scores of (n,) are compared within the
first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.splits import failures
from trajkit.judging.deals import each_deal, over_deals, strata_of
from trajkit.judging.ranking import Selection
from trajkit.stats.correction import holm
from trajkit.stats.cross_validation import refitted_variance
from trajkit.stats.resampling import (
    MIN_GROUPS,
    Draws,
    Floats,
    Integers,
    auc_within,
    group_draws,
    interval,
    pairs_within,
    weighted_auc,
    weighted_mean,
)

if TYPE_CHECKING:
    import pandas as pd

BASE_RATE = "base rate"
Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
DRAWS_EACH = 100
"""Of groups, for each of the gains that are corrected together: the least p is then 0.02 after correction."""


def probability_scores(
    frame: pd.DataFrame,
    risks: Mapping[str, Floats],
    selected: Sequence[Selection],
    strata: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """Average precision and Brier score of each method on each selection, and those of the base rate.

    strata: (n,) or (R, n) such as the fold of a row; average precision is the mean over strata, by how many
    failed there, so that only risks of one model are ranked together. n_folds: of cross-validation.

    Columns: method, the labels of the selection, n_runs, n_failures, average_precision and brier, each with _low and
    _high. The base rate gives every run the share that failed: its average precision is that share, its Brier score
    that share times one less it. Lower is better for Brier (1950), higher for average precision.

    See also: `calibration`, `matched_auc`.

    >>> from trajkit.judging.ranking import select_steps
    >>> known = runs.known().frame
    >>> risks, at = {"all": detectors.predictor.risks(known)}, select_steps(known, steps=(8,))
    >>> table = tk.judging.probability_scores(known, risks, at, np.zeros(len(known)), n_boot=200)
    >>> table[["method", "average_precision", "brier"]].round(2)
          method  average_precision  brier
    0        all               0.60   0.21
    1  base rate               0.41   0.24
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = strata_of(strata)
    table = []
    for selection in selected:
        rows = selection.rows
        y = failed[rows]
        draws = group_draws(groups[rows], n_boot, seed)
        rate = weighted_mean(y, draws)
        counts = {"n_runs": len(rows), "n_failures": int(y.sum())}
        figures = {BASE_RATE: (rate, rate * (1 - rate))} | {
            method: [
                over_deals(each_deal(figure, y, risk, stratum, rows, draws), n_folds, risk)
                for figure in (average_precision, _brier)
            ]
            for method, risk in risks.items()
        }
        for method, (precision, brier) in figures.items():
            row: dict[str, Any] = {"method": method, **selection.columns, **counts}
            for name, drawn in (("average_precision", precision), ("brier", brier)):
                row[name], row[f"{name}_low"], row[f"{name}_high"] = interval(drawn)
            table.append(row)
    return pd.DataFrame(table).sort_values("method", kind="stable", ignore_index=True)


def gains(
    frame: pd.DataFrame,
    better: Floats,
    than: Floats,
    selected: Sequence[Selection],
    strata: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """AUC of one score less that of another on each selection, the same draws of groups for both, within `strata`.

    Columns: the labels of the selection, n_runs, n_failures, auc (of `better`), auc_than, gain, low, high; p, twice the
    share of draws on the other side of 0 (NaN without an interval), and p_corrected, by Holm over the selections. There
    are DRAWS_EACH draws a selection at least: of fewer, no p could be small after correction.

    See also: `matched_auc`, `held_out_risks`, `folds_of`.

    >>> from trajkit.judging.ranking import select_steps
    >>> known = runs.known().frame
    >>> risks = tk.judging.held_out_risks(known, ["length", "uncertainty+length"])
    >>> at, folds = select_steps(known, steps=(8,)), tk.judging.folds_of(known)
    >>> table = tk.judging.gains(known, risks["uncertainty+length"], risks["length"], at, folds, n_boot=200)
    >>> table[["step", "auc", "auc_than", "gain", "low", "high"]].round(2)
       step  auc  auc_than  gain   low  high
    0     8  0.7      0.52  0.18  0.06  0.31
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = strata_of(strata)
    n_boot = max(n_boot, DRAWS_EACH * len(selected))
    table = []
    for selection in selected:
        rows = selection.rows
        y, draws = failed[rows], group_draws(groups[rows], n_boot, seed)
        first, second = (each_deal(auc_within, y, score, stratum, rows, draws) for score in (better, than))
        gained = over_deals(first - second, n_folds, better, (-1, 1))
        gain, low, high = interval(gained)
        p = p_of_draws(gained[1:]) if np.isfinite(low) else np.nan
        areas = {"auc": float(np.mean(first[:, 0])), "auc_than": float(np.mean(second[:, 0]))}
        counts = {"n_runs": len(rows), "n_failures": int(y.sum())} | areas
        table.append({**selection.columns, **counts, "gain": gain, "low": low, "high": high, "p": p})
    found = pd.DataFrame(table)
    return found.assign(p_corrected=holm(found["p"]))


def p_of_draws(draws: Floats) -> float:
    """Twice the share of (B,) draws of a difference that lie on its rarer side of 0, in (0, 1]."""
    n, below, above = np.isfinite(draws).sum(), (draws <= 0).sum(), (draws >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + n)))


def matched_auc(
    frame: pd.DataFrame,
    scores: Mapping[str, Floats],
    selected: Sequence[Selection],
    strata: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """AUC over pairs of a failing and a successful run of the same stratum: matched on `strata`.

    strata: (n,) or (R, n) one value a row of `frame`, such as the final number of steps. Columns: method, the labels of
    the selection, n_runs, n_failures, n_scored (NaN scores are left out), pairs (within strata), auc, low, high.
    Outcomes must be known.

    See also: `gains`, `held_out_risks`.

    >>> from trajkit.judging.ranking import select_steps
    >>> known = runs.known().frame
    >>> at = select_steps(known, steps=(4, 8))
    >>> scores = {"entropy": known["entropy_mean"].to_numpy()}
    >>> table = tk.judging.matched_auc(known, scores, at, known["task_set"], n_boot=200)
    >>> table[["method", "step", "pairs", "auc", "low", "high"]].round(2)
        method  step  pairs   auc   low  high
    0  entropy     4   7339  0.73  0.62  0.80
    1  entropy     8   7315  0.74  0.65  0.82
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    stratum = strata_of(strata)
    table = []
    for selection in selected:
        rows = selection.rows
        draws = group_draws(groups[rows], n_boot, seed)
        for method, score in scores.items():
            known = ~np.isnan(np.atleast_2d(score)[0, rows])
            here, some = rows[known], draws.of(known)
            y = failed[here]
            areas = each_deal(auc_within, y, score, stratum, here, some)
            value, low, high = interval(over_deals(areas, n_folds, score))
            counts = {"n_runs": len(rows), "n_failures": int(failed[rows].sum()), "n_scored": int(known.sum())}
            counts["pairs"] = int(pairs_within(y, np.zeros(len(y)), stratum[0, here], some.sample)[1][0])
            table.append({"method": method, **selection.columns, **counts, "auc": value, "low": low, "high": high})
    return pd.DataFrame(table).sort_values("method", kind="stable", ignore_index=True)


def calibration(
    frame: pd.DataFrame, risk: Floats, selected: Sequence[Selection], bins: int = 8, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Calibration curve of each selection: runs in `bins` of as equal size as ties allow, by their risk.

    Columns: the labels of the selection, n_runs, risk (mean of the bin), failed (share), low, high; off, off_low,
    off_high: risk less what happened, on average; where none or all of a bin failed, by the exact bound of the share.

    See also: `probability_scores`.

    >>> from trajkit.judging.ranking import select_steps
    >>> known = runs.known().frame
    >>> risk, at = detectors.predictor.risks(known), select_steps(known, steps=(8,))
    >>> table = tk.judging.calibration(known, risk, at, bins=3, n_boot=200)
    >>> table[["n_runs", "risk", "failed", "low", "high"]].round(2)
       n_runs  risk  failed   low  high
    0     132  0.15    0.23  0.12  0.34
    1     131  0.34    0.40  0.29  0.50
    2     132  0.57    0.61  0.49  0.75
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    table = []
    for selection in selected:
        rows = selection.rows
        edges = np.unique(np.quantile(risk[rows], np.arange(1, bins) / bins)) if len(rows) else np.zeros(0)
        bin_of = np.searchsorted(edges, risk[rows], "right")
        for b in np.unique(bin_of):
            inside = rows[bin_of == b]
            draws = group_draws(groups[inside], n_boot, seed)
            row: dict[str, Any] = {**selection.columns, "n_runs": len(inside), "risk": float(risk[inside].mean())}
            row["failed"], row["low"], row["high"] = interval(weighted_mean(failed[inside], draws))
            off = weighted_mean(risk[inside] - failed[inside], draws)
            row["off"], row["off_low"], row["off_high"] = interval(off)
            if row["failed"] in (0, 1):  # draws know nothing of failures there
                row["off_low"], row["off_high"] = row["risk"] - row["high"], row["risk"] - row["low"]
            table.append(row)
    return pd.DataFrame(table)


def calibration_slope(
    frame: pd.DataFrame, risk: Floats, selected: Sequence[Selection], n_boot: int = 500, seed: int = 0, n_folds: int = 5
) -> pd.DataFrame:
    """How far risks spread beside what happens, of each selection (Cox 1958, doi 10.1093/biomet/45.3-4.562).

    Columns: the labels of the selection, n_runs, n_failures; slope, low, high: of the logistic regression of failure on
    the risk's log-odds, 1 where risks are as far apart as they should be, below 1 where they are too far apart, with
    errors that are robust over groups, NaN where an AUC has no interval or is 0 or 1; off, off_low, off_high: mean risk
    less the share that failed.
    """
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    table = []
    for selection in selected:
        rows = selection.rows
        y, p = failed[rows], np.clip(risk[..., rows], 1e-6, 1 - 1e-6)
        draws = group_draws(groups[rows], n_boot, seed)
        row: dict[str, Any] = {**selection.columns, "n_runs": len(rows), "n_failures": int(y.sum())}
        slope, error = _slope(y, np.atleast_2d(p), draws, n_folds, cross_validated=p.ndim == 2)
        row |= {"slope": slope, "low": slope - Z * error, "high": slope + Z * error}
        off = each_deal(_off, y, risk, np.zeros((1, len(risk.T)), int), rows, draws)
        row["off"], row["off_low"], row["off_high"] = interval(over_deals(off, n_folds, risk, (-1, 1)))
        table.append(row)
    return pd.DataFrame(table)


def _slope(y: Floats, p: Floats, draws: Draws, n_folds: int, cross_validated: bool) -> tuple[float, float]:
    """Slope of failure on the log-odds of p (R, n), the mean over deals, and its standard error."""
    import statsmodels.api as sm

    found = []
    for risk in p:
        area, low, _ = interval(weighted_auc(y, risk, draws))
        if not (0 < area < 1 and np.isfinite(low)):  # of too few groups of a class, or told apart wholly
            return np.nan, np.nan
        design = sm.add_constant(np.log(risk / (1 - risk)), has_constant="add")
        fitted = sm.Logit(y, design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": draws.member})
        found.append((fitted.params[1], fitted.bse[1] ** 2))
    slopes, variances = np.array(found).T
    variance = float(variances.mean())
    if cross_validated:
        variance = refitted_variance(variance, slopes, n_folds)
    return float(slopes.mean()), float(np.sqrt(variance))


def _brier(y: Floats, risk: Floats, stratum: Integers, draws: Draws) -> Floats:
    return weighted_mean((risk - y) ** 2, draws)


def _off(y: Floats, risk: Floats, stratum: Integers, draws: Draws) -> Floats:
    return weighted_mean(risk - y, draws)


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
