"""What a monitor did on held-out runs: false alarms, power, tokens saved.

Intervals (95 %) of what is promised are exact (`promise.of_new_groups`); the others resample whole groups. Where the
resamples agree, as when no run or every run was alarmed, that says nothing of chance: the interval is then exact too
(Clopper and Pearson's), of as many trials as there are groups, so that several runs of a group tell no more than one.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trajkit.detection.alarm import alarm_rows
from trajkit.detection.calibration import drawn_runs
from trajkit.detection.monitor import Monitor
from trajkit.detection.sources import require_runs
from trajkit.detection.splits import failures
from trajkit.errors import InputError
from trajkit.judging.promise import PromiseCheck, check_promise, of_new_groups, turned
from trajkit.judging.ranking import ALL
from trajkit.stats.resampling import MIN_GROUPS, clopper_pearson, group_draws, interval, weighted_mean, weighted_median

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.drift import DriftState

MIN_MEDIAN_GROUPS = 6
"""Of fewer independent values even the smallest and the largest do not enclose the median in 95 % of samples."""

NEW_GROUP, ALL_RUNS = "new group", "all runs"
"""The rows of `false_alarms`, in its column `unit`."""
ALL_FAILING, ALARMED_FAILING, ALARMED_SUCCESSFUL = "all failing", "alarmed failing", "alarmed successful"
"""The rows of `tokens_saved`, in its column `runs`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Replay:
    """What a monitor did on held-out runs, with 95 % intervals by group, and whether it kept its promise there.

    Of a monitor that watches success, a false alarm is one on a failing run, and the tables have failing and successful
    runs the other way round.

    check: whether the promise was kept, in words, so that no rate stands without it.
    drift: of the scores, over one run of each group, drawn and in an order drawn, since that of saved runs may tell how
        they went; None for a monitor that does not know the maxima of its calibration.
    runs: of `monitor_runs`: transcript_id group_id task_set outcome failure n_steps n_tokens max_risk alarmed
        alarm_step saved.
    false_alarms: a row for NEW_GROUP and one for ALL_RUNS: unit n k rate low high alpha.
    false_alarms_by_length: from_step to_step n k rate low high.
    power: failing runs that were alarmed, for `ranking.ALL` and by outcome: outcome n k rate low high
        median_alarm_step.
    tokens_saved: ALL_FAILING, ALARMED_FAILING, ALARMED_SUCCESSFUL: runs n median low high mean.

    See also: `replay`.

    >>> found = tk.judging.replay(monitor, frame, n_boot=200)
    >>> found.power[["outcome", "n", "rate", "low", "high"]].round(2)
                 outcome    n  rate   low  high
    0                all  163  0.25  0.16  0.35
    1            failure    8  0.38  0.06  0.81
    2      hallucination   91  0.26  0.12  0.41
    3  reasoning_failure   64  0.22  0.12  0.33
    """

    check: PromiseCheck
    drift: DriftState | None
    runs: pd.DataFrame
    false_alarms: pd.DataFrame
    false_alarms_by_length: pd.DataFrame
    power: pd.DataFrame
    tokens_saved: pd.DataFrame

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.runs):,} runs: {self.check.message})"

    def _repr_html_(self) -> str:
        from trajkit.notebook.results import replay_html

        return replay_html(self)


def replay(
    monitor: Monitor, frame: pd.DataFrame, n_boot: int = 500, seed: int = 0, seen: Collection[str] = ()
) -> Replay:
    """The monitor over every run of a feature frame, and what is to be said of it. Raises as `monitor_runs`.

    seen: group_ids that the predictor was fitted on or the monitor calibrated on; whether the promise is kept is told
    without them.

    See also: `Replay`, `monitor_runs`, `fit_detectors`.

    >>> found = tk.judging.replay(monitor, frame, n_boot=200)
    >>> print(found.check.message)
    Whether the promise is kept cannot be told from these runs: 6.0 % (3.0–10.7 %) of ...
    """
    runs = monitor_runs(monitor, frame)
    told = turned(runs, monitor.watches)
    return Replay(
        check=check_promise(runs, monitor, seen),
        drift=_drift(monitor, runs[~runs["group_id"].isin(list(seen))], seed),
        runs=runs,
        false_alarms=false_alarms(told, monitor.alpha, n_boot, seed),
        false_alarms_by_length=false_alarms_by_length(told, n_boot=n_boot, seed=seed),
        power=power(told, n_boot, seed),
        tokens_saved=tokens_saved(told, n_boot, seed),
    )


def _drift(monitor: Monitor, runs: pd.DataFrame, seed: int) -> DriftState | None:
    if monitor.calibration is None or not monitor.calibration.maxima:
        return None
    drawn = drawn_runs(runs, seed)["max_risk"].to_numpy(float)  # large groups first, mostly
    in_order = drawn[np.random.default_rng([seed, 1]).permutation(len(drawn))]
    drift = monitor.watchdog()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said with the rest
        for most in in_order.tolist():
            drift.update(most)
    return drift.state


def monitor_runs(monitor: Monitor, frame: pd.DataFrame) -> pd.DataFrame:
    """The monitor over every run of a feature frame, or of a table of scores of your own as `score_frame` lays it out,
    where a step counts as a token; a row per run, sorted by transcript_id.

    Columns: transcript_id group_id task_set outcome failure (1, 0, NaN) n_steps n_tokens (of the thinking span)
    max_risk alarmed alarm_step (0: no alarm) saved (share of the thinking tokens after the alarm; 0: no alarm).
    Raises InputError as `run_maxima`.

    See also: `replay`, `judging.false_alarms`, `power`.

    >>> watched = tk.judging.monitor_runs(monitor, frame)
    >>> watched[["transcript_id", "failure", "max_risk", "alarmed", "alarm_step"]].round(2).head(3)
        transcript_id  failure  max_risk  alarmed  alarm_step
    0  test-1-00000-0      1.0      1.00     True           2
    1  test-1-00000-1      0.0      0.74    False           0
    2  test-1-00000-2      1.0      0.79     True          21
    """
    import pandas as pd

    if not hasattr(monitor, "scores"):
        held = " Detectors hold one: detectors.monitor." if hasattr(monitor, "monitor") else ""
        raise InputError(f"monitor_runs takes a Monitor, then a frame; got {type(monitor).__name__}.{held}")
    require_runs(frame, "monitor_runs")
    data = pd.DataFrame(
        {
            "transcript_id": frame["transcript_id"].astype(str).to_numpy(),
            "group_id": frame["group_id"].astype(str).to_numpy(),
            "task_set": frame["task_set"].astype(str).to_numpy() if "task_set" in frame else "",
            "outcome": frame["outcome"].astype(str).to_numpy() if "outcome" in frame else "unknown",
            "failure": failures(frame),
            "step": frame["step"].to_numpy(int),
            "n_tokens": frame["n_tokens" if "n_tokens" in frame else "step"].to_numpy(float),
            "risk": monitor.scores(frame),
        }
    ).sort_values(["transcript_id", "step"], ignore_index=True)
    runs = data.groupby("transcript_id").agg(
        group_id=("group_id", "first"),
        task_set=("task_set", "first"),
        outcome=("outcome", "first"),
        failure=("failure", "first"),
        n_steps=("step", "max"),
        n_tokens=("n_tokens", "max"),
        max_risk=("risk", "max"),
    )
    starts = np.flatnonzero(~data["transcript_id"].duplicated())
    at = alarm_rows(data["risk"], monitor.threshold, starts)
    runs["alarmed"] = at >= 0
    runs["alarm_step"] = np.where(at >= 0, data["step"].to_numpy()[at], 0)
    used = np.where(at >= 0, data["n_tokens"].to_numpy()[at], runs["n_tokens"])
    runs["saved"] = (1 - used / runs["n_tokens"].where(runs["n_tokens"] > 0)).fillna(0.0)
    return runs.reset_index()


def false_alarms(runs: pd.DataFrame, alpha: float, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """Realised false-alarm rate on successful runs, in two rows.

    NEW_GROUP, what alpha is promised of: P(alarm | success) of a run drawn at random from a group drawn at random, so
    that each group counts by the share of its runs that succeed (`of_new_groups`). ALL_RUNS: the share of all
    successful runs, whatever groups they come from; it is another quantity where some groups have more runs than
    others, and of few groups either row tells little. Columns: unit n (groups, runs) k rate low high alpha.

    runs: as `monitor_runs` gives them, all of them: failed and unknown ones count among the runs of their group.

    See also: `judging.false_alarms_by_length`, `power`, `plots.false_alarms`.

    >>> tk.judging.false_alarms(watched, alpha=0.1, n_boot=200)[["unit", "n", "rate", "low", "high"]].round(2)
            unit    n  rate   low  high
    0  new group   55  0.06  0.03  0.11
    1   all runs  233  0.06  0.03  0.10
    """
    import pandas as pd

    good = runs[runs["failure"] == 0]
    values = good["alarmed"].to_numpy(float)
    n, rate, low, high = of_new_groups(runs)
    promised = {"unit": NEW_GROUP, "n": n, "k": rate * n if n else 0.0, "rate": rate, "low": low, "high": high}
    pooled = {"unit": ALL_RUNS, "n": len(values), "k": float(values.sum())}
    pooled |= _share(values, good["group_id"].to_numpy(str), n_boot, seed)._asdict()
    return pd.DataFrame([promised, pooled]).assign(alpha=alpha)


def false_alarms_by_length(runs: pd.DataFrame, n_bins: int = 4, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """False-alarm rate of successful runs by quantile bin of n_steps: columns from_step to_step n k rate low high.

    See also: `judging.false_alarms`, `plots.false_alarms`.

    >>> table = tk.judging.false_alarms_by_length(watched, n_bins=2, n_boot=200)
    >>> table[["from_step", "to_step", "n", "rate"]].round(2)
       from_step  to_step    n  rate
    0          6       22  125  0.04
    1         23       77  108  0.08
    """
    import pandas as pd

    good = runs[runs["failure"] == 0]
    steps = good["n_steps"].to_numpy(int)
    if not len(steps):
        return pd.DataFrame(columns=["from_step", "to_step", "n", "k", "rate", "low", "high"])
    edges = np.unique(np.quantile(steps, np.linspace(0, 1, n_bins + 1)[1:], method="inverted_cdf").astype(int))
    bins = np.searchsorted(edges, steps)
    table = []
    for b in np.unique(bins):
        here = good[bins == b]
        values = here["alarmed"].to_numpy(float)
        span = {"from_step": int(here["n_steps"].min()), "to_step": int(here["n_steps"].max())}
        rate = _share(values, here["group_id"].to_numpy(str), n_boot, seed)
        table.append(span | {"n": len(here), "k": int(values.sum())} | rate._asdict())
    return pd.DataFrame(table)


def power(runs: pd.DataFrame, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """Share of failing runs alarmed, for ALL and by outcome: columns outcome n k rate low high median_alarm_step.

    See also: `judging.false_alarms`, `tokens_saved`.

    >>> table = tk.judging.power(watched, n_boot=200)
    >>> table[["outcome", "n", "rate", "median_alarm_step"]].round(2)
                 outcome    n  rate  median_alarm_step
    0                all  163  0.25               14.0
    1            failure    8  0.38                9.0
    2      hallucination   91  0.26               11.0
    3  reasoning_failure   64  0.22               15.5
    """
    import pandas as pd

    table = []
    for name, bad in _failing(runs):
        values = bad["alarmed"].to_numpy(float)
        rate = _share(values, bad["group_id"].to_numpy(str), n_boot, seed)
        when = bad.loc[bad["alarmed"], "alarm_step"]
        median = float(when.median()) if len(when) else float("nan")
        table.append(
            {"outcome": name, "n": len(bad), "k": int(values.sum())} | rate._asdict() | {"median_alarm_step": median}
        )
    return pd.DataFrame(table)


def tokens_saved(runs: pd.DataFrame, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """Share of thinking tokens saved by stopping at the alarm: columns runs n median low high mean.

    Rows: ALL_FAILING (no alarm saves 0), ALARMED_FAILING, and ALARMED_SUCCESSFUL, whose share is the work lost.
    low and high are NaN with fewer than MIN_MEDIAN_GROUPS groups.

    See also: `power`, `SavedRuns`.

    >>> tk.judging.tokens_saved(watched, n_boot=200)[["runs", "n", "median", "mean"]].round(2)
                     runs    n  median  mean
    0         all failing  163    0.00  0.13
    1     alarmed failing   41    0.52  0.51
    2  alarmed successful   14    0.70  0.69
    """
    import pandas as pd

    bad, good = runs[runs["failure"] == 1], runs[runs["failure"] == 0]
    table = []
    for name, part in [
        (ALL_FAILING, bad),
        (ALARMED_FAILING, bad[bad["alarmed"]]),
        (ALARMED_SUCCESSFUL, good[good["alarmed"]]),
    ]:
        saved, groups = part["saved"].to_numpy(float), part["group_id"].to_numpy(str)
        median, low, high = interval(weighted_median(saved, group_draws(groups, n_boot, seed, min_groups=1)))
        if len(np.unique(groups)) < MIN_MEDIAN_GROUPS:
            low = high = float("nan")
        mean = float(saved.mean()) if len(saved) else float("nan")
        table.append({"runs": name, "n": len(part), "median": median, "low": low, "high": high, "mean": mean})
    return pd.DataFrame(table)


def _failing(runs: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame]]:
    bad = runs[runs["failure"] == 1]
    return [(ALL, bad), *((str(name), part) for name, part in bad.groupby("outcome"))]


class _Share(NamedTuple):
    rate: float
    low: float
    high: float


def _share(values: Any, groups: Any, n_boot: int, seed: int) -> _Share:
    """With its interval: of draws of groups; exact, as of so many trials as there are groups, where fewer than
    MIN_GROUPS of them were alarmed, or not, so that what groups have in common is not known."""
    value, low, high = interval(weighted_mean(values, group_draws(groups, n_boot, seed, min_groups=1)))
    sides = [len(np.unique(groups[side])) for side in (values > 0, values == 0)]
    if min(sides) < MIN_GROUPS or not low < high:
        n = len(np.unique(groups))
        low, high = clopper_pearson(value * n, n)
    return _Share(value, low, high)
