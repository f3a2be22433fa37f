"""How often each interval holds the truth: simulated runs of known truth, grouped as real ones are.

    python -m analyses.coverage            # minutes; writes reports/coverage.md
    python -m analyses.coverage --sims 40  # a first look

Every interval of `tk.stats` and of the detection tables, at 95 %, on few and many groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from analyses.common import write
from trajkit.detection.design import FEATURE_SETS
from trajkit.detection.evaluation import outcome_auc, select_steps
from trajkit.detection.held_out import cross_validated
from trajkit.detection.probabilities import (
    average_precision,
    calibration,
    calibration_slope,
    gains,
    matched_auc,
    probability_scores,
)
from trajkit.progress import progress
from trajkit.stats import auc, compare, regress
from trajkit.stats.resampling import auc_within, group_draws, interval, weighted_mean, weighted_median, wilson

SHIFT = 0.7
"""How far the scores of failing runs lie above those of successful ones, in sd of a run."""
TRUE_AUC = float(norm.cdf(SHIFT / 2**0.5))
N_BOOT = 400
PER_GROUP = 4
Case = tuple[str, str, float, Callable[[np.random.Generator, int], tuple[float, float]]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=300, help="simulated data sets behind each number")
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 20, 50, 200])
    parser.add_argument("--out", type=Path, default=Path("reports/coverage.md"))
    args = parser.parse_args(argv)
    rows = []
    cases = list(all_cases())
    worlds = list(WORLDS)
    with progress("coverage", total=len(cases) + len(worlds)) as bar:
        for name, of, truth, draw in cases:
            row = {"interval": name, "of": of, "truth": f"{truth:.3f}"}
            for n_groups in args.groups:
                held = [low <= truth <= high for low, high in draws(draw, args.sims, n_groups)]
                row[f"{n_groups} groups"] = share_held(held, args.sims)
            rows.append(row)
            bar.advance(name)
        for world in worlds:
            rows += refitted_rows(world, args.sims, args.groups)
            bar.advance(world)
    head = (
        "# Coverage\n\nRegenerate: `python -m analyses.coverage`. Share of 95 % intervals that hold the truth, over "
        f"{args.sims} simulated data sets each, with the interval that chance gives it. Runs come {PER_GROUP} to "
        "a group and share half of their variance with it, unless rows are said to be independent. n: the data sets "
        "that had an interval, where not all did."
    )
    write(args.out, head, rows, _READING)


def share_held(held: Sequence[bool], sims: int) -> str:
    if not len(held):
        return "–"
    low, high = wilson(sum(held), len(held))
    return f"{np.mean(held):.3f} ({low:.3f}–{high:.3f})" + (f", n = {len(held)}" if len(held) < sims else "")


def draws(
    draw: Callable[[np.random.Generator, int], tuple[float, float]], sims: int, n_groups: int
) -> Iterator[tuple[float, float]]:
    for seed in range(sims):
        low, high = draw(np.random.default_rng([n_groups, seed]), n_groups)
        if np.isfinite(low) and np.isfinite(high):
            yield low, high


def all_cases() -> Iterator[Case]:
    """(interval, of what, truth, how to draw one)."""
    yield "tk.stats.auc, DeLong", "independent rows", TRUE_AUC, lambda rng, n: ends(auc(*independent(rng, n)))
    yield "tk.stats.auc, DeLong", "grouped rows (wrong use)", TRUE_AUC, lambda rng, n: ends(auc(*grouped(rng, n)[:2]))
    yield (
        "tk.stats.auc, group bootstrap",
        "grouped rows",
        TRUE_AUC,
        lambda rng, n: ends(auc(*grouped(rng, n), n_boot=N_BOOT)),
    )
    yield "tk.stats.auc, group bootstrap", "12 groups fail, in half of their runs", TRUE_AUC, rare
    yield "tk.stats.compare, Cliff's δ (the AUC, rescaled)", "grouped rows", 2 * TRUE_AUC - 1, delta
    yield "detection, AUC within strata", "grouped rows, five folds", TRUE_AUC, within
    yield "tk.stats.regress, cluster", "coefficient", SHIFT, lambda rng, n: coefficient(rng, n, "cluster")
    yield "tk.stats.regress, mixed", "coefficient", SHIFT, lambda rng, n: coefficient(rng, n, "mixed")
    yield "detection, AUC gain (paired)", "against a noisier score", TRUE_AUC - NOISY_AUC, gain
    yield "detection, Brier score", "true probabilities", 1 / 6, brier
    yield "detection, average precision", "grouped rows", true_precision(), precision
    yield "detection, calibration", "highest of four bins: risk less share", 0.0, highest_bin
    yield "detection, AUC of outcomes", "macro, three outcomes", TRUE_AUC, macro
    yield "detection, mean", "share in grouped runs", 0.3, share
    yield "detection, median", "grouped rows", 0.0, median


def ends(found: object) -> tuple[float, float]:
    return found.low, found.high  # type: ignore[attr-defined]


def labels_of(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(group, failed) of PER_GROUP runs a group; groups differ in how often they fail."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    hard = rng.normal(size=n_groups)[group]
    return group, (hard + rng.normal(size=len(group)) > 0.3).astype(float)


def independent(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    y = (rng.random(n_groups * PER_GROUP) < 0.4).astype(float)
    return y, rng.normal(size=len(y)) + SHIFT * y


def grouped(rng: np.random.Generator, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that share half of their variance within a group."""
    group, y = labels_of(rng, n_groups)
    score = (rng.normal(size=n_groups)[group] + rng.normal(size=len(y))) / 2**0.5
    return y, score + SHIFT * y, group


def rare(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    y = ((group < 12) & (np.arange(len(group)) % 2 == 0)).astype(float)
    score = (rng.normal(size=n_groups)[group] + rng.normal(size=len(y))) / 2**0.5
    return ends(auc(y, score + SHIFT * y, group, n_boot=N_BOOT))


NOISY_AUC = float(norm.cdf(SHIFT / 2))  # the same shift under twice the variance


def gain(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    y, score, group = grouped(rng, n_groups)
    noisier = score + rng.normal(size=len(y))
    frame = pd.DataFrame({"group_id": group, "step": 1, "success": y == 0, "outcome": "unknown"})
    row = gains(frame, score, noisier, select_steps(frame, [1]), np.zeros(len(y)), N_BOOT).iloc[0]
    return float(row["low"]), float(row["high"])


def brier(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """Risks uniform on [0, 1], shared by a group, and true: the score is ∫ p (1 − p) dp = 1/6."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    risk = rng.random(n_groups)[group]
    y = rng.random(len(group)) < risk
    frame, one = pd.DataFrame({"group_id": group, "step": 1, "success": ~y, "outcome": "unknown"}), np.zeros(len(y))
    table = probability_scores(frame, {"risk": risk}, select_steps(frame, [1]), one, N_BOOT).set_index("method")
    return float(table.loc["risk", "brier_low"]), float(table.loc["risk", "brier_high"])  # type: ignore[arg-type]


def true_precision() -> float:
    """Average precision of `grouped` with runs without end: the mean precision over recall."""
    score = np.linspace(-8, 8 + SHIFT, 20001)
    failed = float(norm.sf(0.3 / 2**0.5))
    recall, alarms = norm.sf(score - SHIFT), norm.sf(score)
    return float(-np.trapezoid(failed * recall / (failed * recall + (1 - failed) * alarms), recall))


def precision(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    y, score, group = grouped(rng, n_groups)
    return interval(average_precision(y, score, np.zeros(len(y), int), group_draws(group, N_BOOT, 0)))[1:]


def highest_bin(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """True risks, so that the share that failed differs from the mean risk of a bin by chance alone."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    risk = rng.random(n_groups)[group]
    y = rng.random(len(group)) < risk
    frame = pd.DataFrame({"group_id": group, "step": 1, "success": ~y, "outcome": "unknown"})
    row = calibration(frame, risk, select_steps(frame, [1]), bins=4, n_boot=N_BOOT).iloc[-1]
    return float(row["off_low"]), float(row["off_high"])


def macro(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """Each outcome's score lies SHIFT higher where it is the outcome, half of its variance shared by the group."""
    group, failed = labels_of(rng, n_groups)
    outcome = np.where(failed == 1, 1 + (rng.random(len(group)) < 0.5), 0)
    score = (rng.normal(size=(n_groups, 3))[group] + rng.normal(size=(len(group), 3))) / 2**0.5
    score += SHIFT * (outcome[:, None] == np.arange(3))
    names = ["success", "hallucination", "reasoning_failure"]
    table = outcome_auc(np.array(names)[outcome], {"scores": score}, names, group, N_BOOT)
    row = table[table["outcome"] == "macro"].iloc[0]
    return float(row["low"]), float(row["high"])


def within(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    y, score, group = grouped(rng, n_groups)
    return interval(auc_within(y, score, group % 5, group_draws(group, N_BOOT, 0)))[1:]


def delta(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    y, score, group = grouped(rng, n_groups)
    df = pd.DataFrame({"outcome": np.where(y == 1, "a", "b"), "x": score, "group_id": group})
    row = compare(df, "x", n_resamples=10, n_boot=N_BOOT).iloc[0]
    return float(row["delta_low"]), float(row["delta_high"])


def coefficient(rng: np.random.Generator, n_groups: int, kind: str) -> tuple[float, float]:
    """Length depends on the outcome, and the metric on both."""
    y, score, group = grouped(rng, n_groups)
    tokens = np.exp(3 + 0.4 * rng.normal(size=len(y)) + 0.5 * y)
    df = pd.DataFrame({"outcome": np.where(y == 1, "failure", "success"), "n_tokens": tokens, "group_id": group})
    df["x"] = score + np.log1p(tokens)
    row = regress(df, "x", covariates=("n_tokens",), kind=kind).iloc[0]  # type: ignore[arg-type]
    return float(row["low"]), float(row["high"])


def share(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """A group's rate is drawn from Beta(1.5, 3.5), whose mean is 0.3."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    y = (rng.random(len(group)) < rng.beta(1.5, 3.5, n_groups)[group]).astype(float)
    return interval(weighted_mean(y, group_draws(group, N_BOOT, 0)))[1:]


def median(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    _, score, group = grouped(rng, n_groups)
    x = (rng.normal(size=n_groups)[group] + rng.normal(size=len(score))) / 2**0.5
    return interval(weighted_median(x, group_draws(group, N_BOOT, 0)))[1:]


WORLDS = {"features tell nothing": 0.0, "features tell": 0.6}
FIGURES = ("AUC", "gain in AUC of six features that tell nothing", "average precision", "Brier score", "slope")


def refitted_rows(world: str, sims: int, groups: Sequence[int]) -> list[dict[str, str]]:
    """A row a figure of cross-validated EarlyFailurePredictors, and one of held-out rows alone; from 50 groups on.

    The truth is the mean of the figure over data sets, but for an AUC and a gain of features that tell nothing.
    """
    rows: dict[str, dict[str, str]] = {}
    for n_groups in [n for n in groups if n >= 50]:
        found = np.array(
            [refitted_figures(WORLDS[world], seed, n_groups) for seed in range(sims)]
        )  # (sims, figures, 3)
        truth = np.nanmean(found[:, :, 0], axis=0)
        if WORLDS[world] == 0:
            truth[[0, 1, -1]] = 0.5, 0.0, 0.5
        for j, name in enumerate([*(f"cross-validated, {figure}" for figure in FIGURES), "the same AUC, rows alone"]):
            known = np.isfinite(found[:, j]).all(axis=1)
            held = (found[known, j, 1] <= truth[j]) & (truth[j] <= found[known, j, 2])
            row = rows.setdefault(name, {"interval": name, "of": world} | {f"{n} groups": "–" for n in groups})
            row["truth"] = f"{truth[j]:.3f}"  # of models fitted on as many groups
            row[f"{n_groups} groups"] = share_held(held, sims)
    return list(rows.values())


def refitted_figures(shift: float, seed: int, n_groups: int) -> list[tuple[float, float, float]]:
    """(value, low, high) of each figure on one data set of runs of one step."""
    rng = np.random.default_rng([n_groups, seed])
    group, y = labels_of(rng, n_groups)
    names = [name for sets in ("uncertainty", "trajectory") for name in FEATURE_SETS[sets]]
    x = (rng.normal(size=(n_groups, len(names)))[group] + rng.normal(size=(len(y), len(names)))) / 2**0.5
    x[:, :2] += shift * y[:, None]  # uncertainty; the trajectory tells nothing
    frame = pd.DataFrame(np.exp(x / 3), columns=names)
    runs = {"group_id": group.astype(str), "step": 1, "success": y == 0, "outcome": "unknown"}
    frame = frame.assign(transcript_id=np.arange(len(y)).astype(str), **runs)
    found = cross_validated(frame, ("uncertainty", "trajectory+uncertainty"))
    (less, more), folds = found.risks.values(), found.folds
    at, asked = select_steps(frame, [1]), {"n_boot": N_BOOT // 2, "n_folds": found.n_folds}
    area = matched_auc(frame, {"risk": more}, at, folds, **asked).iloc[0]
    gained = gains(frame, more, less, at, folds, **asked).iloc[0]
    scores = probability_scores(frame, {"risk": more}, at, folds, **asked).set_index("method").loc["risk"]
    slope = calibration_slope(frame, more, at, **asked).iloc[0]
    alone = matched_auc(frame, {"risk": more[0]}, at, folds[0], N_BOOT // 2).iloc[0]
    return [
        *((row[name], row["low"], row["high"]) for row, name in ((area, "auc"), (gained, "gain"))),
        *((scores[name], scores[f"{name}_low"], scores[f"{name}_high"]) for name in ("average_precision", "brier")),
        *((row[name], row["low"], row["high"]) for row, name in ((slope, "slope"), (alone, "auc"))),
    ]


_READING = """
95 % is promised. Percentile bootstraps over groups fall short where groups are few, average precision most, and come to
it as they grow. There is no interval with fewer than 10 groups of each class, so at 10 groups in all an AUC has none.
DeLong's interval on grouped rows is the mistake that `groups=` is there for. Cross-validated figures are of five folds
in five deals, predictors fitted anew in each; their intervals are those of `trajkit.stats.cross_validation`, and those
of held-out rows alone, in the last row of each world, are the mistake that it is there for. The truth of a figure that
depends on how many groups a model is fitted on is its mean over data sets, shown for the most groups.
"""


if __name__ == "__main__":
    main()
