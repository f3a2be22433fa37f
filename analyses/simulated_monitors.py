"""Simulated runs of known truth under monitors: groups unlike in size and difficulty, runs unlike in length, ties, and
outcomes that are not found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trajkit.detection.calibration import SPARED, Watches, drawn_runs, spared
from trajkit.detection.guarantee import confident_threshold, max_score_threshold

LONGEST = 20
"""Steps of the longest run."""
Floats = NDArray[np.float64]
Draw = Callable[[pd.DataFrame, int, Watches], pd.DataFrame]
"""The runs that count of a calibration, by a seed."""
Rule = Callable[[Floats], float | Floats]
"""(n, LONGEST) scores of the runs that count, −∞ after the end → one threshold, or one of each step."""


@dataclass(frozen=True)
class World:
    """Groups differ in how hard they are, and hard ones have more runs and longer ones. hard: +1 where hard groups look
    riskier also when they succeed, −1 where easy ones do, 0 where scores know nothing of it. digits: scores are rounded
    so. unknown: the outcomes of hard groups are found out less often."""

    hard: int = 0
    digits: int | None = None
    unknown: bool = False

    def __str__(self) -> str:
        looks = {0: "groups look alike", 1: "hard groups look riskier", -1: "easy groups look riskier"}[self.hard]
        ties = "" if self.digits is None else ", half of the scores are ties"
        return looks + ties + (", outcomes of hard groups often unknown" if self.unknown else "")


WORLDS = (World(), World(1), World(-1), World(-1, digits=0), World(-1, unknown=True))


def population(rng: np.random.Generator, n_groups: int, world: World, alone: bool = False) -> pd.DataFrame:
    """Runs of so many groups, one of each with `alone`: group_id failure (1, 0, NaN) n_steps level, of its scores."""
    hardness = rng.normal(0, 1.5, n_groups)
    size = np.ones(n_groups, int) if alone else 1 + np.minimum(rng.poisson(np.exp(hardness / 2)), 9)
    group = np.repeat(np.arange(n_groups), size)
    hardness = hardness[group]
    failed = rng.random(len(group)) < 1 / (1 + np.exp(-hardness))
    failure = failed.astype(float)
    if world.unknown:
        failure[rng.random(len(group)) < 1 / (1 + np.exp(1 - hardness))] = np.nan
    steps = rng.poisson(3 * np.exp(hardness / 4)).clip(0, LONGEST - 1) + 1
    level = world.hard * hardness + rng.normal(size=len(group)) + 2 * failed
    return pd.DataFrame({"group_id": group, "failure": failure, "n_steps": steps, "level": level})


def scores(rng: np.random.Generator, runs: pd.DataFrame, world: World, watches: Watches = "failure") -> Floats:
    """(n, LONGEST) of the steps of each run, −∞ after its end; the larger the nearer to an alarm."""
    found = runs["level"].to_numpy()[:, None] + rng.normal(size=(len(runs), LONGEST))
    found = found if world.digits is None else found.round(world.digits)
    found = found if watches == "failure" else -found
    return np.where(np.arange(LONGEST) < runs["n_steps"].to_numpy()[:, None], found, -np.inf)


def draw_first(runs: pd.DataFrame, seed: int, watches: Watches = "failure") -> pd.DataFrame:
    """The rule: one run of each group, drawn before one looks what came of it."""
    return spared(drawn_runs(runs, seed), watches)


def draw_among_spared(runs: pd.DataFrame, seed: int, watches: Watches = "failure") -> pd.DataFrame:
    """The mistake: one of each group's successes."""
    return drawn_runs(runs[runs["failure"] == SPARED[watches]], seed)


def marginal(alpha: float) -> Rule:
    return lambda steps: max_score_threshold(steps.max(axis=1), alpha)


def confident(alpha: float, delta: float) -> Rule:
    return lambda steps: confident_threshold(steps.max(axis=1), alpha, delta)


def one_rank_low(alpha: float) -> Rule:
    """The mistake: the ⌈(n+1)(1−α)⌉−1-th smallest maximum."""
    return lambda steps: float(np.sort(steps.max(axis=1))[max(int(np.ceil((len(steps) + 1) * (1 - alpha))) - 2, 0)])


def by_step(alpha: float) -> Rule:
    """The mistake: a quantile of the scores of each step, of the runs that have come so far."""

    def rule(steps: Floats) -> Floats:
        here = [column[np.isfinite(column)] for column in steps.T]
        return np.array([np.quantile(one, 1 - alpha, method="higher") if len(one) else np.inf for one in here])

    return rule


def _new(world: World, watches: Watches, n_groups: int) -> Floats:
    """Scores of new runs of new groups that the monitor is to spare."""
    rng = np.random.default_rng(1)
    runs = population(rng, n_groups, world, alone=True)
    return scores(rng, runs[runs["failure"] == SPARED[watches]], world, watches)


@cache
def _new_maxima(world: World, watches: Watches) -> Floats:
    return np.sort(_new(world, watches, 1_000_000).max(axis=1))


@cache
def _new_steps(world: World, watches: Watches) -> Floats:
    return _new(world, watches, 40_000)


def calibrations(n: int, world: World, sims: int, draw: Draw = draw_first, watches: Watches = "failure") -> Floats:
    """(sims, n, LONGEST) scores of the runs that each of so many calibrations counts, n of each."""
    rng = np.random.default_rng([n, world.hard + 1])
    groups = 5 * n + 40  # more than enough: at least three groups in ten count
    parts = []
    for part in np.array_split(np.arange(sims), max(1, sims * groups // 200_000)):
        runs = population(rng, groups * len(part), world)
        counted = draw(runs, int(part[0]), watches).sort_values("group_id")  # groups of many runs are drawn first
        of = counted["group_id"] // groups  # which calibration
        kept = counted[counted.groupby(of).cumcount() < n]
        if len(kept) < n * len(part):
            raise RuntimeError("a simulated calibration has too few groups; draw more.")
        parts.append(scores(rng, kept, world, watches).reshape(len(part), n, LONGEST))
    return np.concatenate(parts)


def false_alarms(
    rule: Rule, n: int, world: World, sims: int, draw: Draw = draw_first, watches: Watches = "failure"
) -> Floats:
    """(sims,) share of the new runs to be spared that is alarmed, each by a calibration of its own."""
    drawn = calibrations(n, world, sims, draw, watches)
    return np.array([alarmed(rule(one), world, watches) for one in drawn])


def alarmed(threshold: float | Floats, world: World, watches: Watches = "failure") -> float:
    """Share of the new runs to be spared that is above a threshold, or above those of each step."""
    if np.ndim(threshold):
        return float((_new_steps(world, watches) > threshold).any(axis=1).mean())
    maxima = _new_maxima(world, watches)
    return 1 - float(np.searchsorted(maxima, threshold, "right")) / len(maxima)
