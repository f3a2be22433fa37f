"""How often each interval holds the truth: simulated runs of known truth, grouped as real ones are.

    python -m analyses.coverage            # a quarter of an hour; writes reports/coverage.md
    python -m analyses.coverage --sims 40  # a first look

Every interval of `tk.stats` and of the detection tables, at 95 %, on few and many groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from analyses.common import write
from analyses.refitted import WORLDS, refitted_rows
from analyses.simulated import PER_GROUP, labels_of, share_held
from trajkit.attribution.evaluation import score_measured
from trajkit.attribution.measure import MeasuredRun
from trajkit.attribution.verdict import conclude
from trajkit.errors import InputError
from trajkit.judging.ranking import outcome_auc, select_steps
from trajkit.judging.risks import average_precision, calibration, gains, probability_scores
from trajkit.progress import progress
from trajkit.stats import auc, regress
from trajkit.stats.resampling import auc_within, group_draws, interval, weighted_mean, weighted_median
from trajkit.tables import Across, Table, words

SHIFT = 0.7
"""How far the scores of failing runs lie above those of successful ones, in sd of a run."""
TRUE_AUC = float(norm.cdf(SHIFT / 2**0.5))
N_BOOT = 400
SIMS = 200
Case = tuple[str, str, float, Callable[[np.random.Generator, int], tuple[float, float]]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=SIMS, help="simulated data sets behind each number")
    parser.add_argument("--refitted", type=int, default=100, help="the same behind each cross-validated figure")
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 20, 50, 150])
    parser.add_argument("--out", type=Path, default=Path("reports/coverage.md"))
    args = parser.parse_args(argv)
    rows = []
    cases = list(all_cases())
    worlds = list(WORLDS)
    with progress("coverage", total=len(cases) + len(worlds)) as bar:
        for name, of, truth, draw in cases:
            for n_groups in args.groups:
                held = [low <= truth <= high for low, high in draws(draw, args.sims, n_groups)]
                row = {"interval": name, "of": of, "truth": truth, "groups": n_groups}
                rows.append(row | share_held(held, args.sims))
            bar.advance(name)
        for world in worlds:
            rows += refitted_rows(world, args.refitted, args.groups, N_BOOT // 2)
            bar.advance(world)
    few = "" if args.sims == SIMS else f" --sims {args.sims}"
    head = (
        f"# Coverage\n\nRegenerate: `python -m analyses.coverage{few}`. Share of 95 % intervals that hold the truth, "
        f"over {args.sims} simulated data sets each ({args.refitted} for cross-validated figures), "
        f"with the interval that chance gives it. Runs come {PER_GROUP} to "
        "a group and share half of their variance with it, unless rows are said to be independent. Where not all "
        "data sets had an interval, a cell says of how many it is."
    )
    write(args.out, head, table_of_held(rows), _READING)


def table_of_held(rows: list[dict[str, Any]]) -> Table:
    """Intervals down, numbers of groups across."""
    across = Across("groups", "held", "{} groups".format, counts=("n", "sims"))
    headings = {name: name for name in ("interval", "of", "truth")}
    return Table(pd.DataFrame(rows), headings, {"truth": words.fine, "held": words.figure}, across=across)


def draws(
    draw: Callable[[np.random.Generator, int], tuple[float, float]], sims: int, n_groups: int
) -> Iterator[tuple[float, float]]:
    for seed in range(sims):
        try:
            low, high = draw(np.random.default_rng([n_groups, seed]), n_groups)
        except InputError:  # too few groups of a level
            continue
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
    yield "detection, AUC within strata", "grouped rows, five folds", TRUE_AUC, within
    yield "detection, AUC within strata", "few pairs, groups of several strata, no difference", 0.5, few_pairs
    yield "tk.stats.regress, cluster", "coefficient", SHIFT, lambda rng, n: coefficient(rng, n, "cluster")
    yield "tk.stats.regress, cluster", "coefficient of a level in 10 groups, no difference", 0.0, rare_level
    yield "tk.stats.regress, mixed", "coefficient", SHIFT, lambda rng, n: coefficient(rng, n, "mixed")
    yield "detection, AUC gain (paired)", "against a noisier score", TRUE_AUC - NOISY_AUC, gain
    yield "detection, Brier score", "true probabilities", 1 / 6, brier
    yield "detection, average precision", "grouped rows", true_precision(), precision
    yield "detection, calibration", "highest of four bins: risk less share", 0.0, highest_bin
    yield "detection, AUC of outcomes", "macro, three outcomes", TRUE_AUC, macro
    yield "detection, mean", "share in grouped runs", 0.3, share
    yield "share at or near its edge", "2.5 groups on average, in units of a group", 2.5, rare_share
    yield "AUC at or near its edge", "a run a group, half of them fail", NEAR_EDGE, near_edge
    yield "trajkit evaluate, verdict", "equal methods are called so", 0.0, verdict
    yield "detection, median", "grouped rows", 0.0, median


def ends(found: object) -> tuple[float, float]:
    return found.low, found.high  # type: ignore[attr-defined]


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


def few_pairs(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """Runs matched on one of so many lengths that a handful of pairs is left, often all in order by chance."""
    group, y = labels_of(rng, n_groups)
    length = rng.integers(0, 5 * n_groups**2, len(y))
    return interval(auc_within(y, rng.normal(size=len(y)), length, group_draws(group, N_BOOT, 0)))[1:]


def coefficient(rng: np.random.Generator, n_groups: int, kind: str) -> tuple[float, float]:
    """Length depends on the outcome, and the metric on both."""
    y, score, group = grouped(rng, n_groups)
    tokens = np.exp(3 + 0.4 * rng.normal(size=len(y)) + 0.5 * y)
    df = pd.DataFrame({"outcome": np.where(y == 1, "failure", "success"), "n_tokens": tokens, "group_id": group})
    df["x"] = score + np.log1p(tokens)
    row = regress(df, "x", covariates=("n_tokens",), kind=kind).iloc[0]  # type: ignore[arg-type]
    return float(row["low"]), float(row["high"])


def rare_level(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """All runs of ten groups are of the level, which makes no difference."""
    _, score, group = grouped(rng, n_groups)
    y = group < 10
    x = (rng.normal(size=n_groups)[group] + rng.normal(size=len(score))) / 2**0.5
    df = pd.DataFrame({"outcome": np.where(y, "failure", "success"), "group_id": group, "x": x})
    row = regress(df, "x", covariates=()).iloc[0]
    return float(row["low"]), float(row["high"])


def rare_share(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """Groups differ from the others with probability 2.5 / n, in all their runs: none does in one sample of twelve."""
    y = np.repeat(rng.random(n_groups) < 2.5 / n_groups, PER_GROUP)
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    _, low, high = interval(weighted_mean(y, group_draws(group, N_BOOT, 0)))
    return n_groups * low, n_groups * high


NEAR_EDGE = float(norm.cdf(3.0 / 2**0.5))


def near_edge(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    y = np.arange(n_groups) % 2
    return ends(auc(y, rng.normal(size=n_groups) + 3.0 * y, np.arange(n_groups), n_boot=N_BOOT))


def verdict(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """Two methods with the same noise on measured effects, a step a group: (0, 0) where none is called better."""
    scored = []
    for group in range(n_groups):
        single, masks = rng.uniform(0, 2, (8, 1)), rng.random((32, 8)) < 0.5
        features = np.zeros((1, 8, 1), np.float32)
        run = MeasuredRun(f"{group}", "", features, masks, masks @ single, single, np.arange(9))
        hard = rng.normal()
        for name in ("estimator", "raw attention"):
            noise = rng.normal(scale=np.exp(hard / 2), size=(1, 8))
            scored.append(score_measured(name, run, single.T + noise))
    wrong = float(conclude(scored, n_boot=0).kind != "no better")
    return wrong, wrong


def share(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    """A group's rate is drawn from Beta(1.5, 3.5), whose mean is 0.3."""
    group = np.repeat(np.arange(n_groups), PER_GROUP)
    y = (rng.random(len(group)) < rng.beta(1.5, 3.5, n_groups)[group]).astype(float)
    return interval(weighted_mean(y, group_draws(group, N_BOOT, 0)))[1:]


def median(rng: np.random.Generator, n_groups: int) -> tuple[float, float]:
    _, score, group = grouped(rng, n_groups)
    x = (rng.normal(size=n_groups)[group] + rng.normal(size=len(score))) / 2**0.5
    return interval(weighted_median(x, group_draws(group, N_BOOT, 0)))[1:]


_READING = """
95 % is promised. Percentile bootstraps over groups fall short where groups are few, average precision most, and come to
it as they grow. There is no interval with fewer than 10 groups of each class, so at 10 groups in all an AUC has none,
unless it is 0 or 1, which have an exact bound; next to the edge an interval of resampled groups is too narrow. DeLong's
interval on grouped rows is the mistake that `groups=` is there for. The verdict is right where it calls two equal
methods equal, in 95 % of evaluations or more. Cross-validated figures are of five folds in five deals, predictors
fitted anew in each; their intervals are those of `trajkit.stats.cross_validation`, and those of held-out rows alone, in
the last row of each world, are the mistake that it is there for. The truth of a figure that depends on how many groups
a model is fitted on is its mean over data sets, shown for the most groups.
"""


if __name__ == "__main__":
    main()
