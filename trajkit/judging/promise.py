"""Whether a monitor kept its promise on labelled runs: kept, not told, or broken."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from trajkit.detection.calibration import SPARED_WORD, Watches
from trajkit.detection.guarantee import chance_of_alarms, threshold_rank
from trajkit.stats.resampling import MIN_GROUPS, clopper_pearson
from trajkit.tables import Estimate
from trajkit.tables.words import count, promise, share, shares

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.monitor import Monitor

BROKEN = 0.025
"""A replay whose false alarms are less likely than that, were the promise kept, breaks it."""


@dataclass(frozen=True)
class PromiseCheck:
    """What a replay says of a monitor's promise.

    kept: `kept` where all of the interval is at most alpha; `broken` where so many false alarms have a chance under
    BROKEN if the runs are like those of the calibration; else `not told`. rate, low, high: false alarms of a new run of
    a new group with their 95 % interval, in [0, 1], NaN without a run that is to be spared. chance: see
    `chance_of_alarms`. n: groups with such a run. calibrated_on: groups behind the threshold. left_out: runs of groups
    that the detectors were made from, which say nothing here. pooled: share alarmed of all `of` runs of the replay that
    are to be spared, whatever groups they come from: another quantity. watches: as the monitor's.
    """

    kept: Literal["kept", "not told", "broken"]
    rate: float
    low: float
    high: float
    alpha: float
    chance: float
    n: int
    calibrated_on: int
    left_out: int = 0
    can_alarm: bool = True
    pooled: float = math.nan
    of: int = 0
    watches: Watches = "failure"

    @property
    def message(self) -> str:
        """The result in words, for a person."""
        out = self._pooled
        if self.left_out:
            are, do = ("is", "does") if self.left_out == 1 else ("are", "do")
            out += (
                f" {count(self.left_out, 'run')} {are} of groups that the detectors were made from and {do} not count "
                "here."
            )
        if not self.can_alarm:
            return f"This monitor cannot alarm, so its promise is kept and worth nothing.{out}"
        if not self.n:
            ended = "succeeded" if self.watches == "failure" else "failed"
            return f"Whether the promise is kept cannot be told: no run of a group new to the detectors {ended}.{out}"
        rate = shares(Estimate(self.rate, self.low, self.high), self.alpha)
        found = (
            f"{rate} of {self._alarmed}, for a new run of a new "
            f"group ({count(self.n, 'group')}), and {promise(self.alpha)} at most are promised"
        )
        if self.kept == "kept":
            return f"The promise is kept on these runs: {found}.{out}"
        if self.kept == "not told":
            why = "it takes more groups"
            if self.low > self.alpha:
                why = f"a threshold from {count(self.calibrated_on, 'group')} may be so far off by chance"
            return f"Whether the promise is kept cannot be told from these runs: {found}; {why}.{out}"
        odds = "less than 0.1 %" if self.chance < 0.001 else share(self.chance)
        return (
            f"THE PROMISE IS BROKEN on these runs: {found}; were it kept, so many would have a chance of {odds}. "
            "They are not like the runs of the calibration (other tasks, settings, images or model). Do not trust "
            f"alarms on such runs; collect some, and fit detectors on them.{out}"
        )

    @property
    def _alarmed(self) -> str:
        said = "were alarmed" if self.watches == "failure" else "were called good enough"
        return f"{SPARED_WORD[self.watches]} runs {said}"

    @property
    def _pooled(self) -> str:
        """A sentence where the runs of the replay, pooled, were alarmed more often than is promised of a new group, and
        what is said of new groups does not say it already."""
        told = max(self.alpha, self.rate if self.n else 0.0) + 1e-9
        if self.kept == "broken" or not self.pooled > told:
            return ""
        return (
            f" Pooled, {share(self.pooled, self.alpha)} of the {self.of:,} {self._alarmed} in this replay, more than "
            f"{promise(self.alpha)}: that is another quantity, which nothing bounds, as groups of many runs, and those "
            "the detectors were made from, count in it by their runs. Do not take the promise for one of these runs."
        )


def check_promise(runs: pd.DataFrame, monitor: Monitor, seen: Collection[str] = ()) -> PromiseCheck:
    """Hold a replay against the monitor's promise.

    runs: as `monitor_runs` gives them, all of them. seen: group_ids that the predictor was fitted on or the monitor
    calibrated on; their runs are left out. The chance counts the runs of a group as one, and counts the draw of the
    calibration too: a threshold from few runs is uncertain, so that a rate above alpha alone breaks no promise.
    """
    runs = turned(runs, monitor.watches)
    new, good = runs[~runs["group_id"].isin(list(seen))], runs[runs["failure"] == 0]
    found, trials = of_new_groups(new), effective_groups(new)
    rank = threshold_rank(monitor.n, monitor.alpha, monitor.delta)
    alarmed = math.floor(found.rate * trials + 1e-9) if found.n else 0
    chance = chance_of_alarms(monitor.n, rank, trials, alarmed)
    kept: Literal["kept", "not told", "broken"] = "not told"
    if not monitor.can_alarm or found.high <= monitor.alpha:
        kept = "kept"
    elif chance < BROKEN and found.rate > monitor.alpha:
        kept = "broken"
    return PromiseCheck(
        kept,
        found.rate,
        found.low,
        found.high,
        monitor.alpha,
        chance,
        found.n,
        monitor.n,
        len(runs) - len(new),
        monitor.can_alarm,
        float(good["alarmed"].mean()) if len(good) else math.nan,
        len(good),
        monitor.watches,
    )


def turned(runs: pd.DataFrame, watches: Watches) -> pd.DataFrame:
    """The runs with `failure` 0 where the monitor is to spare them, and 1 where it is to alarm."""
    return runs if watches == "failure" else runs.assign(failure=1 - runs["failure"])


class NewGroups(NamedTuple):
    """False alarms of a new run of a new group. n: groups with a successful run. rate: NaN without one."""

    n: int
    rate: float
    low: float
    high: float


def of_new_groups(runs: pd.DataFrame) -> NewGroups:
    """P(alarm | success) of a run drawn from a group drawn at random, with a 95 % interval.

    Σ a_g / Σ s_g over the groups, s_g the share of a group's runs that succeeded and a_g the share that did and were
    alarmed. The interval is exact (`clopper_pearson`), of as many trials as have the variance of this ratio over
    groups, with a factor for its being estimated (Korn & Graubard 1998, Survey Methodology 24). Where fewer than
    MIN_GROUPS groups were alarmed, or not, that variance is not known: then of `effective_groups` trials, as if the
    runs of a group were all alike.
    """
    from scipy.stats import norm, t

    shares = _shares_by_group(runs)
    n = len(shares)
    rate = float(shares["alarmed"].sum() / shares["succeeded"].sum()) if n else float("nan")
    trials = effective_groups(runs)
    alarmed = shares["alarmed"] > 0
    if min(alarmed.sum(), (~alarmed).sum()) >= MIN_GROUPS:
        error = shares["alarmed"] - rate * shares["succeeded"]
        variance = float((error**2).sum() * n / (n - 1) / shares["succeeded"].sum() ** 2)
        trials = int(rate * (1 - rate) / variance * (norm.ppf(0.975) / t.ppf(0.975, n - 1)) ** 2)
    low, high = clopper_pearson(rate * trials, trials) if n else (float("nan"), float("nan"))
    return NewGroups(n, rate, low, high)


def effective_groups(runs: pd.DataFrame) -> int:
    """(Σ s_g)² / Σ s_g², rounded down: how many groups that succeed alike tell as much (Kish 1965, Survey Sampling)."""
    weight = _shares_by_group(runs)["succeeded"].to_numpy(float)
    return int(weight.sum() ** 2 / (weight**2).sum() + 1e-9) if len(weight) else 0


def _shares_by_group(runs: pd.DataFrame) -> pd.DataFrame:
    """succeeded, alarmed: the shares of each group's runs that succeeded, and that did and were alarmed."""
    good = runs["failure"] == 0
    table = runs.assign(succeeded=good.astype(float), alarmed=(good & runs["alarmed"]).astype(float))
    shares = table.groupby("group_id")[["succeeded", "alarmed"]].mean()
    return shares[shares["succeeded"] > 0]
