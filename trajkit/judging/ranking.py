"""How well failure is told early, and outcomes apart: AUCs on held-out runs, always beside baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.design import PATH
from trajkit.detection.splits import failures, told_apart
from trajkit.errors import InputError
from trajkit.stats.cross_validation import refitted
from trajkit.stats.resampling import Floats, auc_within, group_draws, interval, weighted_auc

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("length", "task", "uncertainty", "length+task", "uncertainty+length+task")
ATTENTION = "attention_concentration"
TORTUOSITY = "tortuosity alone"
ALL, MACRO = "all", "macro"
"""In a column `outcome`: runs of whatever outcome, and the unweighted mean over outcomes."""


def plain_scores(frame: pd.DataFrame, seed: int = 0) -> dict[str, Floats]:
    """Scores that need no fitting, one per row: `random`; `tortuosity alone`, higher meaning riskier as in the paper,
    where runs have effects; `raw attention`, where the frame has a column attention_concentration."""
    scores = {"random": np.random.default_rng(seed).random(len(frame))}
    if PATH not in frame or frame[PATH].notna().any():
        scores[TORTUOSITY] = frame["tortuosity"].to_numpy(float)
    if ATTENTION in frame:
        scores["raw attention"] = frame[ATTENTION].to_numpy(float)
    return scores


def auc_by_step(
    frame: pd.DataFrame,
    scores: Mapping[str, ArrayLike],
    steps: Sequence[int] | None = None,
    min_runs: int = 20,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC of failure at absolute steps: among the runs still thinking at step t, by what was known then.

    frame: prefix features of held-out runs. scores: method → (n,) score per row, higher riskier. steps: by default all
    with at least `min_runs` runs still at risk. Runs that are not known to have failed or succeeded are left out; so
    are NaN scores (a tortuosity at step 1), which `n_scored` shows.
    Returns columns method, step, n_runs (at risk), n_failures, n_scored, auc, low, high (95 %, group bootstrap).

    See also: `judging.auc_by_fraction`, `plots.auc_by_step`, `held_out_risks`.

    >>> risks = {"all": detectors.predictor.risks(frame), "length": frame["n_tokens"]}
    >>> table = tk.judging.auc_by_step(frame, risks, steps=(4, 8), n_boot=200)
    >>> table[["method", "step", "n_runs", "n_failures", "auc", "low", "high"]].round(2)
       method  step  n_runs  n_failures   auc   low  high
    0     all     4     396         163  0.67  0.59  0.74
    1     all     8     395         163  0.71  0.61  0.78
    2  length     4     396         163  0.50  0.42  0.59
    3  length     8     395         163  0.53  0.44  0.63
    """
    return _auc_table(frame, scores, select_steps(frame, steps, min_runs), n_boot, seed)


def auc_by_fraction(
    frame: pd.DataFrame,
    scores: Mapping[str, ArrayLike],
    fractions: Sequence[float] = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0),
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC of failure at fractions of each run's final length: an ORACLE, since that length is not known online.

    On random walks that differ in nothing but length, path length has AUC 0.80 at a fraction and 0.5 at a fixed step.
    A run of T steps is read at step max(1, ⌈f·T⌉).
    Returns the columns of `auc_by_step` with `fraction` for `step`, and `oracle` = True.

    See also: `judging.auc_by_step`, `plots.auc_by_step`.

    >>> table = tk.judging.auc_by_fraction(frame, {"tortuosity": frame["tortuosity"]}, fractions=(0.3, 1.0), n_boot=200)
    >>> table[["method", "fraction", "oracle", "auc", "low", "high"]].round(2)
           method  fraction  oracle   auc   low  high
    0  tortuosity       0.3    True  0.59  0.52  0.66
    1  tortuosity       1.0    True  0.59  0.53  0.67
    """
    return _auc_table(frame, scores, select_fractions(frame, fractions), n_boot, seed)


@dataclass(frozen=True, eq=False)
class Selection:
    """The rows, one a run, that a line of a table is of: those at an absolute step, or at a fraction of each run's
    final length, an oracle. within: a column and the value of it that the runs have; all runs where it is None."""

    rows: NDArray[np.int64]
    step: int | None = None
    fraction: float | None = None
    within: tuple[str, str] | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that name it in a table: within's, and step, or fraction and oracle."""
        place = {"step": self.step} if self.fraction is None else {"fraction": self.fraction, "oracle": True}
        return dict([self.within] if self.within else []) | place


def select_steps(frame: pd.DataFrame, steps: Sequence[int] | None = None, min_runs: int = 20) -> list[Selection]:
    """The rows at each step; by default all steps with at least `min_runs` runs of known outcome."""
    at = frame["step"].to_numpy(int)
    if steps is None:
        values, counts = np.unique(at[~np.isnan(failures(frame))], return_counts=True)
        steps = values[counts >= min_runs].tolist()
    return [Selection(np.flatnonzero(at == step), step=int(step)) for step in steps]


def select_fractions(frame: pd.DataFrame, fractions: Sequence[float], within: str | None = None) -> list[Selection]:
    """The rows at fractions of each run's final length, an oracle, for each value of the column `within` apart."""
    at = frame["step"].to_numpy(float)
    final = frame.groupby("transcript_id")["step"].transform("max").to_numpy(float)
    kinds = None if within is None else frame[within].astype(str)
    selected = []
    for kind in [None] if kinds is None else sorted(kinds.unique()):
        mine = np.ones(len(frame), bool) if kind is None else (kinds == kind).to_numpy()
        for fraction in fractions:
            here = np.maximum(1, np.ceil(fraction * final - 1e-9)) == at
            apart = None if kind is None else (str(within), kind)
            selected.append(Selection(np.flatnonzero(mine & here), fraction=fraction, within=apart))
    return selected


def outcome_auc(
    outcomes: ArrayLike,
    probabilities: Mapping[str, Floats],
    classes: Sequence[str],
    groups: ArrayLike,
    n_boot: int = 500,
    seed: int = 0,
    strata: ArrayLike | None = None,
    n_folds: int | None = None,
) -> pd.DataFrame:
    """One-vs-rest AUC of each outcome, and MACRO, their unweighted mean, with group-bootstrap 95 % intervals.

    strata: (n,) over pairs of the same stratum alone, such as the fold that a run was held out in. n_folds: give it
    where probabilities are cross-validated in so many folds; intervals are then those of `stats.cross_validation`.

    outcomes: (n,) of held-out runs; those not in `classes` are dropped. probabilities: method → (n, C), or (R, n, C) of
    R deals of the groups to folds, with strata (R, n).
    Returns columns method, outcome, n_runs, auc, low, high.

    See also: `OutcomeClassifier`.

    >>> last, classifier = runs.last, detectors.outcome
    >>> said = {"all": classifier.predict_proba(last)}
    >>> table = tk.judging.outcome_auc(last["outcome"], said, classifier.classes_, last["group_id"], n_boot=200)
    >>> table[["outcome", "n_runs", "auc", "low", "high"]].round(2)
                 outcome  n_runs   auc   low  high
    0              macro     388  0.76  0.70  0.81
    1      hallucination      91  0.82  0.71  0.89
    2  reasoning_failure      64  0.71  0.62  0.80
    3            success     233  0.76  0.68  0.82
    """
    import pandas as pd

    labels = np.asarray(outcomes, dtype=str)
    keep = np.isin(labels, list(classes))
    labels, draws = labels[keep], group_draws(np.asarray(groups)[keep], n_boot, seed)
    is_it = [(labels == name).astype(float) for name in classes]
    among = np.zeros((1, len(labels)), int) if strata is None else np.atleast_2d(np.asarray(strata))[:, keep]
    table = []
    for method, values in probabilities.items():
        proba = np.asarray(values, dtype=float)
        if proba.shape[-2:] != (len(keep), len(classes)) or proba.ndim > 3:
            raise InputError(
                f"the probabilities of {method!r} must be (n, {len(classes)}), or (R, n, {len(classes)}) of R deals; "
                f"got {proba.shape}."
            )
        deals = proba.reshape(-1, *proba.shape[-2:])[:, keep]
        strata_of = np.broadcast_to(among[: len(deals)], deals.shape[:2])
        areas = np.stack(
            [
                [auc_within(mine, p, stratum, draws) for mine, p in zip(is_it, deal.T, strict=True)]
                for deal, stratum in zip(deals, strata_of, strict=True)
            ]
        )  # (R, C, B)
        for name, area in [(MACRO, areas.mean(axis=1)), *zip(classes, areas.swapaxes(0, 1), strict=True)]:
            value, low, high = interval(refitted(area, n_folds, (0, 1)) if n_folds else area.mean(axis=0))
            n = len(labels) if name == MACRO else int((labels == name).sum())
            table.append({"method": method, "outcome": name, "n_runs": n, "auc": value, "low": low, "high": high})
    return pd.DataFrame(table)


def abstention(outcomes: ArrayLike, decisions: ArrayLike) -> pd.DataFrame:
    """What the classifier answered on held-out runs, for ALL and by outcome: columns outcome n_runs answered error.

    answered: share not abstained on. error: share wrong among the answered; NaN where none was.
    """
    import pandas as pd

    labels, said = np.asarray(outcomes, dtype=str), np.asarray(decisions, dtype=str)
    table = []
    compared = told_apart(labels)
    for name in [ALL, *sorted(set(labels[compared]))]:
        mine = compared if name == ALL else labels == name
        answered = mine & (said != "abstain")
        table.append(
            {
                "outcome": name,
                "n_runs": int(mine.sum()),
                "answered": float(answered.sum() / mine.sum()) if mine.any() else math.nan,
                "error": float((said[answered] != labels[answered]).mean()) if answered.any() else math.nan,
            }
        )
    return pd.DataFrame(table)


def _auc_table(
    frame: pd.DataFrame, scores: Mapping[str, ArrayLike], selected: Sequence[Selection], n_boot: int, seed: int
) -> pd.DataFrame:
    """A row per method and selection of rows (one row per run each)."""
    import pandas as pd

    failed, groups = failures(frame), frame["group_id"].astype(str).to_numpy()
    columns = {method: np.asarray(score, dtype=float) for method, score in scores.items()}
    for method, score in columns.items():
        if score.shape != (len(frame),):
            raise InputError(f"the scores of {method!r} must be one per row, {len(frame)}; got shape {score.shape}.")
    table = []
    for selection in selected:
        rows = selection.rows[~np.isnan(failed[selection.rows])]
        draws = group_draws(groups[rows], n_boot, seed)
        for method, score in columns.items():
            known = ~np.isnan(score[rows])
            y = failed[rows][known]
            value, low, high = interval(weighted_auc(y, score[rows][known], draws.of(known)))
            counts = {"n_runs": len(rows), "n_failures": int(failed[rows].sum()), "n_scored": int(known.sum())}
            table.append({"method": method, **selection.columns, **counts, "auc": value, "low": low, "high": high})
    empty = ["method", "n_runs", "n_failures", "n_scored", "auc", "low", "high"]
    return pd.DataFrame(table, columns=None if table else empty).sort_values("method", kind="stable", ignore_index=True)
