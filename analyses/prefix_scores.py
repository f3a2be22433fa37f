"""Does a score of the whole prefix catch more failing runs than the running maximum of the risk, at the same promise?

    python -m analyses.prefix_scores              # a minute; writes reports/prefix_scores.md
    python -m analyses.prefix_scores --splits 4   # a first look

On the demo's runs, dealt anew by scene to fit, calibration and test: sums, CUSUMs and density ratios of the risks so
far, each with a threshold by the monitor's rule, and density ratios also as e-processes with Ville's threshold 1/α, as
E-valuator does (Sadhuka et al. 2025, arXiv 2512.03109).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.linear_model import LogisticRegression

import trajkit as tk
from analyses.common import write
from trajkit.demo import paths
from trajkit.detection import EarlyFailurePredictor, group_folds, max_score_threshold, split_by_group
from trajkit.detection.calibration import drawn_runs, spared
from trajkit.detection.splits import failures
from trajkit.judging.promise import of_new_groups
from trajkit.progress import progress
from trajkit.tables import Estimate, Table, words

ALPHA = 0.1
SPLITS = 20
RISK, RATIO, PRODUCT = "risk now", "density ratio, learned", "density ratio, product over steps"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Runs:
    """Some runs of a split. frame: a row a run: transcript_id group_id failure. odds: (R, T) log-odds of failure after
    each step, NaN after the end."""

    frame: pd.DataFrame
    odds: Floats

    @classmethod
    def of(cls, frame: pd.DataFrame, risks: Floats) -> Runs:
        """frame: prefix features, the steps of a run in order. risks: (n,) of its rows."""
        runs = frame.drop_duplicates("transcript_id")
        odds = np.full((len(runs), int(frame["step"].max())), np.nan)
        row = frame["transcript_id"].map(dict(zip(runs["transcript_id"], range(len(runs)), strict=True)))
        odds[row.to_numpy(int), frame["step"].to_numpy(int) - 1] = np.log(risks) - np.log1p(-risks)
        return cls(runs[["transcript_id", "group_id"]].assign(failure=failures(runs)).reset_index(drop=True), odds)


@dataclass(frozen=True, eq=False)
class Learned:
    """What the fit part says of log-odds by step. usual, wrong: (T,) their means in successful and failing runs, the
    last for every later step. variance: within both. ratio: (coefficients, intercept) of the learned density ratio,
    on `_history`."""

    usual: Floats
    wrong: Floats
    variance: float
    ratio: tuple[Floats, float]

    @classmethod
    def from_runs(cls, runs: Runs, least: int = 30) -> Learned:
        """least: runs of either kind behind the mean of a step; later steps count as the last that has so many."""
        failed = runs.frame["failure"].to_numpy() == 1
        sides = [runs.odds[~failed], runs.odds[failed]]
        horizon = min(int((np.isfinite(side).sum(axis=0) >= least).sum()) for side in sides)
        usual, wrong = (np.nanmean(side[:, :horizon], axis=0) for side in sides)
        variance = float(np.mean([np.nanvar(side) for side in sides]))
        here = np.isfinite(runs.odds)
        x, y = _history(runs.odds)[here], np.broadcast_to(failed[:, None], here.shape)[here]
        spread = x.std(axis=0)
        model = LogisticRegression(C=0.1, max_iter=1000).fit(x / spread, y)
        prior = np.log(failed.mean()) - np.log1p(-failed.mean())
        return cls(usual, wrong, variance, (model.coef_[0] / spread, float(model.intercept_[0] - prior)))


def prefix_scores(odds: Floats, learned: Learned) -> dict[str, Floats]:
    """(R, T) each score of the prefix up to each step; NaN after the end. Density ratios are logarithms."""
    at = np.minimum(np.arange(odds.shape[1]), len(learned.usual) - 1)
    usual, wrong = learned.usual[at], learned.wrong[at]
    excess = odds - (usual + wrong) / 2
    number = np.arange(1, odds.shape[1] + 1)
    coefficients, intercept = learned.ratio
    return {
        RISK: odds,
        "mean log-odds so far": np.cumsum(odds, axis=1) / number,
        "sum of log-odds above the usual": np.cumsum(excess, axis=1),
        "CUSUM of log-odds above the usual": cusum(excess),
        RATIO: _history(odds) @ coefficients + intercept,
        PRODUCT: np.cumsum((wrong - usual) * excess / learned.variance, axis=1),
    }


def cusum(excess: Floats) -> Floats:
    """(R, T) the sum so far from wherever it was lowest: max(0, sum before) + what the step adds."""
    found = excess.copy()
    for step in range(1, excess.shape[1]):
        found[:, step] += np.maximum(found[:, step - 1], 0)
    return found


def _history(odds: Floats) -> Floats:
    """(R, T, F) what is known after each step: log-odds now, largest, mean and before, by themselves and by how far the
    run has come."""
    number = np.arange(1, odds.shape[1] + 1)
    before = np.concatenate([odds[:, :1], odds[:, :-1]], axis=1)
    told = np.stack([odds, np.maximum.accumulate(odds, axis=1), np.cumsum(odds, axis=1) / number, before], axis=-1)
    far = np.broadcast_to(np.log(number)[:, None], (*odds.shape, 1))
    return np.concatenate([told, told * far, far, far**2], axis=-1)


def splits(frame: pd.DataFrame, seed: int) -> tuple[Learned, Runs, Runs]:
    """One deal of the scenes: what the fit part taught, and the calibration and test runs.

    Prefix scores are learned on risks of runs that their predictor was not fitted on (five folds by scene)."""
    deal = split_by_group(frame, seed=seed)
    fit, calibration, test = (deal.rows(frame, part) for part in ("fit", "calibration", "test"))
    failed = failures(fit).astype(int)
    crossed = np.empty(len(fit))
    for train, other in group_folds(failed, fit["group_id"], seed=seed):
        crossed[other] = EarlyFailurePredictor().fit(fit.iloc[train], failed[train]).risks(fit.iloc[other])
    predictor = EarlyFailurePredictor().fit(fit, failed)
    learned = Learned.from_runs(Runs.of(fit, crossed))
    return learned, *(Runs.of(part, predictor.risks(part)) for part in (calibration, test))


def judged(frame: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """By one deal, of each score: false alarms of a new run of a new scene, and the share of failing runs alarmed."""
    learned, calibration, test = splits(frame, seed)
    old, new = (prefix_scores(runs.odds, learned) for runs in (calibration, test))
    for name in new:
        maxima = calibration.frame.assign(most=np.nanmax(old[name], axis=1))
        threshold = max_score_threshold(spared(drawn_runs(maxima, seed))["most"], ALPHA)
        yield {"score": name, "threshold": "by the monitor's rule"} | _told(test, new[name], threshold)
    for name in (RATIO, PRODUCT):
        yield {"score": name, "threshold": "1/α (Ville)"} | _told(test, new[name], -np.log(ALPHA))


def _told(runs: Runs, scores: Floats, threshold: float) -> dict[str, float]:
    alarmed = runs.frame.assign(alarmed=np.nanmax(scores, axis=1) > threshold)
    return {
        "false_alarms": of_new_groups(alarmed).rate,
        "power": float(alarmed.loc[alarmed["failure"] == 1, "alarmed"].mean()),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=SPLITS, help="deals of the scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/prefix_scores.md"))
    args = parser.parse_args(argv)
    frame = tk.features(paths.TRACES)
    frame = frame[np.isfinite(failures(frame))].sort_values(["transcript_id", "step"], ignore_index=True)
    rows = []
    with progress("deals", total=args.splits) as bar:
        for seed in range(args.splits):
            rows += [row | {"split": seed} for row in judged(frame, seed)]
            bar.advance("")
    few = "" if args.splits == SPLITS else f" --splits {args.splits}"
    head = (
        f"# Scores of the whole prefix\n\nRegenerate: `python -m analyses.prefix_scores{few}`. "
        f"{frame['transcript_id'].nunique():,} runs of the demo model, {args.splits} deals of their scenes to fit "
        f"(half), calibration and test (a quarter each). {words.promise(ALPHA)} false alarms are promised; a run is "
        "alarmed where the maximum of its score exceeds the threshold. 95 % intervals allow for deals that share "
        "their runs (Nadeau & Bengio 2003)."
    )
    write(args.out, head, table_of(pd.DataFrame(rows)), _READING)


def table_of(rows: pd.DataFrame) -> Table:
    """rows: one a deal, score and threshold."""
    risk = rows[rows["score"] == RISK].set_index("split")["power"]
    told = []
    for (score, threshold), own in rows.groupby(["score", "threshold"], sort=False):
        of = own.set_index("split")
        row = {"score": score, "threshold": threshold}
        row |= {name: over_deals(of[name], least=0.0) for name in ("false_alarms", "power")}
        told.append(row | {"gain": Estimate(np.nan) if score == RISK else over_deals(of["power"] - risk)})
    headings = {
        "score": "score, its maximum so far",
        "threshold": "threshold",
        "false_alarms": "false alarms",
        "power": "failing runs alarmed",
        "gain": "more than by the risk, paired",
    }
    formats = {"false_alarms": partial(words.shares, null=ALPHA), "power": words.shares, "gain": words.difference}
    return Table(pd.DataFrame(told), headings, formats)


def over_deals(values: pd.Series, least: float = -np.inf) -> Estimate:
    """Mean over J deals; variance (1/J + test/train) s², Student's t of J − 1 (Nadeau & Bengio 2003,
    10.1023/A:1024068626366). least: no lower can be."""
    error = float(values.std() * np.sqrt(1 / len(values) + 1 / 3))
    mean, off = float(values.mean()), float(t.ppf(0.975, len(values) - 1)) * error
    return Estimate(mean, max(mean - off, least), mean + off)


_READING = """
A predictor that knows how far a run has come and what its risk rests on gives a density ratio by itself: the odds of a
calibrated probability given the prefix are that ratio, but for a constant, and the monitor's running maximum of the
risk is the maximum of it. What the rows below the first could add is what the history of risks tells beyond the last
of them. No gain is told from none where its interval holds 0, so the risk stays the monitor's score and there is no
switch for another; that there is none is not shown either, as intervals of most leave room for some eight points.
Ville's threshold needs no calibration runs, but holds for a ratio that is known, and an estimated one may break it;
where it holds it gives power away, as a maximum seldom comes near the bound.
"""


if __name__ == "__main__":
    main()
