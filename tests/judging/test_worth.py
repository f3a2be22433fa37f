from __future__ import annotations

import numpy as np
import pytest

from trajkit.judging.policies import Play, majority, random_stops, stop, stops, whole
from trajkit.judging.worth import Worth, at_budget

from .test_policies import saved_of


def test_what_tokens_buy_without_a_monitor():
    budgets = [np.array([[50.0, 0.6], [40.0, 0.5]]), np.array([[150.0, 0.8], [120.0, 0.4]])]
    assert at_budget(np.array([100.0, 80.0]), budgets).tolist() == pytest.approx([0.7, 0.5])  # dearer and worse: unused
    assert at_budget(np.array([25.0, 200.0]), budgets).tolist() == pytest.approx([0.3, 0.5])


def test_the_worth_of_a_policy_is_told_of_failing_and_of_successful_runs():
    rng = np.random.default_rng(0)
    runs = [
        (f"{q:02d}", "x" if right else f"{i}", bool(right), (10, 10), 23.0)
        for q in range(40)
        for i, right in enumerate(rng.random(3) < 0.6)
    ]
    saved, frame = saved_of(runs)
    failing = saved.alarms(1.0 - frame["success"].to_numpy(float), 0.5)
    plays = {
        "none": whole(saved),
        "knows": stop(saved, stops(saved, failing)),
        "chance": stop(saved, random_stops(saved, failing)),
    }
    worth = Worth.of(saved, [whole(saved), majority(saved, 3)])
    table = worth.table(plays).set_index(["policy", "measure"])
    value = table["value"]
    assert value["knows", "saved_failing"] == pytest.approx(1 - 11 / 23)
    assert (value["knows", "saved_successful"], value["knows", "lost"]) == (0, 0)
    assert value["knows", "right_of_answered"] == 1
    assert value["knows", "accuracy"] == value["none", "accuracy"] == saved.right.mean()
    assert value["none", "gain"] == 0
    assert table.loc[("knows", "gain"), "low"] > 0 > table.loc[("chance", "gain"), "high"]
    less = worth.differences(plays, [("knows", "chance"), ("none", "none")]).set_index(["policy", "measure"])
    assert less.loc[("knows less chance", "lost"), "value"] == pytest.approx(-value["chance", "lost"])
    assert less.loc[("knows less chance", "accuracy"), "low"] > 0
    assert less.loc["none less none", "value"].tolist() == [0] * len(less.loc["none less none"])


def test_of_few_groups_no_interval_is_told():
    saved, _ = saved_of()
    table = Worth.of(saved, [whole(saved)]).table({"none": whole(saved)})
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_a_play_of_another_kind_is_measured_alike():
    saved, _ = saved_of()
    free = Play(np.ones(6), np.ones(6), np.zeros(6))
    value = Worth.of(saved, [whole(saved)]).table({"free": free}).set_index("measure")["value"]
    assert (value["gain"], value["mended"], value["lost"], value["saved_failing"]) == (1, 1, 0, 1)
