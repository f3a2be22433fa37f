"""Whose false alarms are promised, a new run of a new group's, and whether a replay kept the promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest

from trajkit.detection import EarlyFailurePredictor, Monitor, confident_threshold, max_score_threshold
from trajkit.detection.calibration import drawn_runs, spared
from trajkit.judging import false_alarms
from trajkit.judging.promise import PromiseCheck, check_promise, effective_groups, of_new_groups, turned

GROUPS, PER_GROUP, REPEATS = 120, 6, 200
Rule = Callable[[pd.DataFrame, int], pd.DataFrame]


@dataclass(frozen=True)
class World:
    """hard: +1 where hard groups run longer and look riskier also when they succeed, −1 where easy ones do. ties: risks
    of two digits. unknown: the outcomes of hard groups are found out less often."""

    hard: int = 1
    ties: bool = False
    unknown: bool = False


def _population(rng: np.random.Generator, n_groups: int, per_group: int, world: World) -> pd.DataFrame:
    """Runs as `run_maxima` gives them; max_score is the maximum over the 1 to 20 steps of a run."""
    hardness = np.repeat(rng.normal(0, 2, n_groups), per_group)
    failed = rng.random(len(hardness)) < 1 / (1 + np.exp(-hardness))
    steps = rng.poisson(3 * np.exp(world.hard * hardness / 4), len(hardness)).clip(0, 19) + 1
    level = world.hard * hardness + rng.normal(0, 1, len(hardness)) + 2 * failed
    noise = rng.normal(size=(len(hardness), 20))
    noise[np.arange(20) >= steps[:, None]] = -np.inf
    risk = 1 / (1 + np.exp(-(level + noise.max(axis=1)) / 2))
    failure = failed.astype(float)
    if world.unknown:
        failure[rng.random(len(hardness)) < 1 / (1 + np.exp(1 - hardness))] = np.nan
    return pd.DataFrame(
        {
            "transcript_id": [f"r{i:06d}" for i in range(len(hardness))],
            "group_id": np.repeat([f"g{i:05d}" for i in range(n_groups)], per_group),
            "failure": failure,
            "max_score": risk.round(2) if world.ties else risk,
        }
    )


def _among_successes(runs: pd.DataFrame, seed: int) -> pd.DataFrame:
    good = runs[runs["failure"] == 0]
    return good.iloc[np.random.default_rng(seed).permutation(len(good))].drop_duplicates("group_id")


def _drawn_successes(runs: pd.DataFrame, seed: int) -> pd.DataFrame:
    return spared(drawn_runs(runs, seed))


@cache
def _drawn(rule: Rule, world: World) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sorted maxima of new runs of new groups that succeed, and those that REPEATS calibrations drew."""
    rng = np.random.default_rng(7)
    new = _population(rng, 60_000, 1, world)
    drawn = [rule(_population(rng, GROUPS, PER_GROUP, world), seed) for seed in range(REPEATS)]
    return np.sort(new.loc[new["failure"] == 0, "max_score"]), [runs["max_score"].to_numpy(float) for runs in drawn]


def _rates(rule: Rule, threshold: Callable[[np.ndarray], float], world: World) -> np.ndarray:
    """(REPEATS,) share of the new runs that is alarmed, each by a calibration of its own."""
    new, drawn = _drawn(rule, world)
    return np.array([1 - np.searchsorted(new, threshold(maxima), "right") / len(new) for maxima in drawn])


WORLDS = [World(1), World(-1), World(-1, ties=True), World(-1, unknown=True)]


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_new_run_of_a_new_group_is_alarmed_at_most_at_alpha_however_unlike_groups_are(world: World) -> None:
    rates = _rates(_drawn_successes, lambda maxima: max_score_threshold(maxima, 0.1), world)
    assert rates.mean() <= 0.1 + 3 * rates.std() / np.sqrt(len(rates))
    assert rates.mean() > 0.07  # and it does not buy that by hardly alarming


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_the_confident_monitor_of_unlike_groups_keeps_its_rate_in_all_but_delta_of_calibrations(world: World) -> None:
    rates = _rates(_drawn_successes, lambda maxima: confident_threshold(maxima, 0.1, 0.2), world)
    assert (rates > 0.1).mean() <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / len(rates))


def test_drawing_among_the_successes_of_each_group_would_break_the_promise() -> None:
    rates = _rates(_among_successes, lambda maxima: max_score_threshold(maxima, 0.1), World(-1))
    assert rates.mean() > 0.12


def test_the_drawn_run_is_kept_only_if_it_succeeded() -> None:
    runs = _population(np.random.default_rng(0), 300, 4, World(unknown=True))
    drawn = _drawn_successes(runs, seed=3)
    assert drawn["group_id"].is_unique
    assert (drawn["failure"] == 0).all()
    with_success = runs.loc[runs["failure"] == 0, "group_id"].nunique()
    share = (runs["failure"] == 0).mean()  # of groups that stay: of one run each
    assert len(drawn) < 0.8 * with_success
    assert abs(len(drawn) / 300 - share) < 3 * np.sqrt(share * (1 - share) / 300)


# Whether a replay kept it


def _monitor(n: int, alpha: float = 0.1, threshold: float = 0.5, delta: float | None = None) -> Monitor:
    """A monitor calibrated on n groups; nothing here asks its predictor."""
    return Monitor(EarlyFailurePredictor(), threshold, alpha, n, 0.0, 1.0, delta=delta)


def _replay(alarms: list[list[bool | None]]) -> pd.DataFrame:
    """Groups of runs: True a false alarm, False a success without alarm, None a run that failed."""
    rows = [(f"g{i}", 1.0 if run is None else 0.0, bool(run)) for i, group in enumerate(alarms) for run in group]
    return pd.DataFrame(rows, columns=["group_id", "failure", "alarmed"])


def test_the_rate_of_a_new_group_counts_each_group_by_its_share_of_successes() -> None:
    runs = _replay([[True, None, None, None], [False] * 4, [False] * 12])
    found = of_new_groups(runs)
    assert (found.n, found.rate) == (3, pytest.approx(0.25 / 2.25))
    pooled = false_alarms(runs, 0.1, n_boot=20).set_index("unit")
    assert pooled.loc["new group", "rate"] == found.rate
    assert pooled.loc["all runs", "rate"] == 1 / 17
    assert effective_groups(runs) == 2  # 2.25² / 2.0625
    assert np.isnan(of_new_groups(_replay([[None]])).rate)


def test_the_interval_of_a_new_group_holds_the_rate_however_alike_the_runs_of_a_group_are() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(300):
        hard = rng.random(30) < 0.4  # fails in 3 runs of 4; its successes are alarmed, all or none
        alarmed = rng.random(30) < np.where(hard, 0.6, 0.1)
        groups = [
            [bool(alarm) if rng.random() < (0.25 if difficult else 1.0) else None for _ in range(4)]
            for difficult, alarm in zip(hard, alarmed, strict=True)
        ]
        found = of_new_groups(_replay(groups))
        truth = (0.4 * 0.25 * 0.6 + 0.6 * 0.1) / (0.4 * 0.25 + 0.6)
        missed += not found.low <= truth <= found.high
    assert missed / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_the_interval_of_many_groups_whose_runs_differ_is_no_wider_than_need_be() -> None:
    rng = np.random.default_rng(6)
    missed, width = 0, []
    for _ in range(200):
        chance = rng.beta(1, 7, 120)  # mean 1/8; runs of a group are somewhat alike
        found = of_new_groups(_replay([[bool(run) for run in rng.random(5) < p] for p in chance]))
        missed += not found.low <= 1 / 8 <= found.high
        width.append(found.high - found.low)
    assert missed / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(width) < 0.08  # 0.12 for as many runs as groups


def test_a_replay_with_far_too_many_false_alarms_breaks_the_promise_in_words() -> None:
    check = check_promise(_replay([[True]] * 42 + [[False]] * 58), _monitor(90))
    assert check.kept == "broken"
    assert "THE PROMISE IS BROKEN" in check.message
    assert "42 % (32–53 %) of successful runs were alarmed" in check.message
    assert "10 % at most are promised" in check.message


def test_a_replay_of_many_groups_with_few_false_alarms_keeps_it() -> None:
    check = check_promise(_replay([[True]] * 5 + [[False]] * 195), _monitor(90))
    assert (check.kept, check.n) == ("kept", 200)
    assert check.message.startswith("The promise is kept on these runs: 2.5 %")


@pytest.mark.parametrize(
    ("alarms", "why"),
    [
        ([[True] * 50, [False] * 50], "it takes more groups"),  # two groups, however many runs
        ([[True]] * 3 + [[False]] * 17, "it takes more groups"),
        ([[False]] * 9, "it takes more groups"),
        ([[True]] * 40 + [[False]] * 120, "a threshold from 9 groups"),
        ([[None]], "no run of a group new to the detectors succeeded"),
    ],
)
def test_what_too_few_groups_say_is_not_told(alarms: list[list[bool | None]], why: str) -> None:
    check = check_promise(_replay(alarms), _monitor(9))
    assert check.kept == "not told"
    assert why in check.message


def test_runs_of_groups_that_the_detectors_were_made_from_do_not_count() -> None:
    runs = _replay([[True]] * 42 + [[False]] * 58)
    fitted = [f"g{i}" for i in range(42)]
    check = check_promise(runs, _monitor(90), seen=fitted)
    assert (check.rate, check.n, check.left_out) == (0.0, 58, 42)
    assert "42 runs are of groups that the detectors were made from" in check.message
    assert check_promise(runs, _monitor(90), seen=runs["group_id"]).kept == "not told"


def test_one_group_is_no_groups_in_words() -> None:
    one = check_promise(_replay([[False] * 3, [True]]), _monitor(1), seen=["g1"])
    assert "1 group)" in one.message
    assert "1 run is of groups that the detectors were made from and does not count here." in one.message
    assert "a threshold from 1 group may" in check_promise(_replay([[True]] * 20), _monitor(1, 0.5)).message
    assert "needs at least 1 group (" in _monitor(0, 0.5, np.inf).message
    assert "there was 1." in _monitor(1, 0.1, np.inf).message


def test_a_monitor_that_cannot_alarm_keeps_a_promise_worth_nothing() -> None:
    check = check_promise(_replay([[False]] * 5), _monitor(3, threshold=np.inf))
    assert check.kept == "kept"
    assert "worth nothing" in check.message


def test_runs_pooled_over_few_groups_that_are_alarmed_too_often_are_said_to_be_of_no_promise() -> None:
    """42 % of the runs, nearly all of one hard group, where a new run of a new group is alarmed in 1 of 50."""
    runs = _replay([[True] * 36] + [[False]] * 49)
    check = check_promise(runs, _monitor(90))
    assert check.rate == pytest.approx(0.02)
    assert "Pooled, 42 % of 85 successful runs of this replay were alarmed, more than 10 %" in check.message
    assert "Do not take the promise for one of these runs." in check.message
    assert "Pooled" not in check_promise(_replay([[True]] * 42 + [[False]] * 58), _monitor(90)).message
    assert "Pooled" not in check_promise(_replay([[False]] * 90), _monitor(90)).message


def test_runs_that_the_detectors_were_made_from_are_no_excuse_for_many_alarms() -> None:
    """As `trajkit monitor --all` replays them."""
    runs = _replay([[True]] * 42 + [[False]] * 58)
    message = check_promise(runs, _monitor(90), seen=runs["group_id"]).message
    assert message.startswith("Whether the promise is kept cannot be told: no run of a group new to the detectors")
    assert "Pooled, 42 % of 100 successful runs of this replay were alarmed" in message


def test_of_a_monitor_of_success_the_failing_runs_are_promised() -> None:
    rows = [(f"g{i}", float(i % 2), i % 2 == 0 or i < 84) for i in range(200)]  # 42 of 100 failing runs are alarmed
    runs = pd.DataFrame(rows, columns=["group_id", "failure", "alarmed"])
    check = check_promise(runs, replace(_monitor(90), watches="success"))
    assert (check.kept, check.n, check.rate) == ("broken", 100, 0.42)
    assert "42 % (32–53 %) of failing runs were alarmed" in check.message
    assert turned(runs, "success")["failure"].tolist() == [1.0, 0.0] * 100


@pytest.mark.parametrize("delta", [None, 0.2])
def test_a_promise_that_is_kept_is_seldom_called_broken(delta: float | None) -> None:
    """Over calibrations and replays of the same population, some calibrations being on few groups."""
    rng = np.random.default_rng(3)
    broken = 0
    for i in range(400):
        n, new = (25, 40)[i % 2], 60
        rule = max_score_threshold if delta is None else partial(confident_threshold, delta=delta)
        tau = rule(rng.random(n), 0.1)
        alarms = [[bool(run) for run in rng.random(2) > tau] for _ in range(new)]
        broken += check_promise(_replay(alarms), _monitor(n, threshold=tau, delta=delta)).kept == "broken"
    assert broken / 400 < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)


def test_rounding_does_not_put_an_interval_within_the_promise() -> None:
    check = PromiseCheck("not told", 0.08, 0.06, 0.1003, 0.1, 0.5, 400, 60)
    assert "8.00 % (6.00–10.03 %) of successful runs were alarmed" in check.message
    assert "(400 groups), and 10 % at most are promised" in check.message
