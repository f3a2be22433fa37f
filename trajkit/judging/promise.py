"""Whether a monitor kept its promise on labelled runs: kept, not told, or broken."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trajkit.detection.guarantee import chance_of_alarms, threshold_rank
from trajkit.judging.alarms import effective_groups, of_new_groups
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
    a new group with their 95 % interval, in [0, 1], NaN without a successful run. chance: see `chance_of_alarms`. n:
    groups with a successful run. calibrated_on: groups behind the threshold. left_out: runs of groups that the
    detectors were made from, which say nothing here.
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

    @property
    def message(self) -> str:
        """The result in words, for a person."""
        out = ""
        if self.left_out:
            are, do = ("is", "does") if self.left_out == 1 else ("are", "do")
            out = (
                f" {count(self.left_out, 'run')} {are} of groups that the detectors were made from and {do} not count "
                "here."
            )
        if not self.can_alarm:
            return f"This monitor cannot alarm, so its promise is kept and worth nothing.{out}"
        if not self.n:
            return f"Whether the promise is kept cannot be told: no run of a group new to the detectors succeeded.{out}"
        rate = shares(Estimate(self.rate, self.low, self.high), self.alpha)
        found = (
            f"{rate} of successful runs were alarmed, for a new run of a new "
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


def check_promise(runs: pd.DataFrame, monitor: Monitor, seen: Collection[str] = ()) -> PromiseCheck:
    """Hold a replay against the monitor's promise.

    runs: as `monitor_runs` gives them, all of them. seen: group_ids that the predictor was fitted on or the monitor
    calibrated on; their runs are left out. The chance counts the runs of a group as one, and counts the draw of the
    calibration too: a threshold from few runs is uncertain, so that a rate above alpha alone breaks no promise.
    """
    new = runs[~runs["group_id"].isin(list(seen))]
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
    )
