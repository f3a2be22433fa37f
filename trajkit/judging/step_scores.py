"""How well wrong sentences are told: AUC, gain, calibration, and the first wrong one of a run found; all held out, with
95 % intervals that resample groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trajkit.judging.held_out_sentences import WRONG, HeldOutSteps
from trajkit.judging.ranking import Selection
from trajkit.judging.risks import calibration, gains, matched_auc, probability_scores
from trajkit.stats.cross_validation import refitted
from trajkit.stats.resampling import Draws, Floats, group_draws, interval, numbered, weighted_mean
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

CHANCE = "chance"
BINS = 10
_NAMES = {"n_runs": "n_steps", "n_failures": "n_wrong"}


def step_areas(
    held: HeldOutSteps,
    selected: Sequence[Selection] | None = None,
    within_task: bool = False,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC of each method for each target, over pairs of one fold, and of one family and form with `within_task`.

    selected: by default `held.selections()`. Columns: target, method, sentences, n_steps, n_wrong, auc, low, high;
    targets and methods in the order of `held`.

    See also: `held_out_steps`, `step_gains`.

    >>> table = tk.judging.step_areas(held, n_boot=200)
    >>> readings = table[(table["target"] == "false") & (table["sentences"] == "readings")]
    >>> readings[["method", "n_steps", "n_wrong", "auc", "low", "high"]].round(2).head(3)
             method  n_steps  n_wrong   auc   low  high
    2       effects     5209      272  0.82  0.67  0.93
    6   uncertainty     5209      272  0.90  0.77  0.99
    10         both     5209      272  0.90  0.77  1.00
    """
    import pandas as pd

    strata = strata_of_sentences(held, within_task)
    selected, found = held.selections() if selected is None else selected, []
    for target in held.targets:
        scores = {method: held.score(method, target) for method in held.methods}
        table = matched_auc(_judged(held, target), scores, selected, strata, n_boot, seed, held.n_folds)
        order = {name: i for i, name in enumerate(held.methods)}
        table = table.sort_values("method", key=lambda names: names.map(order), kind="stable")
        found.append(table.assign(target=target))
    columns = ["target", "method", "sentences", *_NAMES.values(), "auc", "low", "high"]
    return pd.concat(found, ignore_index=True).rename(columns=_NAMES)[columns]


def step_gains(
    held: HeldOutSteps,
    better: str = "both",
    than: str = "uncertainty",
    selected: Sequence[Selection] | None = None,
    within_task: bool = False,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """AUC of one method less that of another, paired, for each target; pairs as in `step_areas`.

    selected: by default `held.selections()`. Columns: target, sentences, n_steps, n_wrong, auc, auc_than, gain, low,
    high, p_corrected (Holm over the selections).

    See also: `step_areas`.

    >>> table = tk.judging.step_gains(held, n_boot=200)
    >>> table[table["target"] == "false"][["sentences", "auc", "auc_than", "gain", "low", "high"]].round(2)
                sentences   auc  auc_than  gain   low  high
    0                 all  0.90      0.91 -0.00 -0.03  0.01
    1           confident  0.80      0.80 -0.00 -0.06  0.04
    2            readings  0.89      0.90 -0.00 -0.03  0.01
    3  confident readings  0.77      0.78 -0.01 -0.07  0.05
    """
    import pandas as pd

    strata = strata_of_sentences(held, within_task)
    selected, found = held.selections() if selected is None else selected, []
    for target in held.targets:
        ours, theirs = held.score(better, target), held.score(than, target)
        table = gains(_judged(held, target), ours, theirs, selected, strata, n_boot, seed, held.n_folds)
        found.append(table.assign(target=target))
    columns = ["target", "sentences", *_NAMES.values(), "auc", "auc_than", "gain", "low", "high", "p_corrected"]
    return pd.concat(found, ignore_index=True).rename(columns=_NAMES)[columns]


def step_probabilities(
    held: HeldOutSteps, selected: Sequence[Selection] | None = None, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """How good the chances are as probabilities, of each fitted method and target.

    selected: by default all sentences, the first of `held.selections()`. Columns: target, sentences, method, n_steps,
    n_wrong; average_precision and brier as in `probability_scores`, beside those of the base rate; ece,
    `calibration_error`; each with _low and _high; and ece_noise, what the ece of chances that are right would be with
    so many groups.

    See also: `step_calibration`.

    >>> table = tk.judging.step_probabilities(held, n_boot=200)
    >>> table[table["target"] == "false"][["method", "average_precision", "brier", "ece"]].round(2).head(3)
          method  average_precision  brier   ece
    0  base rate               0.05   0.04   NaN
    1       both               0.62   0.03  0.01
    2    effects               0.33   0.04  0.02
    """
    import pandas as pd

    groups, found = held.frame["group_id"].to_numpy(str), []
    for target in held.targets:
        scores = {method: held.score(method, target) for method in held.chances}
        wrong = held.is_it(target).astype(float)
        for one in held.selections()[:1] if selected is None else selected:
            table = probability_scores(_judged(held, target), scores, [one], held.folds, n_boot, seed, held.n_folds)
            draws, y = group_draws(groups[one.rows], n_boot, seed), wrong[one.rows]
            errors = {name: _errors(y, score[:, one.rows], draws, held.n_folds) for name, score in scores.items()}
            for name in _ERRORS:
                table[name] = [errors[method][name] if method in errors else np.nan for method in table["method"]]
            found.append(table.assign(target=target))
    figures = [f"{name}{end}" for name in ("average_precision", "brier") for end in ("", "_low", "_high")]
    columns = ["target", "sentences", "method", *_NAMES.values(), *figures, *_ERRORS]
    return pd.concat(found, ignore_index=True).rename(columns=_NAMES)[columns]


def calibration_error(y: Floats, risk: Floats, draws: Draws, bins: int = BINS) -> tuple[Floats, Floats]:
    """(B,) expected calibration error: Σ over bins of |Σ (risk − y)| / n, bins of as equal size as ties allow. And
    (B − 1,) what chance alone makes of it: the same of each draw's sums less those of the sample.

    y: (n,) 0 or 1. risk: (n,). In [0, 1]; 0 where each bin's mean risk is its share. Naeini et al. 2015 (AAAI), with
    bins of equal size. Noise only adds to it, to the draws most, so these are moved until their mean is the sample's.
    """
    edges = np.unique(np.quantile(risk, np.arange(1, bins) / bins))
    hot = np.searchsorted(edges, risk, "right")[:, None] == np.arange(len(edges) + 1)
    off, n = draws.sums(hot * (risk - y)[:, None]), draws.sums(np.ones(len(y)))
    error = np.abs(off).sum(axis=1) / n
    error[1:] += error[0] - error[1:].mean()
    return error, np.abs(off[1:] - off[0]).sum(axis=1) / n[1:]


_ERRORS = ("ece", "ece_low", "ece_high", "ece_noise")


def _errors(y: Floats, score: Floats, draws: Draws, n_folds: int) -> dict[str, float]:
    each, noise = zip(*(calibration_error(y, deal, draws) for deal in score), strict=True)
    figures = *interval(refitted(np.stack(each), n_folds, (0, 1))), float(np.mean(noise))
    return dict(zip(_ERRORS, figures, strict=True))


def step_calibration(
    held: HeldOutSteps, method: str = "both", bins: int = BINS, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """The calibration curve of each target, of the first deal: columns target and those of `calibration`.

    See also: `step_probabilities`, `calibration`.

    >>> table = tk.judging.step_calibration(held, bins=10, n_boot=200)
    >>> table[table["target"] == "false"][["n_steps", "risk", "failed", "low", "high"]].round(2).tail(2)
       n_steps  risk  failed   low  high
    8      585  0.04    0.05  0.02  0.11
    9      585  0.37    0.33  0.24  0.43
    """
    import pandas as pd

    tables = [
        calibration(
            _judged(held, target), held.score(method, target)[0], held.selections()[:1], bins, n_boot, seed
        ).assign(target=target)
        for target in held.targets
    ]
    columns = ["target", "n_steps", "risk", "failed", "low", "high", "off", "off_low", "off_high"]
    return pd.concat(tables, ignore_index=True).rename(columns=_NAMES)[columns]


def first_wrong(held: HeldOutSteps, top: Sequence[int] = (1, 3), n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """How often the first wrong sentence of a run is among the `top` likeliest of that run, of ties by their share.

    Of runs with a wrong sentence before which none is left out. Columns: method, top, n_runs, found, low, high; the
    method CHANCE draws sentences of the run at random.

    See also: `held_out_steps`.

    >>> tk.judging.first_wrong(held, n_boot=200).round(2).query("method in ('chance', 'both')")
       method  top  n_runs  found   low  high
    0  chance    1     138   0.04  0.04  0.05
    1  chance    3     138   0.13  0.12  0.14
    6    both    1     138   0.43  0.24  0.59
    7    both    3     138   0.64  0.38  0.85
    """
    import pandas as pd

    run, first = _firsts(held)
    draws = group_draws(held.frame["group_id"].to_numpy(str)[first], n_boot, seed)
    among = {CHANCE: np.zeros((1, len(run)))} | {
        method: np.atleast_2d(held.score(method, held.targets[-1])) for method in held.methods
    }
    table = []
    for method, score in among.items():
        for k in top:
            shares = [weighted_mean(_share_in_top(deal, run, first, k), draws) for deal in score]
            drawn = refitted(np.stack(shares), held.n_folds, (0, 1)) if method in held.chances else shares[0]
            value, low, high = interval(drawn)
            table.append({"method": method, "top": k, "n_runs": len(first), "found": value, "low": low, "high": high})
    return pd.DataFrame(table)


def _firsts(held: HeldOutSteps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) the run of each sentence; and the row of the first wrong one of each run that has one, and is known to."""
    run = numbered(held.frame["transcript_id"]).astype(np.int64)
    step = held.frame["step"].to_numpy(int)
    order = np.lexsort((step, run))
    starts = np.flatnonzero(np.append(True, np.diff(run[order]) != 0))
    place = np.empty(len(run), int)
    place[order] = np.arange(len(run)) - np.repeat(starts, np.diff(np.append(starts, len(run))))
    wrong = order[held.is_it(WRONG)[order]]
    first = wrong[np.append(True, np.diff(run[wrong]) != 0)[: len(wrong)]]
    return run, first[place[first] == step[first] - 1]


def _share_in_top(score: Floats, run: NDArray[np.int64], first: NDArray[np.int64], k: int) -> Floats:
    """(R,) the chance that a run's row `first` is among the k highest of its run, ties in random order."""
    asked = np.full(run.max() + 1, np.nan)
    asked[run[first]] = score[first]
    above = np.bincount(run, score > asked[run], len(asked))[run[first]]
    tied = np.bincount(run, score == asked[run], len(asked))[run[first]]
    return np.clip((k - above) / tied, 0.0, 1.0)


def strata_of_sentences(held: HeldOutSteps, within_task: bool) -> NDArray[np.int64]:
    """(R, n) folds, or folds and tasks, as numbers."""
    task = task_labels(held.frame)
    return np.stack([numbered(task, fold) for fold in held.folds]) if within_task else held.folds


def _judged(held: HeldOutSteps, target: str) -> pd.DataFrame:
    """Sentences in the place of runs, for `risks`: one that is what the target says has failed."""
    return held.frame[["group_id"]].assign(success=~held.is_it(target))
